// SPDX-License-Identifier: BSD-3-Clause
#include "engine/monitor.h"

#if defined(__x86_64__)
#include <cpuid.h>
#elif defined(__aarch64__)
#include <sys/auxv.h>
#endif

#include <string>

namespace faultline::engine {

CpuFeatures cpu_features() noexcept {
  CpuFeatures cpu;
#if defined(__x86_64__)
  unsigned a = 0;
  unsigned b = 0;
  unsigned c = 0;
  unsigned d = 0;
  constexpr unsigned kWaitpkg = 1U << 5U;  // CPUID.(EAX=7,ECX=0):ECX
  cpu.waitpkg = __get_cpuid_count(7, 0, &a, &b, &c, &d) != 0 && (c & kWaitpkg) != 0;
#elif defined(__aarch64__)
  constexpr unsigned long kEvtstrm = 1UL << 2U;  // HWCAP_EVTSTRM
  constexpr unsigned long kWfxt = 1UL << 31U;    // HWCAP2_WFXT
  cpu.event_stream = (::getauxval(AT_HWCAP) & kEvtstrm) != 0;
  cpu.wfxt = (::getauxval(AT_HWCAP2) & kWfxt) != 0;
#endif
  return cpu;
}

Result<void> check_idle(IdlePolicy policy, const CpuFeatures& cpu) {
  if (policy != IdlePolicy::kMonitor) return {};
#if defined(__x86_64__)
  if (cpu.waitpkg) return {};
  const std::string missing = "umwait (WAITPKG)";
#elif defined(__aarch64__)
  if (cpu.wfxt || cpu.event_stream) return {};
  const std::string missing = "a WFE that ends by itself (FEAT_WFxT, or the kernel's event stream)";
#else
  const std::string missing = "an instruction to wait on a line that is known here";
#endif
  return fail(
      0, "this CPU has not got " + missing + "; take pause, or sleep to leave the core to others");
}

}  // namespace faultline::engine
