// SPDX-License-Identifier: BSD-3-Clause
#include "apps/faultline/doctor.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <iterator>
#include <limits>
#include <nlohmann/json.hpp>
#include <string_view>
#include <utility>

#include "apps/faultline/doctor_cores.h"

namespace faultline {
namespace {

using State = Finding::State;
constexpr const char* kIommufdFile = "/dev/iommu";

/// Looks at one thing after the other and keeps what an iommufd backend lacks.
class Examination {
 public:
  explicit Examination(const Host& host) : host_(host), options_(host.kernel_options()) {}

  Diagnosis run(const std::string& device) {
    kernel_version();
    kernel_option("CONFIG_IOMMUFD");
    kernel_option("CONFIG_VFIO_DEVICE_CDEV");
    if (host_.machine == "aarch64") kernel_option("CONFIG_ARM_SMMU_V3_IOMMUFD");
    iommufd_file();
    iommu();
    groups();
    vfio_pci();
    devices();
    if (!device.empty()) ask(device);
    ring();
    monitor();
    memlock();
    std::vector<Finding> cores = examine_cores(host_);
    if (cores.empty()) hugepages();
    std::ranges::move(cores, std::back_inserter(out_.findings));
    backends();
    return std::move(out_);
  }

 private:
  void good(std::string about, std::string what) {
    out_.findings.push_back({State::kGood, std::move(about), std::move(what), {}});
  }
  void missing(std::string about, std::string what, std::string fix) {
    if (lacking_.empty()) lacking_ = about;
    ++lacks_;
    out_.findings.push_back({State::kMissing, std::move(about), std::move(what), std::move(fix)});
  }
  void worse(std::string about, std::string what, std::string fix) {
    out_.findings.push_back({State::kWorse, std::move(about), std::move(what), std::move(fix)});
  }

  void kernel_version() {
    unsigned major = 0;
    unsigned minor = 0;
    const bool known = std::sscanf(host_.release.c_str(), "%u.%u", &major, &minor) == 2;
    const auto at_least = [&](unsigned m) { return major > 6 || (major == 6 && minor >= m); };
    const std::string what = host_.release + ", " + host_.machine;
    if (known && !at_least(15)) {
      return missing("kernel", what,
                     "Linux 6.15 or later: vIOMMUs came with 6.13, their event queues with 6.15 "
                     "(on Debian 12, build linux-source of trixie-backports)");
    }
    good("kernel", what);
  }

  void kernel_option(const std::string& name) {
    if (!options_) {
      return worse(
          name,
          "unknown: neither /boot/config-" + host_.release + " nor /proc/config.gz can be read",
          "none needed where the lines below are good");
    }
    const std::string value = value_of(name);
    if (value == "y" || value == "m") return good(name, value);
    missing(name, "not set in this kernel",
            "build the kernel with " + name + "=y (no kernel package of Debian has it)");
  }
  [[nodiscard]] std::string value_of(const std::string& name) const {
    const std::string line = name + "=";
    for (std::size_t at = 0; (at = options_->find(line, at)) != std::string::npos; ++at) {
      if (at != 0 && (*options_)[at - 1] != '\n') continue;
      const std::size_t end = options_->find('\n', at);
      return options_->substr(at + line.size(), end - at - line.size());
    }
    return {};
  }

  void iommufd_file() {
    const int error = host_.open(kIommufdFile);
    if (error == 0) return good(kIommufdFile, "can be opened");
    if (error == ENOENT) {
      const bool module = options_ && value_of("CONFIG_IOMMUFD") == "m";
      return missing(kIommufdFile, "not there",
                     module ? "modprobe iommufd" : "a kernel with CONFIG_IOMMUFD, see above");
    }
    if (error == EACCES || error == EPERM) {
      return missing(kIommufdFile, std::strerror(error),
                     "run as root, or: setfacl -m u:$USER:rw /dev/iommu");
    }
    missing(kIommufdFile, std::strerror(error), "dmesg | grep -i iommu says why");
  }

  void iommu() {
    const auto names = host_.list("/sys/class/iommu");
    if (!names || names->empty()) {
      return missing("IOMMU", "none is in use",
                     host_.machine == "aarch64"
                         ? "needs an SMMUv3 with both stages that the firmware describes (IORT)"
                         : "an arm64 host with an SMMUv3; VT-d is only recognised");
    }
    const auto of = [&](std::string_view prefix) {
      return std::count_if(names->begin(), names->end(), [&](const std::string& name) {
        return name.compare(0, prefix.size(), prefix) == 0;
      });
    };
    const auto smmu = of("smmu3.");
    const auto vtd = of("dmar");
    if (smmu > 0) return good("IOMMU", fmt::format("{} SMMUv3 (arm-smmu-v3)", smmu));
    if (vtd > 0) {
      return missing(
          "IOMMU", fmt::format("{} VT-d: recognised, the guest's virtual IOMMU is an SMMUv3", vtd),
          "a host with an SMMUv3");
    }
    missing("IOMMU", names->front() + ": its driver has no nested stages for guests",
            "a host with an SMMUv3");
  }

  void groups() {
    const auto names = host_.list("/sys/kernel/iommu_groups");
    if (names && !names->empty()) {
      return good("IOMMU groups", std::to_string(names->size()));
    }
    missing("IOMMU groups", "none", "an IOMMU, see above; without one no device can be assigned");
  }

  void vfio_pci() {
    const auto bound = host_.list("/sys/bus/pci/drivers/vfio-pci");
    if (!bound) {
      const bool built = !options_ || !value_of("CONFIG_VFIO_PCI").empty();
      return missing("vfio-pci", built ? "not loaded" : "not in this kernel",
                     built ? "modprobe vfio-pci"
                           : "this kernel was built without it: boot one that has "
                             "CONFIG_VFIO_PCI=m or =y");
    }
    const auto devices = static_cast<std::size_t>(
        std::count_if(bound->begin(), bound->end(),
                      [](const std::string& name) { return name.find(':') != std::string::npos; }));
    if (devices == 0) {
      return missing("vfio-pci", "loaded, no device is bound to it",
                     "driverctl set-override 0000:BB:DD.F vfio-pci");
    }
    good("vfio-pci", fmt::format("{} device{} bound", devices, devices == 1 ? "" : "s"));
  }

  void devices() {
    const std::string folder = "/dev/vfio/devices";
    const auto names = host_.list(folder);
    if (!names || names->empty()) {
      return missing(folder, "no device files", "CONFIG_VFIO_DEVICE_CDEV and a bound device");
    }
    const std::string first = folder + "/" + names->front();
    const int error = host_.open(first);
    if (error == 0) return good(folder, fmt::format("{} can be opened", names->front()));
    if (error == EACCES || error == EPERM) {
      return missing(folder, names->front() + ": " + std::strerror(error),
                     "run as root, or: setfacl -m u:$USER:rw " + first);
    }
    if (error == EBUSY) {
      return missing(folder, names->front() + ": in use", "stop the VMM that has it open");
    }
    missing(folder, names->front() + ": " + std::strerror(error), "dmesg | grep vfio says why");
  }

  void ask(const std::string& device) {
    const DeviceAnswer answer = host_.device(device);
    if (!answer.hardware.empty()) good(device, answer.hardware);
    if (!answer.offer.empty()) good(device, "a guest may be offered " + answer.offer);
    if (answer.why_not.empty()) return good(device, "a guest can have a virtual IOMMU of it");
    missing(device, "no virtual IOMMU of it: " + answer.why_not, {});
  }

  void ring() {
    const int error = host_.ring();
    if (error == 0) return good("io_uring", "allowed: idle event files cost no system call");
    const auto disabled = host_.read("/proc/sys/kernel/io_uring_disabled");
    const bool off = disabled && !disabled->empty() && (*disabled)[0] != '0';
    const std::string what =
        off ? "switched off (kernel.io_uring_disabled=" + disabled->substr(0, 1) + ")"
            : std::string("not available: ") + std::strerror(error);
    worse("io_uring", what + "; event files are read in every round",
          off               ? "sysctl kernel.io_uring_disabled=0"
          : error == EPERM  ? "allow io_uring_setup in the container's seccomp profile"
          : error == EINVAL ? "Linux 6.1 or later"
                            : "a kernel with CONFIG_IO_URING");
  }

  /// What idle.policy "monitor" waits with.
  void monitor() {
    const auto text = host_.read("/proc/cpuinfo");
    if (!text) return;
    const bool arm = host_.machine == "aarch64";
    const auto has = [&](const std::string& word) {
      const std::size_t at = text->find(' ' + word);
      if (at == std::string::npos) return false;
      const char after = (*text + '\n')[at + 1 + word.size()];
      return after == ' ' || after == '\n';
    };
    if (arm ? has("wfxt") || has("evtstrm") : has("waitpkg")) {
      return good("idle monitor", !arm          ? "umwait (WAITPKG)"
                                  : has("wfxt") ? "WFE that ends by itself (FEAT_WFxT)"
                                                : "WFE with the kernel's event stream");
    }
    worse("idle monitor",
          arm ? "this CPU has neither FEAT_WFxT nor the kernel's event stream"
              : "this CPU has not got umwait (WAITPKG)",
          "take idle policy pause, or sleep to leave the core to others");
  }

  void memlock() {
    if (host_.memlock == std::numeric_limits<std::uint64_t>::max()) {
      return good("memlock", "no limit");
    }
    worse("memlock",
          fmt::format("{} MiB may be locked; a guest's whole memory is, for DMA",
                      host_.memlock >> 20U),
          "ulimit -l unlimited, or LimitMEMLOCK=infinity in the unit");
  }

  void hugepages() {
    const auto text = host_.read("/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages");
    const unsigned long pages = text ? std::strtoul(text->c_str(), nullptr, 10) : 0;
    if (pages >= 8) return good("hugepages", fmt::format("{} of 2 MiB", pages));
    worse("hugepages",
          fmt::format("{} of 2 MiB: the engine runs without, with more TLB misses", pages),
          "sysctl vm.nr_hugepages=64");
  }

  void backends() {
    out_.backends.push_back({"soft", true, "needs nothing: ./fl run"});
    const KernelReport kernel = host_.kernel();
    std::string why = "the seed's interface may be there; an attached group will tell";
    if (kernel.open_error != 0) {
      why = std::string("/dev/vfio/vfio: ") + std::strerror(kernel.open_error);
    } else if (!kernel.seed_possible()) {
      why =
          "this kernel does not offer nested stages through VFIO (only kernels with the v7 series "
          "do)";
    }
    out_.backends.push_back({"vfio", kernel.seed_possible(), why});
    out_.backends.push_back({"iommufd", lacks_ == 0,
                             lacks_ == 0 ? "everything is there"
                             : lacks_ == 1
                                 ? "missing: " + lacking_
                                 : fmt::format("missing: {} and {} more", lacking_, lacks_ - 1)});
  }

  const Host& host_;
  std::optional<std::string> options_;
  Diagnosis out_;
  std::string lacking_;
  std::size_t lacks_ = 0;
};

const char* mark(State state) {
  switch (state) {
    case State::kGood:
      return "ok";
    case State::kMissing:
      return "MISSING";
    case State::kWorse:
      break;
  }
  return "note";
}

}  // namespace

bool Diagnosis::any_usable() const noexcept {
  return std::any_of(backends.begin(), backends.end(),
                     [](const BackendFinding& backend) { return backend.usable; });
}

Diagnosis diagnose(const Host& host, const std::string& device) {
  return Examination(host).run(device);
}

std::string doctor_text(const Diagnosis& diagnosis) {
  std::string text;
  for (const Finding& f : diagnosis.findings) {
    text += fmt::format("{:<8}{}: {}", mark(f.state), f.about, f.what);
    if (!f.fix.empty()) text += " -> " + f.fix;
    text += "\n";
  }
  for (const BackendFinding& backend : diagnosis.backends) {
    text += fmt::format("backend {:<8} {:<10} ({})\n", backend.name,
                        backend.usable ? "usable" : "not usable", backend.why);
  }
  return text;
}

std::string doctor_json(const Diagnosis& diagnosis) {
  nlohmann::ordered_json out;
  out["findings"] = nlohmann::ordered_json::array();
  for (const Finding& f : diagnosis.findings) {
    const char* state = f.state == State::kGood      ? "good"
                        : f.state == State::kMissing ? "missing"
                                                     : "worse";
    out["findings"].push_back(
        {{"about", f.about}, {"state", state}, {"what", f.what}, {"fix", f.fix}});
  }
  out["backends"] = nlohmann::ordered_json::array();
  for (const BackendFinding& backend : diagnosis.backends) {
    out["backends"].push_back(
        {{"name", backend.name}, {"usable", backend.usable}, {"why", backend.why}});
  }
  return out.dump(2) + "\n";
}

}  // namespace faultline
