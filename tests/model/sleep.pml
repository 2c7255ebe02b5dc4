// SPDX-License-Identifier: BSD-3-Clause
// A shard goes to sleep while work arrives (engine/shard_sleep.h): drain the signals, look once
// more, sleep if nothing was there. Two producers make work visible and signal it then; the signal
// is an eventfd, which stays readable until it is drained.
//
// no lost wake-up   no state without a way on in which work is left
//
// Planted errors: NO_LOOK (it drains and sleeps), LOOK_FIRST (it looks, drains, sleeps), SIGNAL_FIRST (a producer signals before its
// work can be seen), DRAIN_AWAKE (it drains once more when it has woken, and sleeps without a look).

#define ARRIVALS 2

byte work = 0;
bool signalled = false;
byte taken = 0;

proctype producer() {
  byte n = 0;
  do
  :: n < ARRIVALS ->
#ifdef SIGNAL_FIRST
     atomic { printf("signal\n"); signalled = true };
     atomic { printf("arrive\n"); work++ };
#else
     atomic { printf("arrive\n"); work++ };
     atomic { printf("signal\n"); signalled = true };
#endif
     n++
  :: else -> break
  od
}

inline look() {
  atomic { printf("look\n"); found = work; taken = taken + work; work = 0 }
}

active proctype shard() {
  byte found = 0;
  do
  :: taken == 2 * ARRIVALS -> break
  :: else ->
#ifdef LOOK_FIRST
     look();
     atomic { printf("drain\n"); signalled = false };
#else
     atomic { printf("drain\n"); signalled = false };
#ifndef NO_LOOK
     look();
#endif
#endif
     if
     :: found > 0 -> skip
     :: else ->
        atomic { signalled -> printf("wake\n") };
#ifdef DRAIN_AWAKE
        atomic { printf("drain\n"); signalled = false };
        atomic { signalled -> printf("wake\n") };
#endif
     fi
  od
}

init {
  atomic { run producer(); run producer() }
}
