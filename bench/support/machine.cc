// SPDX-License-Identifier: BSD-3-Clause
#include "bench/support/machine.h"

#include <sched.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <fstream>
#include <sstream>

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
  if (cpuinfo("flags").find(" hypervisor") == std::string::npos) {
    return cpuinfo("flags") == "unknown" ? "unknown" : "none seen";
  }
  const std::string vendor = first_line("/sys/hypervisor/type");
  return vendor == "unknown" ? "yes (kind unknown)" : "yes (" + vendor + ")";
}

std::string timer_hz() {
  utsname name{};
  uname(&name);
  std::ifstream in("/boot/config-" + std::string(name.release));
  for (std::string line; std::getline(in, line);) {
    if (line.rfind("CONFIG_HZ=", 0) == 0) return line.substr(10);
  }
  return "unknown";
}

std::string isolated() {
  const std::string cpus = first_line("/sys/devices/system/cpu/isolated");
  return cpus == "unknown" ? "none" : cpus;
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
      {"isolated_cpus", isolated()},
      {"frequency_governor", first_line("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")},
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
