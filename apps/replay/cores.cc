// SPDX-License-Identifier: BSD-3-Clause
#include "apps/replay/cores.h"

#include <sched.h>

namespace faultline {

CorePair pick_cores() noexcept {
  CorePair cores;
  cpu_set_t allowed;
  CPU_ZERO(&allowed);
  if (sched_getaffinity(0, sizeof allowed, &allowed) != 0) return cores;
  for (int cpu = 0; cpu < CPU_SETSIZE && !cores.apart; ++cpu) {
    if (!CPU_ISSET(cpu, &allowed)) continue;
    if (cores.guest < 0) {
      cores.guest = cpu;
    } else {
      cores.engine = cpu;
      cores.apart = true;
    }
  }
  return cores;
}

void pin_to(int cpu) noexcept {
  if (cpu < 0) return;
  cpu_set_t one;
  CPU_ZERO(&one);
  CPU_SET(cpu, &one);
  (void)sched_setaffinity(0, sizeof one, &one);
}

}  // namespace faultline
