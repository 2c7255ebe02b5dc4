// SPDX-License-Identifier: BSD-3-Clause
#include "bench/support/machine.h"

#include <sched.h>
#include <sys/utsname.h>
#include <unistd.h>
#if defined(__x86_64__)
#include <cpuid.h>
#endif

#include <array>
#include <ctime>
#include <fstream>

namespace faultline::bench {
namespace {

std::string first_line(const std::string& path) {
  std::ifstream in(path);
  std::string line;
  if (!std::getline(in, line) || line.empty()) return "unknown";
  return line;
}

/// The value of the first line of /proc/cpuinfo that begins with `key`.
std::string cpuinfo(const std::string& key) {
  std::ifstream in("/proc/cpuinfo");
  for (std::string line; std::getline(in, line);) {
    if (line.rfind(key, 0) != 0) continue;
    const auto colon = line.find(':');
    if (colon != std::string::npos && colon + 2 <= line.size()) return line.substr(colon + 2);
  }
  return "unknown";
}

std::string hypervisor() {
#if defined(__x86_64__)
  unsigned a = 0, b = 0, c = 0, d = 0;
  if (__get_cpuid(1, &a, &b, &c, &d) != 0 && (c >> 31U) == 0) return "none seen";
  __cpuid(0x40000000, a, b, c, d);
  std::array<unsigned, 3> words{b, c, d};
  std::string vendor;
  for (const unsigned word : words) {
    for (unsigned shift = 0; shift < 32; shift += 8) {
      const auto letter = static_cast<char>(word >> shift & 0xffU);
      if (letter > ' ' && letter < 127) vendor += letter;
    }
  }
  return vendor.empty() ? "yes (kind unknown)" : "yes (" + vendor + ")";
#else
  const std::string vendor = first_line("/sys/hypervisor/type");
  return vendor == "unknown" ? "unknown" : "yes (" + vendor + ")";
#endif
}

/// The kernel's tick: the coarse clock moves once per tick.
std::string timer_hz() {
  timespec tick{};
  if (clock_getres(CLOCK_MONOTONIC_COARSE, &tick) != 0 || tick.tv_nsec == 0) return "unknown";
  return std::to_string((1'000'000'000 + tick.tv_nsec / 2) / tick.tv_nsec);
}

std::string none_if_unknown(const std::string& path) {
  const std::string cpus = first_line(path);
  return cpus == "unknown" || cpus == "(null)" ? "none" : cpus;
}

std::string frequency() {
  const std::string governor = first_line("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor");
  return governor + ", now " + cpuinfo("cpu MHz") + " MHz";
}

std::string usable_cpus() {
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) != 0) return "unknown";
  return std::to_string(CPU_COUNT(&set));
}

}  // namespace

std::vector<std::pair<std::string, std::string>> machine_facts() {
  utsname name{};
  uname(&name);
  std::string cpu = cpuinfo("model name");
  if (cpu == "unknown") cpu = cpuinfo("CPU part");
  return {
      {"cpu", cpu},
      {"cpus_usable", usable_cpus()},
      {"smt", first_line("/sys/devices/system/cpu/smt/active")},
      {"clock_source",
       first_line("/sys/devices/system/clocksource/clocksource0/current_clocksource")},
      {"isolated_cpus", none_if_unknown("/sys/devices/system/cpu/isolated")},
      {"nohz_full_cpus", none_if_unknown("/sys/devices/system/cpu/nohz_full")},
      {"frequency", frequency()},
      {"timer_hz", timer_hz()},
      {"hypervisor", hypervisor()},
      {"microcode", cpuinfo("microcode")},
      {"kernel", name.release},
      {"architecture", name.machine},
      {"transparent_hugepages", first_line("/sys/kernel/mm/transparent_hugepage/enabled")},
      {"load_average", first_line("/proc/loadavg")},
  };
}

}  // namespace faultline::bench
