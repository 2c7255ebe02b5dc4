// SPDX-License-Identifier: BSD-3-Clause
// The shard of an exitless guest has the VMM arm before it sleeps (engine/doorbell.h). The guest
// writes registers: plainly while its page is writable, by an exit while it is read-only. Bells are
// eventfds, which stay readable until they are drained. The VMM serves the ask and the exit under
// one lock, and may leave an ask unanswered.
//
// no lost wake-up   no state without a way on in which a write is left that the engine has not seen
//
// A sleep of an engine that does not believe it is armed ends by itself.
//
// Planted errors: NO_RECHECK (once armed it sleeps without another look), ASK_IS_ARMED (it sleeps as
// soon as it has asked), RING_FIRST (the VMM says armed before the page is read-only), NO_LOCK
// (it serves an exit while it arms), ARMED_WINS (an armed that a write has overtaken is believed).

#define WRITES 4

byte prod = 0;
byte taken = 0;
bool readonly = false;
bool ask = false;
bool armed = false;
bool rung = false;
bool lock = false;
bool over = false;

active proctype guest() {
  byte n = 0;
  do
  :: n < WRITES ->
     if
     :: atomic { !readonly -> printf("arrive\n"); prod++ }
#ifdef NO_LOCK
     :: atomic { readonly -> skip };
#else
     :: atomic { readonly && !lock -> lock = true };
#endif
        if
        :: atomic { readonly -> readonly = false };
           atomic { printf("arrive\n"); prod++ };
           atomic { printf("signal\n"); rung = true };
        :: atomic { !readonly -> printf("arrive\n"); prod++ }
        fi;
#ifndef NO_LOCK
        atomic { lock = false }
#endif
     fi;
     n++
  :: else -> break
  od
}

active proctype vmm() {
  do
  :: atomic { ask -> ask = false }
  :: atomic { ask && !lock -> ask = false; lock = true };
#ifdef RING_FIRST
     atomic { printf("signal armed\n"); armed = true };
     atomic { readonly = true };
#else
     atomic { readonly = true };
     atomic { printf("signal armed\n"); armed = true };
#endif
     atomic { lock = false }
  :: atomic { over -> break }
  od
}

active proctype shard() {
  bool asked = false;
  bool believes = false;
  bool was_rung, answered;
  byte found;
  do
  :: taken == WRITES -> break
  :: else ->
     // drain
     atomic { printf("drain\n"); was_rung = rung; rung = false };
     atomic { answered = armed; armed = false };
     atomic {
#ifdef ARMED_WINS
       believes = answered || (believes && !was_rung);
#else
       believes = !was_rung && (answered || believes);
#endif
       if
       :: answered -> asked = false
       :: else
       fi;
       if
       :: !believes && !asked -> asked = true; ask = true
       :: else
       fi;
#ifdef ASK_IS_ARMED
       believes = true;
#endif
       was_rung = false
     };
     found = 0;
#ifdef NO_RECHECK
     if
     :: answered -> skip
     :: else -> atomic { printf("look\n"); found = prod - taken; taken = prod }
     fi;
#else
     atomic { printf("look\n"); found = prod - taken; taken = prod };
#endif
     answered = false;
     if
     :: found > 0 -> skip
     :: found == 0 && believes -> atomic { rung || armed -> printf("wake\n") }
     :: found == 0 && !believes -> skip
     fi
  od;
  over = true
}
