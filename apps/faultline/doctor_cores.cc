// SPDX-License-Identifier: BSD-3-Clause
#include "apps/faultline/doctor_cores.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <sstream>
#include <string>
#include <string_view>
#include <utility>

#include "apps/faultline/doctor_boot.h"
#include "apps/faultline/place_report.h"
#include "engine/topology.h"

namespace faultline {
namespace {

using State = Finding::State;
using Cpus = std::vector<unsigned>;
constexpr const char* kCpuFolder = "/sys/devices/system/cpu";
constexpr const char* kNodeFolder = "/sys/devices/system/node";
constexpr unsigned long kEnginePages = 8;  // of 2 MiB: what a service asks of its node
constexpr std::size_t kWanted = 2;         // cores to isolate where none is

bool has(const Cpus& cpus, unsigned cpu) {
  return std::ranges::find(cpus, cpu) != cpus.end();
}

Cpus without(const Cpus& from, const Cpus& these) {
  Cpus out;
  std::ranges::copy_if(from, std::back_inserter(out), [&](unsigned c) { return !has(these, c); });
  return out;
}

Cpus both(const Cpus& a, const Cpus& b) {
  Cpus out;
  std::ranges::copy_if(a, std::back_inserter(out), [&](unsigned c) { return has(b, c); });
  return out;
}

struct Node {
  unsigned index = 0;
  Cpus cpus;
  unsigned long mib = 0;
};

class Cores {
 public:
  explicit Cores(const Host& host) : host_(host) {}

  std::vector<Finding> run() {
    find_nodes();
    if (nodes_.empty()) return {};
    online_ = cpus_of("online");
    if (online_.empty()) {
      for (const Node& node : nodes_)
        online_.insert(online_.end(), node.cpus.begin(), node.cpus.end());
    }
    isolated_ = cpus_of("isolated");
    tickless_ = cpus_of("nohz_full");
    for (const Node& node : nodes_) memory(node);
    command_line();
    for (const Node& node : nodes_) isolation(node);
    interrupts();
    siblings();
    governor();
    devices();
    return std::move(out_);
  }

 private:
  void good(std::string about, std::string what) {
    out_.push_back({State::kGood, std::move(about), std::move(what), {}});
  }
  void worse(std::string about, std::string what, std::string fix) {
    out_.push_back({State::kWorse, std::move(about), std::move(what), std::move(fix)});
  }
  [[nodiscard]] std::string text(const std::string& path) const {
    std::string out = host_.read(path).value_or("");
    while (!out.empty() && (out.back() == '\n' || out.back() == ' ')) out.pop_back();
    return out;
  }
  [[nodiscard]] Cpus cpus_of(const std::string& name) const {
    return engine::parse_cpu_list(text(fmt::format("{}/{}", kCpuFolder, name)));
  }

  void find_nodes() {
    for (const std::string& name : host_.list(kNodeFolder).value_or(std::vector<std::string>{})) {
      if (name.size() < 5 || name.compare(0, 4, "node") != 0 || name[4] < '0' || name[4] > '9') {
        continue;
      }
      const std::string folder = fmt::format("{}/{}", kNodeFolder, name);
      Node node{.index = static_cast<unsigned>(std::strtoul(name.c_str() + 4, nullptr, 10)),
                .cpus = engine::parse_cpu_list(text(folder + "/cpulist"))};
      const std::string meminfo = text(folder + "/meminfo");
      const std::size_t at = meminfo.find("MemTotal:");
      if (at != std::string::npos) {
        node.mib = std::strtoul(meminfo.c_str() + at + 9, nullptr, 10) >> 10U;
      }
      nodes_.push_back(std::move(node));
    }
    std::ranges::sort(nodes_, {}, &Node::index);
  }

  void memory(const Node& node) {
    const std::string about = fmt::format("node {}", node.index);
    if (node.cpus.empty()) {
      return good(about, fmt::format("{} MiB, no CPU: nothing polls there", node.mib));
    }
    const std::string cpus = "CPUs " + cpu_list(node.cpus);
    if (node.mib == 0) {
      return worse(about, cpus + ", no memory: its cores poll memory of another node",
                   "fill its DIMM slots, or move its devices to slots of a node with memory");
    }
    const std::string folder = fmt::format("{}/node{}/hugepages", kNodeFolder, node.index);
    std::string pages;
    unsigned long total_2m = 0, free_2m = 0, free_bytes = 0;
    for (const std::string& size : host_.list(folder).value_or(std::vector<std::string>{})) {
      if (size.compare(0, 10, "hugepages-") != 0) continue;
      const unsigned long kib = std::strtoul(size.c_str() + 10, nullptr, 10);
      const auto count = [&](const char* name) {
        return std::strtoul(text(folder + "/" + size + "/" + name).c_str(), nullptr, 10);
      };
      const unsigned long total = count("nr_hugepages");
      const unsigned long free = count("free_hugepages");
      free_bytes += free * (kib << 10U);
      if (kib == 2048) total_2m = total, free_2m = free;
      pages += fmt::format("{}{} of {} free of {} {}", pages.empty() ? "" : ", ", free, total,
                           kib >= 1048576 ? kib >> 20U
                           : kib >= 1024  ? kib >> 10U
                                          : kib,
                           kib >= 1048576 ? "GiB"
                           : kib >= 1024  ? "MiB"
                                          : "KiB");
    }
    const std::string what = fmt::format("{}, {} MiB; hugepages {}", cpus, node.mib,
                                         pages.empty() ? "not offered by this kernel" : pages);
    if (free_bytes >= kEnginePages << 21U) return good(about, what);
    worse(about, what + ": the engine runs without, with more TLB misses",
          pages.empty() ? "a kernel with CONFIG_HUGETLBFS"
                        : fmt::format("echo {} > {}/hugepages-2048kB/nr_hugepages",
                                      std::max(64UL, total_2m - free_2m + kEnginePages), folder));
  }

  /// Values of one option of the kernel's command line, without flags of isolcpus.
  [[nodiscard]] Cpus option(std::string_view name) const {
    std::istringstream words(text("/proc/cmdline"));
    Cpus out;
    for (std::string word; words >> word;) {
      if (word.compare(0, name.size() + 1, std::string(name) + "=") != 0) continue;
      std::string list = word.substr(name.size() + 1);
      const std::size_t digit = list.find_first_of("0123456789");
      out = digit == std::string::npos ? Cpus{} : engine::parse_cpu_list(list.substr(digit));
    }
    return out;
  }

  void command_line() {
    std::istringstream words(text("/proc/cmdline"));
    std::string said;
    for (std::string word; words >> word;) {
      for (const char* name : {"isolcpus=", "nohz_full=", "rcu_nocbs=", "irqaffinity=",
                               "hugepages=", "hugepagesz=", "default_hugepagesz=", "iommu"}) {
        if (word.compare(0, std::string_view(name).size(), name) != 0) continue;
        said += (said.empty() ? "" : " ") + word;
        break;
      }
    }
    Cpus gone;
    for (const char* name : {"isolcpus", "nohz_full", "rcu_nocbs"}) {
      for (const unsigned cpu : without(option(name), online_)) {
        if (!has(gone, cpu)) gone.push_back(cpu);
      }
    }
    std::ranges::sort(gone);
    if (!gone.empty()) {
      return worse("command line", fmt::format("{}: CPUs {} are not online", said, cpu_list(gone)),
                   grub("name only CPUs of " + cpu_list(online_) + " in"));
    }
    good("command line", said.empty() ? "nothing about isolation, hugepages or the IOMMU" : said);
  }

  [[nodiscard]] std::string grub(const std::string& what) const {
    return on_command_line(host_, what);
  }
  [[nodiscard]] std::string add_options(const Cpus& cpus) const { return isolate(host_, cpus); }

  [[nodiscard]] Cpus siblings_of(unsigned cpu) const {
    Cpus all = cpus_of(fmt::format("cpu{}/topology/thread_siblings_list", cpu));
    if (all.empty()) all.push_back(cpu);
    return all;
  }

  /// The last whole cores of a node; its first core is for everything else.
  [[nodiscard]] Cpus to_isolate(const Node& node) const {
    if (node.cpus.empty()) return {};
    const Cpus first = siblings_of(node.cpus.front());
    Cpus out;
    std::size_t cores = 0;
    for (std::size_t i = node.cpus.size(); i-- > 0 && cores < kWanted;) {
      if (has(first, node.cpus[i]) || has(out, node.cpus[i])) continue;
      const Cpus core = both(siblings_of(node.cpus[i]), node.cpus);
      out.insert(out.end(), core.begin(), core.end());
      ++cores;
    }
    std::ranges::sort(out);
    return out;
  }

  void isolation(const Node& node) {
    if (node.cpus.empty()) return;
    const std::string about = fmt::format("isolation of node {}", node.index);
    const Cpus mine = both(isolated_, node.cpus);
    if (mine.empty()) {
      const Cpus some = to_isolate(node);
      const std::string what = "no isolated CPU: whatever else runs there interrupts polling";
      return worse(
          about, what,
          some.empty() ? "more than one core: one is left for everything else" : add_options(some));
    }
    Cpus every = isolated_;
    if (without(node.cpus, mine).empty()) {
      const Cpus first = siblings_of(node.cpus.front());
      return worse(about, "all its CPUs are isolated: none is left for everything else",
                   grub("take " + cpu_list(first) + " out of isolcpus, nohz_full, rcu_nocbs in"));
    }
    const Cpus ticking = without(mine, tickless_);
    Cpus callbacks = option("rcu_nocbs");
    callbacks.insert(callbacks.end(), tickless_.begin(), tickless_.end());
    const Cpus with_callbacks = without(mine, callbacks);
    const std::string what = "CPUs " + cpu_list(mine);
    if (!ticking.empty()) {
      return worse(about,
                   what + fmt::format(", of these {} with the timer's tick (no nohz_full)",
                                      cpu_list(ticking)),
                   make_tickless(host_, every));
    }
    if (!with_callbacks.empty()) {
      return worse(about, what + ", of these " + cpu_list(with_callbacks) + " run RCU callbacks",
                   take_callbacks(host_, every));
    }
    good(about, what + ", tickless, without RCU callbacks");
  }

  void interrupts() {
    if (isolated_.empty()) return;
    static constexpr std::array kUsual = {
        "affinity_hint", "effective_affinity", "effective_affinity_list",
        "node",          "smp_affinity",       "smp_affinity_list",
        "spurious"};
    std::vector<unsigned> wrong;
    for (const std::string& irq : host_.list("/proc/irq").value_or(std::vector<std::string>{})) {
      if (irq[0] < '0' || irq[0] > '9') continue;
      const std::string folder = "/proc/irq/" + irq;
      const auto names = host_.list(folder);
      // Without a handler it never comes.
      if (!names || std::ranges::all_of(*names, [](const std::string& name) {
            return std::ranges::find(kUsual, name) != kUsual.end();
          })) {
        continue;
      }
      std::string list = text(folder + "/effective_affinity_list");
      if (list.empty()) list = text(folder + "/smp_affinity_list");
      if (both(engine::parse_cpu_list(list), isolated_).empty()) continue;
      wrong.push_back(static_cast<unsigned>(std::strtoul(irq.c_str(), nullptr, 10)));
    }
    if (wrong.empty()) return good("interrupts", "none on CPUs " + cpu_list(isolated_));
    std::ranges::sort(wrong);
    std::string numbers;
    for (const unsigned irq : wrong)
      numbers += fmt::format("{}{}", numbers.empty() ? "" : " ", irq);
    const Cpus rest = without(online_, isolated_);
    worse("interrupts", fmt::format("{} arrive on isolated CPUs: {}", wrong.size(), numbers),
          rest.empty() ? "leave a CPU that is not isolated"
                       : fmt::format("for i in {}; do echo {} > /proc/irq/$i/smp_affinity_list; "
                                     "done; with irqbalance, IRQBALANCE_BANNED_CPULIST={} in "
                                     "/etc/default/irqbalance",
                                     numbers, cpu_list(rest), cpu_list(isolated_)));
  }

  void siblings() {
    Cpus shared;
    for (const unsigned cpu : isolated_) {
      for (const unsigned other : both(without(siblings_of(cpu), isolated_), online_)) {
        if (!has(shared, other)) shared.push_back(other);
      }
    }
    if (isolated_.empty()) return;
    if (shared.empty()) return good("SMT siblings", "none of an isolated CPU is in other use");
    std::ranges::sort(shared);
    std::string fix = "for c in";
    for (const unsigned cpu : shared) fix += fmt::format(" {}", cpu);
    worse("SMT siblings",
          "CPUs " + cpu_list(shared) + " share a core with an isolated one and take its cycles",
          fix + "; do echo 0 > /sys/devices/system/cpu/cpu$c/online; done");
  }

  void governor() {
    const Cpus& polling = isolated_.empty() ? online_ : isolated_;
    Cpus slow;
    std::string which;
    std::size_t known = 0;
    for (const unsigned cpu : polling) {
      const std::string now =
          text(fmt::format("{}/cpu{}/cpufreq/scaling_governor", kCpuFolder, cpu));
      if (now.empty()) continue;
      ++known;
      if (now == "performance") continue;
      slow.push_back(cpu);
      which = now;
    }
    if (known == 0) return good("CPU clock", "not the kernel's to set (no cpufreq)");
    if (slow.empty()) return good("CPU clock", "governor performance");
    std::string fix = "for c in";
    for (const unsigned cpu : slow) fix += fmt::format(" {}", cpu);
    worse("CPU clock", fmt::format("governor {} on CPUs {}", which, cpu_list(slow)),
          fix +
              "; do echo performance > /sys/devices/system/cpu/cpu$c/cpufreq/scaling_governor; "
              "done");
  }

  void devices() {
    const auto bound = host_.list("/sys/bus/pci/drivers/vfio-pci");
    if (!bound || nodes_.size() < 2) return;
    for (const std::string& address : *bound) {
      if (address.find(':') == std::string::npos) continue;
      const std::string file = "/sys/bus/pci/devices/" + address + "/numa_node";
      const std::string said = text(file);
      const long index = said.empty() ? -1 : std::strtol(said.c_str(), nullptr, 10);
      const auto node = std::ranges::find_if(
          nodes_, [&](const Node& n) { return static_cast<long>(n.index) == index; });
      if (node == nodes_.end()) {
        worse(address, "the firmware does not say on which node it is",
              "echo N > " + file + ", N from the board's manual");
      } else if (node->cpus.empty() || node->mib == 0) {
        worse(address,
              fmt::format("on node {}, which has no {}", index,
                          node->cpus.empty() ? "CPU" : "memory"),
              "move it to a slot of another node");
      } else if (!isolated_.empty() && both(isolated_, node->cpus).empty()) {
        worse(address,
              fmt::format("on node {}, the isolated CPUs {} are all on other nodes", index,
                          cpu_list(isolated_)),
              to_isolate(*node).empty() ? "move it to a slot of their node"
                                        : add_more(to_isolate(*node)));
      } else {
        good(address, fmt::format("on node {}", index));
      }
    }
  }
  [[nodiscard]] std::string add_more(Cpus cpus) const {
    cpus.insert(cpus.end(), isolated_.begin(), isolated_.end());
    std::ranges::sort(cpus);
    return add_options(cpus);
  }

  const Host& host_;
  std::vector<Node> nodes_;
  Cpus online_, isolated_, tickless_;
  std::vector<Finding> out_;
};

}  // namespace

std::vector<Finding> examine_cores(const Host& host) {
  return Cores(host).run();
}

}  // namespace faultline
