// SPDX-License-Identifier: BSD-3-Clause
#include "apps/faultline/doctor_cores.h"

#include <gtest/gtest.h>

#include <map>
#include <set>
#include <string>
#include <vector>

namespace faultline {
namespace {

/// A made-up /sys and /proc: folders are what the files lie in.
struct Server {
  std::map<std::string, std::string> files;
  Host host;

  // Two nodes of two cores with two threads each: 0,4 1,5 on node 0 and 2,6 3,7 on node 1.
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;
  Server() {
    host.read = [this](const std::string& path) -> std::optional<std::string> {
      const auto at = files.find(path);
      return at == files.end() ? std::nullopt : std::optional(at->second);
    };
    host.list = [this](const std::string& path) -> std::optional<std::vector<std::string>> {
      std::set<std::string> names;
      const std::string start = path + "/";
      for (const auto& [name, text] : files) {
        if (name.compare(0, start.size(), start) != 0) continue;
        names.insert(name.substr(start.size(), name.find('/', start.size()) - start.size()));
      }
      if (names.empty()) return std::nullopt;
      return std::vector<std::string>(names.begin(), names.end());
    };
    cpu("online") = "0-7\n";
    cpu("isolated") = "1,3,5,7\n";
    cpu("nohz_full") = "1,3,5,7\n";
    for (unsigned c = 0; c < 8; ++c) {
      const std::string folder = "cpu" + std::to_string(c);
      cpu(folder + "/topology/thread_siblings_list") =
          std::to_string(c % 4) + "," + std::to_string(c % 4 + 4) + "\n";
      cpu(folder + "/cpufreq/scaling_governor") = "performance\n";
    }
    for (unsigned n = 0; n < 2; ++n) {
      node(n, "cpulist") = n == 0 ? "0-1,4-5\n" : "2-3,6-7\n";
      node(n, "meminfo") = "Node 0 MemTotal:       65536000 kB\nNode 0 MemFree: 1 kB\n";
      node(n, "hugepages/hugepages-2048kB/nr_hugepages") = "64\n";
      node(n, "hugepages/hugepages-2048kB/free_hugepages") = "60\n";
    }
    files["/proc/cmdline"] = "quiet isolcpus=managed_irq,domain,1,3,5,7 nohz_full=1,3,5,7\n";
    files["/proc/irq/24/smp_affinity_list"] = "0-7\n";
    files["/proc/irq/24/effective_affinity_list"] = "2\n";
    files["/proc/irq/24/nvme0q0/x"] = "";
    files["/etc/default/grub"] = "# grub\nGRUB_TIMEOUT=5\nGRUB_CMDLINE_LINUX=\"\"\n";
    device("0000:01:00.0") = "0\n";
    device("0000:41:00.0") = "1\n";
  }
  std::string& cpu(const std::string& name) { return files["/sys/devices/system/cpu/" + name]; }
  std::string& node(unsigned n, const std::string& name) {
    return files["/sys/devices/system/node/node" + std::to_string(n) + "/" + name];
  }
  std::string& device(const std::string& address) {
    files["/sys/bus/pci/drivers/vfio-pci/" + address + "/x"] = "";
    return files["/sys/bus/pci/devices/" + address + "/numa_node"];
  }
  [[nodiscard]] std::vector<std::string> worse() const {
    std::vector<std::string> out;
    for (const Finding& f : examine_cores(host)) {
      EXPECT_NE(f.state, Finding::State::kMissing) << "no backend needs " << f.about;
      EXPECT_EQ(f.fix.empty(), f.state == Finding::State::kGood) << f.about;
      if (f.state == Finding::State::kWorse)
        out.push_back(f.about + ": " + f.what + " -> " + f.fix);
    }
    return out;
  }
  [[nodiscard]] std::string what(const std::string& about) const {
    for (const Finding& f : examine_cores(host)) {
      if (f.about == about) return f.what;
    }
    return "nothing about " + about;
  }
};
using Lines = std::vector<std::string>;

TEST(DoctorCores, FindNothingWrongWithATunedServer) {
  const Server s;
  EXPECT_EQ(s.worse(), Lines{});
  EXPECT_EQ(s.what("node 0"), "CPUs 0-1,4-5, 64000 MiB; hugepages 60 of 64 free of 2 MiB");
  EXPECT_EQ(s.what("command line"), "isolcpus=managed_irq,domain,1,3,5,7 nohz_full=1,3,5,7");
  EXPECT_EQ(s.what("isolation of node 1"), "CPUs 3,7, tickless, without RCU callbacks");
  EXPECT_EQ(s.what("0000:41:00.0"), "on node 1");
  EXPECT_EQ(s.what("interrupts"), "none on CPUs 1,3,5,7");
}

TEST(DoctorCores, SayNothingOfAHostThatListsNoNodes) {
  Server s;
  s.files.clear();
  EXPECT_TRUE(examine_cores(s.host).empty());
}

TEST(DoctorCores, CountFreeHugepagesOfEachNodeAndSize) {
  Server s;
  s.node(1, "hugepages/hugepages-2048kB/free_hugepages") = "7\n";
  EXPECT_EQ(s.worse(),
            Lines{"node 1: CPUs 2-3,6-7, 64000 MiB; hugepages 7 of 64 free of 2 MiB: the engine "
                  "runs without, with more TLB misses -> echo 65 > "
                  "/sys/devices/system/node/node1/hugepages/hugepages-2048kB/nr_hugepages"});
  s.node(1, "hugepages/hugepages-1048576kB/nr_hugepages") = "2\n";
  s.node(1, "hugepages/hugepages-1048576kB/free_hugepages") = "1\n";
  EXPECT_EQ(s.worse(), Lines{});
  EXPECT_EQ(s.what("node 1"),
            "CPUs 2-3,6-7, 64000 MiB; hugepages 1 of 2 free of 1 GiB, 7 of 64 free of 2 MiB");
}

TEST(DoctorCores, KnowNodesWithoutMemoryAndWithoutCpus) {
  Server s;
  s.node(1, "meminfo") = "Node 1 MemTotal: 0 kB\n";
  s.node(2, "cpulist") = "\n";
  s.node(2, "meminfo") = "Node 2 MemTotal: 1048576 kB\n";
  EXPECT_EQ(s.worse(),
            (Lines{"node 1: CPUs 2-3,6-7, no memory: its cores poll memory of another node -> fill "
                   "its DIMM slots, or move its devices to slots of a node with memory",
                   "0000:41:00.0: on node 1, which has no memory -> move it to a slot of another "
                   "node"}));
  EXPECT_EQ(s.what("node 2"), "1024 MiB, no CPU: nothing polls there");
}

TEST(DoctorCores, NameTheLineThatIsolatesWholeCoresOfEachNode) {
  Server s;
  s.cpu("isolated") = "\n";
  s.cpu("nohz_full") = "(null)\n";
  s.files["/proc/cmdline"] = "quiet\n";
  EXPECT_EQ(s.worse(),
            (Lines{"isolation of node 0: no isolated CPU: whatever else runs there interrupts "
                   "polling -> /etc/default/grub:3: add isolcpus=managed_irq,domain,1,5 "
                   "nohz_full=1,5 rcu_nocbs=1,5 to GRUB_CMDLINE_LINUX, then update-grub and reboot",
                   "isolation of node 1: no isolated CPU: whatever else runs there interrupts "
                   "polling -> /etc/default/grub:3: add isolcpus=managed_irq,domain,3,7 "
                   "nohz_full=3,7 rcu_nocbs=3,7 to GRUB_CMDLINE_LINUX, then update-grub and "
                   "reboot"}));
  EXPECT_EQ(s.what("command line"), "nothing about isolation, hugepages or the IOMMU");
}

TEST(DoctorCores, MissTheTickAndTheCallbacks) {
  Server s;
  s.cpu("nohz_full") = "1,5\n";
  s.files.erase("/etc/default/grub");
  EXPECT_EQ(s.worse(),
            Lines{"isolation of node 1: CPUs 3,7, of these 3,7 with the timer's tick (no "
                  "nohz_full) -> add nohz_full=1,3,5,7 rcu_nocbs=1,3,5,7 to the kernel's command "
                  "line (boot loader), then reboot"});
  s.files["/proc/cmdline"] = "nohz_full=1,5,9-10\n";
  EXPECT_EQ(s.what("command line"), "nohz_full=1,5,9-10: CPUs 9-10 are not online");
}

TEST(DoctorCores, AdviseNoOptionThatTheKernelWasBuiltWithout) {
  Server s;
  s.host.kernel_options = [] { return "CONFIG_CPU_ISOLATION=y\nCONFIG_RCU_NOCB_CPU=y\n"; };
  s.cpu("isolated") = "\n";
  s.cpu("nohz_full") = "(null)\n";
  s.files["/proc/cmdline"] = "quiet\n";
  const Lines found = s.worse();
  ASSERT_FALSE(found.empty());
  EXPECT_NE(found[0].find("add isolcpus=managed_irq,domain,1,5 rcu_nocbs=1,5 to "),
            std::string::npos)
      << found[0];
  EXPECT_NE(found[0].find("; for the rest boot a kernel that has CONFIG_NO_HZ_FULL, "
                          "which this one was built without"),
            std::string::npos)
      << found[0];
  s.host.kernel_options = [] { return "CONFIG_SMP=y\n"; };
  EXPECT_NE(s.worse()[0].find("-> this kernel was built without it: boot one that has "
                              "CONFIG_CPU_ISOLATION, CONFIG_NO_HZ_FULL, CONFIG_RCU_NOCB_CPU"),
            std::string::npos);
}

TEST(DoctorCores, LeaveACoreForEverythingElse) {
  Server s;
  s.cpu("isolated") = "1-3,5-7\n";
  s.cpu("nohz_full") = "1-3,5-7\n";
  s.files["/proc/irq/24/effective_affinity_list"] = "0\n";
  ASSERT_EQ(s.worse().size(), 1U);
  EXPECT_EQ(s.worse()[0],
            "isolation of node 1: all its CPUs are isolated: none is left for everything else -> "
            "/etc/default/grub:3: take 2,6 out of isolcpus, nohz_full, rcu_nocbs in "
            "GRUB_CMDLINE_LINUX, then update-grub and reboot");
}

TEST(DoctorCores, FindInterruptsThatHaveAHandlerOnIsolatedCpus) {
  Server s;
  s.files["/proc/irq/24/effective_affinity_list"] = "3\n";
  s.files["/proc/irq/25/effective_affinity_list"] = "1\n";  // nobody handles it
  s.files["/proc/irq/9/smp_affinity_list"] = "4-7\n";
  s.files["/proc/irq/9/acpi/x"] = "";
  EXPECT_EQ(s.worse(),
            Lines{"interrupts: 2 arrive on isolated CPUs: 9 24 -> for i in 9 24; do echo 0,2,4,6 > "
                  "/proc/irq/$i/smp_affinity_list; done; with irqbalance, "
                  "IRQBALANCE_BANNED_CPULIST=1,3,5,7 in /etc/default/irqbalance"});
}

TEST(DoctorCores, FindSiblingsAndGovernors) {
  Server s;
  s.cpu("isolated") = "1,3\n";
  s.cpu("cpu3/cpufreq/scaling_governor") = "powersave\n";
  s.cpu("cpu0/cpufreq/scaling_governor") = "powersave\n";  // polls nothing
  EXPECT_EQ(s.worse(),
            (Lines{"SMT siblings: CPUs 5,7 share a core with an isolated one and take its cycles "
                   "-> for c in 5 7; do echo 0 > /sys/devices/system/cpu/cpu$c/online; done",
                   "CPU clock: governor powersave on CPUs 3 -> for c in 3; do echo performance > "
                   "/sys/devices/system/cpu/cpu$c/cpufreq/scaling_governor; done"}));
}

TEST(DoctorCores, FindDevicesFarFromIsolatedCpusAndOfUnknownNodes) {
  Server s;
  s.cpu("isolated") = "3,7\n";
  s.device("0000:01:00.0") = "-1\n";
  s.device("0000:02:00.0") = "0\n";
  const Lines lines = s.worse();
  ASSERT_EQ(lines.size(), 3U);
  EXPECT_EQ(lines[1],
            "0000:01:00.0: the firmware does not say on which node it is -> echo N > "
            "/sys/bus/pci/devices/0000:01:00.0/numa_node, N from the board's manual");
  EXPECT_EQ(lines[2],
            "0000:02:00.0: on node 0, the isolated CPUs 3,7 are all on other nodes -> "
            "/etc/default/grub:3: add isolcpus=managed_irq,domain,1,3,5,7 nohz_full=1,3,5,7 "
            "rcu_nocbs=1,3,5,7 to GRUB_CMDLINE_LINUX, then update-grub and reboot");
}

}  // namespace
}  // namespace faultline
