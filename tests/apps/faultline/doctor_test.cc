// SPDX-License-Identifier: BSD-3-Clause
#include "apps/faultline/doctor.h"

#include <gtest/gtest.h>

#include <cerrno>
#include <limits>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "kernel/uapi/vfio_nested.h"
#include "tests/apps/faultline/program.h"
#include "tests/kernel/iommufd_fake.h"

namespace faultline {
namespace {

/// A host as it was recorded: what is not named is not there.
struct Recorded {
  Recorded(const Recorded&) = delete;
  Recorded& operator=(const Recorded&) = delete;
  Recorded() {
    host.read = [this](const std::string& path) -> std::optional<std::string> {
      const auto at = files.find(path);
      return at == files.end() ? std::nullopt : std::optional(at->second);
    };
    host.list = [this](const std::string& path) -> std::optional<std::vector<std::string>> {
      const auto at = folders.find(path);
      return at == folders.end() ? std::nullopt : std::optional(at->second);
    };
    host.open = [this](const std::string& path) {
      const auto at = opens.find(path);
      return at == opens.end() ? ENOENT : at->second;
    };
    host.kernel_options = [this] { return options; };
    host.kernel = [this] { return kernel; };
    host.ring = [this] { return ring; };
    host.device = [this](const std::string& device) { return ask_device(sys, device); };
    kernel.open_error = ENOENT;
    kernel.iommufd_error = ENOENT;
    host.memlock = std::uint64_t{8} << 20U;
  }
  [[nodiscard]] std::vector<std::string> lines() const {
    std::vector<std::string> out{""};
    for (const char c : doctor_text(diagnose(host))) {
      if (c == '\n') {
        out.emplace_back();
      } else {
        out.back() += c;
      }
    }
    out.pop_back();
    return out;
  }
  [[nodiscard]] std::string line(const std::string& about) const {
    for (const std::string& line : lines()) {
      if (line.find(about + ":") == 8) return line;
    }
    return "no line about " + about;
  }

  Host host;
  std::map<std::string, std::string> files;
  std::map<std::string, std::vector<std::string>> folders;
  std::map<std::string, int> opens;
  std::optional<std::string> options;
  KernelReport kernel;
  int ring = 0;
  testing::ScriptedSys sys;
  testing::FakeIommufd iommufd{sys};
};
using Lines = std::vector<std::string>;

/// A notebook with Debian 12.
struct Debian : Recorded {
  Debian() {
    host.release = "6.1.0-28-amd64";
    host.machine = "x86_64";
    options = "CONFIG_VFIO=m\n# CONFIG_IOMMUFD is not set\nCONFIG_VFIO_PCI=m\n";
    folders["/sys/class/iommu"] = {"dmar0", "dmar1"};
    folders["/sys/kernel/iommu_groups"] = {"0", "1", "2"};
    files["/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages"] = "0\n";
  }
};

/// An arm64 server that is ready.
struct Ready : Recorded {
  Ready() {
    host.release = "7.3.4";
    host.machine = "aarch64";
    host.memlock = std::numeric_limits<std::uint64_t>::max();
    options =
        "CONFIG_IOMMUFD=m\nCONFIG_VFIO_DEVICE_CDEV=y\nCONFIG_ARM_SMMU_V3_IOMMUFD=y\n"
        "CONFIG_VFIO_DEVICE_CDEV_NOT=n\n";
    opens["/dev/iommu"] = 0;
    opens["/dev/vfio/devices/vfio0"] = 0;
    folders["/sys/class/iommu"] = {"smmu3.0x0000000009050000"};
    folders["/sys/kernel/iommu_groups"] = {"0", "1"};
    folders["/sys/bus/pci/drivers/vfio-pci"] = {"0000:00:03.0", "bind", "new_id"};
    folders["/dev/vfio/devices"] = {"vfio0"};
    files["/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages"] = "64\n";
  }
};

TEST(Doctor, SaysOfAReadyHostThatEverythingIsThere) {
  const Ready r;
  EXPECT_EQ(r.lines(),
            (Lines{
                "ok      kernel: 7.3.4, aarch64",
                "ok      CONFIG_IOMMUFD: m",
                "ok      CONFIG_VFIO_DEVICE_CDEV: y",
                "ok      CONFIG_ARM_SMMU_V3_IOMMUFD: y",
                "ok      /dev/iommu: can be opened",
                "ok      IOMMU: 1 SMMUv3 (arm-smmu-v3)",
                "ok      IOMMU groups: 2",
                "ok      vfio-pci: 1 device bound",
                "ok      /dev/vfio/devices: vfio0 can be opened",
                "ok      io_uring: allowed: idle event files cost no system call",
                "ok      memlock: no limit",
                "ok      hugepages: 64 of 2 MiB",
                "backend soft     usable     (needs nothing: ./fl run)",
                "backend vfio     not usable (/dev/vfio/vfio: No such file or directory)",
                "backend iommufd  usable     (everything is there)",
            }));
}

TEST(Doctor, SaysOfADebianHostWhatIsMissingAndHowToGetIt) {
  const Debian r;
  EXPECT_EQ(
      r.lines(),
      (Lines{
          "MISSING kernel: 6.1.0-28-amd64, x86_64 -> Linux 6.15 or later: vIOMMUs came with 6.13, "
          "their event queues with 6.15 (on Debian 12, build linux-source of trixie-backports)",
          "MISSING CONFIG_IOMMUFD: not set in this kernel -> build the kernel with "
          "CONFIG_IOMMUFD=y (no kernel package of Debian has it)",
          "MISSING CONFIG_VFIO_DEVICE_CDEV: not set in this kernel -> build the kernel with "
          "CONFIG_VFIO_DEVICE_CDEV=y (no kernel package of Debian has it)",
          "MISSING /dev/iommu: not there -> a kernel with CONFIG_IOMMUFD, see above",
          "MISSING IOMMU: 2 VT-d: recognised, the guest's virtual IOMMU is an SMMUv3 -> a host "
          "with an SMMUv3",
          "ok      IOMMU groups: 3",
          "MISSING vfio-pci: not loaded -> modprobe vfio-pci",
          "MISSING /dev/vfio/devices: no device files -> CONFIG_VFIO_DEVICE_CDEV and a bound "
          "device",
          "ok      io_uring: allowed: idle event files cost no system call",
          "note    memlock: 8 MiB may be locked; a guest's whole memory is, for DMA -> ulimit -l "
          "unlimited, or LimitMEMLOCK=infinity in the unit",
          "note    hugepages: 0 of 2 MiB: the engine runs without, with more TLB misses -> sysctl "
          "vm.nr_hugepages=64",
          "backend soft     usable     (needs nothing: ./fl run)",
          "backend vfio     not usable (/dev/vfio/vfio: No such file or directory)",
          "backend iommufd  not usable (missing: kernel and 6 more)",
      }));
  EXPECT_TRUE(diagnose(r.host).any_usable());
}

TEST(Doctor, NamesTheModuleTheFileOrTheLimit) {
  Ready r;
  r.opens["/dev/iommu"] = ENOENT;
  EXPECT_EQ(r.line("/dev/iommu"), "MISSING /dev/iommu: not there -> modprobe iommufd");
  r.opens["/dev/iommu"] = EACCES;
  EXPECT_EQ(r.line("/dev/iommu"),
            "MISSING /dev/iommu: Permission denied -> run as root, or: setfacl -m u:$USER:rw "
            "/dev/iommu");
  r.opens["/dev/vfio/devices/vfio0"] = EACCES;
  EXPECT_EQ(r.line("/dev/vfio/devices"),
            "MISSING /dev/vfio/devices: vfio0: Permission denied -> run as root, or: setfacl -m "
            "u:$USER:rw /dev/vfio/devices/vfio0");
  r.opens["/dev/vfio/devices/vfio0"] = EBUSY;
  EXPECT_EQ(r.line("/dev/vfio/devices"),
            "MISSING /dev/vfio/devices: vfio0: in use -> stop the VMM that has it open");
  r.folders["/sys/bus/pci/drivers/vfio-pci"] = {"bind"};
  EXPECT_EQ(r.line("vfio-pci"),
            "MISSING vfio-pci: loaded, no device is bound to it -> driverctl set-override "
            "0000:BB:DD.F vfio-pci");
  r.folders["/sys/class/iommu"].clear();
  EXPECT_EQ(r.line("IOMMU"),
            "MISSING IOMMU: none is in use -> needs an SMMUv3 with both stages that the firmware "
            "describes (IORT)");
}

TEST(Doctor, DoesNotAdviseWhatTheKernelWasBuiltWithout) {
  Debian r;
  r.options = "CONFIG_VFIO=m\n# CONFIG_VFIO_PCI is not set\n";
  EXPECT_EQ(r.line("vfio-pci"),
            "MISSING vfio-pci: not in this kernel -> this kernel was built without it: boot one "
            "that has CONFIG_VFIO_PCI=m or =y");
  r.options.reset();
  EXPECT_EQ(r.line("vfio-pci"), "MISSING vfio-pci: not loaded -> modprobe vfio-pci");
}

TEST(Doctor, KnowsWhatTheIdlePolicyMonitorWaitsWith) {
  Debian x86;
  x86.files["/proc/cpuinfo"] = "flags\t\t: fpu vme waitpkg\nbugs\t\t: none\n";
  EXPECT_EQ(x86.line("idle monitor"), "ok      idle monitor: umwait (WAITPKG)");
  x86.files["/proc/cpuinfo"] = "flags\t\t: fpu vme waitpkgs\n";
  EXPECT_EQ(x86.line("idle monitor"),
            "note    idle monitor: this CPU has not got umwait (WAITPKG) -> take idle policy "
            "pause, or sleep to leave the core to others");
  Ready arm;
  arm.files["/proc/cpuinfo"] = "Features\t: fp asimd evtstrm\n";
  EXPECT_EQ(arm.line("idle monitor"), "ok      idle monitor: WFE with the kernel's event stream");
}

TEST(Doctor, RefusesADeviceThatIsNone) {
  const Finished f = run_program({"doctor", "--device", "nonsense"});
  EXPECT_EQ(f.status, 2);
  EXPECT_EQ(f.out,
            "faultline: --device: 'nonsense' is neither a PCI address like 0000:01:00.0 nor "
            "/dev/vfio/devices/vfioN\n");
}

TEST(Doctor, SaysWhyThereIsNoRing) {
  Ready r;
  r.ring = EPERM;
  EXPECT_EQ(r.line("io_uring"),
            "note    io_uring: not available: Operation not permitted; event files are read in "
            "every round -> allow io_uring_setup in the container's seccomp profile");
  r.files["/proc/sys/kernel/io_uring_disabled"] = "2\n";
  EXPECT_EQ(r.line("io_uring"),
            "note    io_uring: switched off (kernel.io_uring_disabled=2); event files are read in "
            "every round -> sysctl kernel.io_uring_disabled=0");
  EXPECT_TRUE(diagnose(r.host).backends[2].usable) << "reads do as well";
}

TEST(Doctor, DoesNotGuessOptionsThatTheKernelDoesNotTell) {
  Ready r;
  r.options.reset();
  EXPECT_EQ(r.line("CONFIG_IOMMUFD"),
            "note    CONFIG_IOMMUFD: unknown: neither /boot/config-7.3.4 nor /proc/config.gz can "
            "be read -> none needed where the lines below are good");
  EXPECT_TRUE(diagnose(r.host).backends[2].usable);
}

TEST(Doctor, FindsTheSeedsKernel) {
  Debian r;
  r.kernel.open_error = 0;
  r.kernel.api_version = uapi::kVfioApiVersion;
  EXPECT_FALSE(diagnose(r.host).backends[1].usable);
  r.kernel.nesting = true;
  EXPECT_TRUE(diagnose(r.host).backends[1].usable);
}

TEST(Doctor, AsksADeviceWhetherAGuestCanHaveItsIommu) {
  const std::string device = "/dev/vfio/devices/vfio0";
  Ready r;
  const auto lines = [&] {
    std::vector<std::string> out;
    for (const Finding& f : diagnose(r.host, device).findings) {
      if (f.about == device) out.push_back(f.what);
    }
    EXPECT_EQ(r.iommufd.things.size(), 0U) << "everything is given back";
    EXPECT_EQ(r.sys.leaks(), 0U);
    return out;
  };
  ASSERT_EQ(lines().size(), 3U);
  EXPECT_EQ(lines()[0].find("SMMUv3 idr0="), 0U);
  EXPECT_EQ(lines()[1].find("a guest may be offered 44-bit addresses, pages 4K"), 0U);
  EXPECT_EQ(lines()[2], "a guest can have a virtual IOMMU of it");
  r.iommufd.coherent = false;
  ASSERT_EQ(lines().size(), 3U);
  EXPECT_EQ(lines()[2].find("no virtual IOMMU of it: /dev/vfio/devices/vfio0: IOMMU_VIOMMU_ALLOC"),
            0U)
      << lines()[2];
  EXPECT_FALSE(diagnose(r.host, device).backends[2].usable);
  r.iommufd.hw_type = uapi::kIommuHwInfoTypeIntelVtd;
  ASSERT_EQ(lines().size(), 2U);
  EXPECT_EQ(lines()[1], "no virtual IOMMU of it: not an SMMUv3 with both stages");
}

TEST(Doctor, SaysTheSameAsJson) {
  const Diagnosis found = diagnose(Debian().host);
  const auto json = nlohmann::json::parse(doctor_json(found));
  EXPECT_EQ(json["findings"].size(), found.findings.size());
  EXPECT_EQ(json["findings"][0]["about"], "kernel");
  EXPECT_EQ(json["findings"][0]["state"], "missing");
  EXPECT_EQ(json["findings"][6]["fix"], "modprobe vfio-pci");
  EXPECT_EQ(json["backends"][0]["usable"], true);
}

TEST(Doctor, LooksAtThisMachineAndFindsAtLeastTheSoftKernel) {
  const Diagnosis found = diagnose(this_host());
  EXPECT_TRUE(found.any_usable());
  EXPECT_EQ(found.findings[0].about, "kernel");
  EXPECT_FALSE(found.findings[0].what.empty());
}

}  // namespace
}  // namespace faultline
