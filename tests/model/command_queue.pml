// SPDX-License-Identifier: BSD-3-Clause
// Three vCPUs, four commands each (an invalidation, a SYNC, an invalidation, a SYNC), share one
// command queue; each waits at its SYNCs. The engine fetches one by one, submits what it holds
// (group commit: more comes meanwhile), lingers after it released two SYNCs or more, and tells. The
// kernel may fail, having done any part and reporting any count that is no less; then all of the
// guest is invalidated (resync), and if that fails, too, the queue stops with an error until the
// guest acknowledges, and what was not told is fetched again.
//
// How long a linger takes is left open: any time, but not for ever.
//
// coverage    told only when the entry of each command before is gone
// order       an ATC entry that goes in one submission with a TLB entry from before a SYNC is
//             filled again from it
// completion  no state without a way on in which a vCPU still waits
//
// Planted errors: EARLY_SYNC, TRUST_COUNT, ACROSS_KINDS, LOSE_REST.
// The lines that the engine prints are what tests/model/replay_test.cc plays.

#define N 12
#define TLB 0
#define ATC 1
#define SYNC 2
#ifndef FAILURES
#define FAILURES 3
#endif

byte kind[N];
bool stale[N];
byte placed = 0;   // commands in the queue
byte fetched = 0;  // known to the engine
byte told = 0;     // CMDQ_CONS
byte held = 0;     // the first that is not covered
byte taken = 0;    // the first behind what is in the kernel
byte failures = 0;
bool lingering = false;
bool error = false;
byte finished = 0;

inline queue(k) {
  kind[placed] = k;
  stale[placed] = (k != SYNC);
  placed++
}

proctype vcpu(byte first; byte second) {
  byte sync;
  atomic { queue(first) }
  atomic { queue(SYNC); sync = placed }
  told >= sync;
  atomic { queue(second) }
  atomic { queue(SYNC); sync = placed }
  told >= sync;
  atomic { finished++ }
}

active proctype engine() {
  byte i, j, n, part, count;
  bool due, mixed, fence;
loop:
  do
  :: atomic { !error && fetched < placed ->
      if
      :: kind[fetched] == TLB -> printf("fetch tlb %d\n", fetched)
      :: kind[fetched] == ATC -> printf("fetch atc %d\n", fetched)
      :: kind[fetched] == SYNC -> printf("fetch sync %d\n", fetched)
      fi;
      fetched++;
      // A SYNC with nothing before it.
      if
      :: held + 1 == fetched && kind[held] == SYNC -> held = fetched; goto tell
      :: else
      fi
    }
  :: atomic { lingering -> lingering = false }
  :: atomic { error -> error = false; fetched = told; held = told; printf("acknowledge\n"); goto resync }
  :: atomic { !error && !lingering && held < fetched ->
      // Only with a SYNC behind it; then as far as kinds allow.
      due = false; fence = false; taken = held;
      for (i : held .. fetched - 1) { due = due || (kind[i] == SYNC) }
      if
      :: !due -> i = 0
      :: else ->
        mixed = false;
        for (i : held .. fetched - 1) {
          if
          :: !mixed && kind[i] == SYNC -> fence = true; taken = i + 1
#ifdef ACROSS_KINDS
          :: !mixed && kind[i] != SYNC -> taken = i + 1
#else
          :: !mixed && kind[i] != SYNC && (kind[i] == kind[held] || !fence) -> taken = i + 1
          :: !mixed && kind[i] != SYNC && !(kind[i] == kind[held] || !fence) -> mixed = true
#endif
          :: mixed
          fi
        }
        // A run of several kinds ends at its first SYNC.
#ifndef ACROSS_KINDS
        for (i : held .. taken - 1) {
          if
          :: kind[i] != SYNC && kind[i] != kind[held] ->
            for (j : i .. taken - 1) {
              if
              :: kind[j] == SYNC -> taken = j + 1
              :: else
              fi
            }
          :: else
          fi
        }
#endif
        i = 0; j = 0; due = false; mixed = false; fence = false;
        printf("submit\n");
        goto submit
      fi;
      i = 0; due = false
    } 
  :: atomic { finished == 3 -> goto over }
  od;

submit:
#ifdef EARLY_SYNC
  atomic { told = taken; goto check_early };
back:
#endif
  // vCPUs go on while this is in the kernel.
  if
  :: atomic { part = taken; printf("works\n"); goto effect }
  :: atomic { failures < FAILURES ->
      failures++;
      select(part : held .. taken);
      count = part;
      do
      :: count < taken -> count++
      :: break
      od;
      printf("fails %d %d\n", part - held, count - held);
      goto effect
    }
  fi;

effect:
  atomic {
    // In the worst order: ATC entries first, filled again from stale TLB entries that a SYNC
    // separates from them.
    for (j : held .. taken - 1) {
      if
      :: j < part && kind[j] == ATC ->
        fence = false; mixed = false;
        for (i : 0 .. j) {
          n = j - i;
          fence = fence || (kind[n] == SYNC);
          mixed = mixed || (fence && kind[n] == TLB && stale[n])
        }
        stale[j] = mixed
      :: else
      fi
    }
    for (j : held .. taken - 1) {
      if
      :: j < part && kind[j] == TLB -> stale[j] = false
      :: else
      fi
    }
    i = 0; j = 0; n = 0; fence = false; mixed = false;
    if
    :: part == taken && count == 0 -> held = taken
#ifdef TRUST_COUNT
    :: count != 0 -> held = count
#else
    :: count != 0 -> part = 0; count = 0; goto resync
#endif
    :: part != taken && count == 0 -> part = 0; goto resync
    fi;
    part = 0; count = 0;
#ifdef LOSE_REST
    held = fetched;
#endif
    goto tell
  }

resync:
  if
  :: atomic { printf("resync works\n");
      for (i : 0 .. N - 1) { if :: i < placed -> stale[i] = false :: else fi }
      i = 0; held = fetched; goto tell }
  :: atomic { failures < FAILURES -> failures++; printf("resync fails\n"); error = true; taken = 0; goto again }
  fi;

tell:
  atomic {
    n = 0;
    for (i : told .. held) { if :: i < held && kind[i] == SYNC -> n++ :: else fi }
    lingering = (n >= 2);
    // SYNCs right behind what is covered are, too.
    do
    :: held < fetched && kind[held] == SYNC -> held++
    :: else -> break
    od;
    told = held; n = 0; taken = 0;
    for (i : 0 .. N - 1) { if :: i < told -> assert(!stale[i]); kind[i] = TLB :: else fi }
    i = 0
  }
again:
  goto loop;

#ifdef EARLY_SYNC
check_early:
  atomic {
    for (i : 0 .. N - 1) { if :: i < told -> assert(!stale[i]) :: else fi }
    i = 0; goto back
  }
#endif
over:
  skip
}

init {
  atomic { run vcpu(TLB, ATC); run vcpu(TLB, TLB); run vcpu(ATC, TLB) }
}
