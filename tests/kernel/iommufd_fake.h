// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "kernel/uapi/iommufd_nested.h"
#include "kernel/uapi/vfio_cdev.h"
#include "tests/support/scripted_sys.h"

namespace faultline::testing {

/// Mainline's iommufd with an SMMUv3 and VFIO devices in front of it, written down from the
/// kernel's source (7.2) and from what a real one did; knobs make it older, poorer or err.
class FakeIommufd {
 public:
  struct Device {
    int fd = -1;
    std::uint32_t id = 0;  ///< 0: not bound
    std::uint32_t attached = 0;
    std::uint64_t vsid = 0;  ///< of its vDEVICE
    bool has_vdevice = false;
  };
  enum class Kind { kIoas, kParent, kNested, kViommu, kVdevice, kVeventq, kFaultQueue };
  struct Thing {
    Thing(Kind k, std::vector<std::uint32_t> u, int f = -1) : kind(k), uses(std::move(u)), fd(f) {}
    Kind kind;
    std::vector<std::uint32_t> uses;
    int fd;                 ///< of a queue
    std::uint32_t dev = 0;  ///< of a vDEVICE
    uapi::iommu_hwpt_arm_smmuv3 ste{};
    bool faults = false;
  };
  using Command = uapi::iommu_viommu_arm_smmuv3_invalidate;

  // ---- knobs ----
  std::size_t devices_there = 4;
  std::uint32_t hw_type = uapi::kIommuHwInfoTypeArmSmmuv3;
  std::uint32_t idr[6] = {0x0d44101b, 0x02730010, 0, 0x00001414, 0, 0x00000074};
  bool coherent = true;       ///< CANWBS or S2FWB
  bool single_stream = true;  ///< one StreamID for each device
  std::size_t iova_ranges = 2;
  std::set<std::uint64_t> refused_commands;  ///< opcodes that this kernel does not take
  std::set<std::uint32_t> vtd_tables;        ///< nested tables of a VT-d

  // ---- what happened ----
  std::map<std::uint32_t, Thing> things;
  std::map<std::uint64_t, std::uint64_t> mapped;  ///< GPA: size
  std::vector<Command> issued;                    ///< with the guest's SIDs
  std::vector<uapi::iommu_hwpt_vtd_s1_invalidate> vtd_issued;
  std::vector<std::uint32_t> array_sizes;
  std::vector<std::uint32_t> attached;  ///< each table that a device got, in order
  unsigned host_syncs = 0;
  unsigned detaches = 0;
  std::vector<Device> devices = std::vector<Device>(4);

  explicit FakeIommufd(ScriptedSys& sys) : sys_(sys) {
    sys.on_open = [this](const std::string& path) { return open(path); };
    sys.on_ioctl = [this](int fd, unsigned long r, void* a) { return ioctl(fd, r, a); };
  }

  [[nodiscard]] std::size_t count(Kind kind) const {
    return static_cast<std::size_t>(std::count_if(
        things.begin(), things.end(), [&](const auto& t) { return t.second.kind == kind; }));
  }
  /// The table in front of a device; null: blocked.
  [[nodiscard]] const Thing* table_of(std::size_t device) {
    sweep();
    const auto at = things.find(devices[device].attached);
    return at == things.end() ? nullptr : &at->second;
  }

 private:
  int open(const std::string& path) {
    if (path == "/dev/iommu") return iommufd_ = sys_.new_fd();
    const std::string prefix = "/dev/vfio/devices/vfio";
    if (path.rfind(prefix, 0) != 0) return -ENOENT;
    const std::size_t n = std::stoul(path.substr(prefix.size()));
    if (n >= devices_there) return -ENOENT;
    sweep();
    if (devices[n].fd >= 0) return -EBUSY;
    return devices[n].fd = sys_.new_fd();
  }

  /// Files that were closed since: closing one detaches and unbinds its device.
  void sweep() {
    for (Device& d : devices) {
      if (d.fd >= 0 && !sys_.is_open(d.fd)) d = Device{};
    }
  }

  int ioctl(int fd, unsigned long request, void* argument) {
    sweep();
    for (Device& d : devices) {
      if (d.fd == fd) return device_ioctl(d, request, argument);
    }
    return fd == iommufd_ ? iommufd_ioctl(request, argument) : -ENOTTY;
  }

  int device_ioctl(Device& d, unsigned long request, void* argument) {
    using namespace uapi;
    if (request == kVfioDeviceBindIommufd) {
      auto& b = *static_cast<vfio_device_bind_iommufd*>(argument);
      if (b.argsz < sizeof b || b.flags != 0 || d.id != 0) return -EINVAL;
      if (b.iommufd != iommufd_) return -EBADF;
      b.out_devid = d.id = next_++;
      return 0;
    }
    if (request == kVfioDeviceAttachIommufdPt) {
      auto& a = *static_cast<vfio_device_attach_iommufd_pt*>(argument);
      const auto t = things.find(a.pt_id);
      if (a.argsz < sizeof a || a.flags != 0 || d.id == 0) return -EINVAL;
      if (t == things.end()) return -ENOENT;
      if (t->second.kind != Kind::kNested) return -EINVAL;
      if ((t->second.ste.ste[0] >> 1 & 7) == 5 && !d.has_vdevice) return -ENOENT;
      if (t->second.faults && (idr[0] >> 24 & 3) == 1) return -EOPNOTSUPP;
      d.attached = a.pt_id;
      attached.push_back(a.pt_id);
      return 0;
    }
    if (request == kVfioDeviceDetachIommufdPt) {
      ++detaches;
      d.attached = 0;
      return 0;
    }
    return -ENOTTY;
  }

  int iommufd_ioctl(unsigned long request, void* argument) {
    using namespace uapi;
    switch (request) {
      case kIommuDestroy:
        return destroy(static_cast<iommu_destroy*>(argument)->id);
      case kIommuIoasAlloc:
        return give(static_cast<iommu_ioas_alloc*>(argument)->out_ioas_id, {Kind::kIoas, {}});
      case kIommuIoasMap: {
        const auto& m = *static_cast<iommu_ioas_map*>(argument);
        return map(m.ioas_id, m.flags, m.iova, m.length);
      }
      case kIommuIoasMapFile: {
        const auto& m = *static_cast<iommu_ioas_map_file*>(argument);
        return m.fd < 0 ? -EBADF : map(m.ioas_id, m.flags, m.iova, m.length);
      }
      case kIommuIoasUnmap: {
        auto& u = *static_cast<iommu_ioas_unmap*>(argument);
        const auto at = mapped.find(u.iova);
        if (at == mapped.end() || at->second > u.length) return -ENOENT;
        u.length = at->second;
        mapped.erase(at);
        return 0;
      }
      case kIommuIoasIovaRanges: {
        auto& r = *static_cast<iommu_ioas_iova_ranges*>(argument);
        auto* out = reinterpret_cast<iommu_iova_range*>(r.allowed_iovas);
        for (std::size_t i = 0; i < std::min<std::size_t>(iova_ranges, r.num_iovas); ++i) {
          out[i] = {i << 30U, (i << 30U) + 0x7ffffff};
        }
        const bool fits = iova_ranges <= r.num_iovas;
        r.num_iovas = static_cast<std::uint32_t>(iova_ranges);
        r.out_iova_alignment = 4096;
        return fits ? 0 : -EMSGSIZE;
      }
      case kIommuGetHwInfo:
        return hw_info(*static_cast<iommu_hw_info*>(argument));
      case kIommuHwptAlloc:
        return hwpt(*static_cast<iommu_hwpt_alloc*>(argument));
      case kIommuViommuAlloc: {
        auto& a = *static_cast<iommu_viommu_alloc*>(argument);
        if (a.type != kIommuViommuTypeArmSmmuv3 || a.flags != 0 || !coherent) return -EOPNOTSUPP;
        if (!is(a.hwpt_id, Kind::kParent) || device_of(a.dev_id) == nullptr) return -ENOENT;
        return give(a.out_viommu_id, {Kind::kViommu, {a.hwpt_id}});
      }
      case kIommuVdeviceAlloc:
        return vdevice(*static_cast<iommu_vdevice_alloc*>(argument));
      case kIommuVeventqAlloc: {
        auto& a = *static_cast<iommu_veventq_alloc*>(argument);
        if (a.veventq_depth == 0 || a.veventq_depth > kIommuVeventqMostDepth) return -EINVAL;
        if (!is(a.viommu_id, Kind::kViommu)) return -ENOENT;
        if (count(Kind::kVeventq) != 0) return -EEXIST;
        const int fd = sys_.new_fd();
        a.out_veventq_fd = static_cast<std::uint32_t>(fd);
        return give(a.out_veventq_id, {Kind::kVeventq, {a.viommu_id}, fd});
      }
      case kIommuFaultQueueAlloc: {
        auto& a = *static_cast<iommu_fault_alloc*>(argument);
        const int fd = sys_.new_fd();
        a.out_fault_fd = static_cast<std::uint32_t>(fd);
        return give(a.out_fault_id, {Kind::kFaultQueue, {}, fd});
      }
      case kIommuHwptInvalidate:
        return invalidate(*static_cast<iommu_hwpt_invalidate*>(argument));
      default:
        return -ENOTTY;
    }
  }

  int give(std::uint32_t& out, Thing thing) {
    things.emplace(next_, std::move(thing));
    out = next_++;
    return 0;
  }
  [[nodiscard]] bool is(std::uint32_t id, Kind kind) const {
    const auto at = things.find(id);
    return at != things.end() && at->second.kind == kind;
  }
  Device* device_of(std::uint32_t id) {
    for (Device& d : devices) {
      if (id != 0 && d.id == id) return &d;
    }
    return nullptr;
  }

  int destroy(std::uint32_t id) {
    const auto at = things.find(id);
    if (at == things.end()) return -ENOENT;
    for (const auto& [other, thing] : things) {
      if (std::count(thing.uses.begin(), thing.uses.end(), id) != 0) return -EBUSY;
    }
    for (const Device& d : devices) {
      if (d.attached == id) return -EBUSY;
    }
    if (at->second.fd >= 0 && sys_.is_open(at->second.fd)) return -EBUSY;
    if (Device* d = device_of(at->second.dev); d != nullptr) d->has_vdevice = false;
    if (at->second.kind == Kind::kIoas) mapped.clear();
    things.erase(at);
    return 0;
  }

  int map(std::uint32_t ioas, std::uint32_t flags, std::uint64_t iova, std::uint64_t length) {
    if (!is(ioas, Kind::kIoas)) return -ENOENT;
    if ((flags & uapi::kIommuIoasMapFixedIova) == 0 || length == 0 || (iova | length) % 4096 != 0) {
      return -EINVAL;
    }
    for (const auto& [at, size] : mapped) {
      if (iova < at + size && at < iova + length) return -EEXIST;
    }
    mapped[iova] = length;
    return 0;
  }

  int hw_info(uapi::iommu_hw_info& info) {
    if (device_of(info.dev_id) == nullptr) return -ENOENT;
    info.out_data_type = hw_type;
    auto* out = reinterpret_cast<unsigned char*>(info.data_uptr);
    if (hw_type == uapi::kIommuHwInfoTypeArmSmmuv3) {
      uapi::iommu_hw_info_arm_smmuv3 smmu{};
      std::memcpy(smmu.idr, idr, sizeof smmu.idr);
      std::memcpy(out, &smmu, std::min<std::size_t>(info.data_len, sizeof smmu));
    } else if (hw_type == uapi::kIommuHwInfoTypeIntelVtd) {
      const uapi::iommu_hw_info_vtd vtd{0, 0, 0xd2008c222f0686, 0xf050da};
      std::memcpy(out, &vtd, std::min<std::size_t>(info.data_len, sizeof vtd));
    }
    return 0;
  }

  int hwpt(uapi::iommu_hwpt_alloc& a) {
    using namespace uapi;
    if (device_of(a.dev_id) == nullptr) return -ENOENT;
    if (a.data_type == kIommuHwptDataNone) {
      if (!is(a.pt_id, Kind::kIoas)) return -ENOENT;
      const bool two_stages = (idr[0] & 3U) == 3;
      if (a.flags != kIommuHwptAllocNestParent || !two_stages) return -EOPNOTSUPP;
      return give(a.out_hwpt_id, {Kind::kParent, {a.pt_id}});
    }
    if (!is(a.pt_id, Kind::kViommu)) return -ENOENT;
    if (a.data_type != kIommuHwptDataArmSmmuv3 || a.data_len != 16) return -EOPNOTSUPP;
    Thing t{Kind::kNested, {a.pt_id}};
    std::memcpy(&t.ste, reinterpret_cast<void*>(a.data_uptr), sizeof t.ste);
    const std::uint64_t config = t.ste.ste[0] >> 1 & 7;
    const std::uint64_t eats = t.ste.ste[1] >> 28 & 3;
    if ((t.ste.ste[0] & ~0xf80fffffffffffffULL) != 0 || (t.ste.ste[1] & ~0x380000ffULL) != 0 ||
        (config != 0 && config != 4 && config != 5) || eats > 1) {
      return -EIO;
    }
    if ((a.flags & kIommuHwptFaultIdValid) != 0) {
      if (!is(a.fault_id, Kind::kFaultQueue)) return -ENOENT;
      t.faults = true;
      t.uses.push_back(a.fault_id);
    }
    return give(a.out_hwpt_id, std::move(t));
  }

  int vdevice(uapi::iommu_vdevice_alloc& a) {
    Device* d = device_of(a.dev_id);
    if (d == nullptr || !is(a.viommu_id, Kind::kViommu)) return -ENOENT;
    if (!single_stream) return -EOPNOTSUPP;
    for (const Device& other : devices) {
      if (other.has_vdevice && (&other == d || other.vsid == a.virt_id)) return -EEXIST;
    }
    d->vsid = a.virt_id;
    d->has_vdevice = true;
    Thing t{Kind::kVdevice, {a.viommu_id}};
    t.dev = a.dev_id;
    return give(a.out_vdevice_id, std::move(t));
  }

  /// As arm_vsmmu_validate_user_cmd() of 7.3: nothing outside the fields of the opcode.
  [[nodiscard]] bool taken(const Command& c) const {
    constexpr std::uint64_t kAsid = 0xffffULL << 48U, kVmid = 0xffffULL << 32U;
    constexpr std::uint64_t kRange = 0x1f1f000, kSid = 0xffffffffULL << 32U;
    constexpr std::uint64_t kSsid = 0xfffff000, kVa = ~0xfffULL | 0xf01;
    const std::map<std::uint64_t, std::pair<std::uint64_t, std::uint64_t>> fields = {
        {0x05, {kSid | kSsid, 1}},
        {0x06, {kSid, 0}},
        {0x10, {kVmid, 0}},
        {0x11, {kVmid | kAsid, 0}},
        {0x12, {kVmid | kAsid | kRange, kVa}},
        {0x13, {kVmid | kRange, kVa}},
        {0x30, {0, 0}},
        {0x40, {kSid | kSsid | 0xa00, ~0xfffULL | 0x3f}},
    };
    const auto f = fields.find(c.cmd[0] & 0xff);
    if (f == fields.end() || refused_commands.count(f->first) != 0) return false;
    if ((c.cmd[0] & ~(f->second.first | 0xff)) != 0 || (c.cmd[1] & ~f->second.second) != 0) {
      return false;
    }
    if (f->first != 0x05 && f->first != 0x06 && f->first != 0x40) return true;
    return std::any_of(devices.begin(), devices.end(),
                       [&](const Device& d) { return d.has_vdevice && d.vsid == c.cmd[0] >> 32U; });
  }

  int invalidate(uapi::iommu_hwpt_invalidate& i) {
    if (i.reserved != 0) return -EOPNOTSUPP;
    if (vtd_tables.count(i.hwpt_id) != 0) {
      if (i.data_type != 0 || i.entry_len != 24) return -EINVAL;
      const auto* e = reinterpret_cast<uapi::iommu_hwpt_vtd_s1_invalidate*>(i.data_uptr);
      array_sizes.push_back(i.entry_num);
      for (std::uint32_t n = 0; n < i.entry_num; ++n) {
        if (e[n].addr % 4096 != 0 || (e[n].npages == ~0ULL && e[n].addr != 0)) return -EINVAL;
        vtd_issued.push_back(e[n]);
      }
      return 0;
    }
    if (!is(i.hwpt_id, Kind::kViommu) || i.data_type != 1 || i.entry_len != 16 ||
        i.entry_num == 0) {
      return -EINVAL;
    }
    const auto* c = reinterpret_cast<const Command*>(i.data_uptr);
    array_sizes.push_back(i.entry_num);
    std::uint32_t sent = 0;
    for (std::uint32_t n = 0; n < i.entry_num; ++n) {
      if (!taken(c[n])) {
        i.entry_num = n;  // what stands in front of it and was not sent is counted as well
        return -EIO;
      }
      if (n + 1 - sent == 63 || n + 1 == i.entry_num) {
        issued.insert(issued.end(), c + sent, c + n + 1);
        sent = n + 1;
        ++host_syncs;
      }
    }
    return 0;
  }

  ScriptedSys& sys_;
  int iommufd_ = -1;
  std::uint32_t next_ = 1;
};

}  // namespace faultline::testing
