// SPDX-License-Identifier: BSD-3-Clause
// hot path: one guest's operations into the seed's ioctls.
#pragma once

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "kernel/backend.h"
#include "kernel/base/units.h"
#include "kernel/operation.h"
#include "kernel/sys.h"
#include "kernel/uapi/vfio_nested.h"
#include "kernel/vfio/asid_set.h"
#include "kernel/vfio/container.h"
#include "kernel/vfio/invalidate.h"
#include "kernel/vfio/profile.h"

namespace faultline::vfio {

/// The InvalidationSink of a guest on the seed's interface: one container per device.
///
///              documented kernel              v7 as it was (KernelProfile)
///   kTlbAll    DOMAIN × IOTLB                 PASID × IOTLB for every ASID seen
///   kTlbAsid   PASID × IOTLB                  the same
///   kTlbVa     ADDR × IOTLB                   the same
///   kTlbVaa    DOMAIN × IOTLB, or ADDR ×      ADDR × IOTLB for every ASID seen
///              IOTLB when one ASID is live
///   kCfgCd     PASID × PASID cache            stage 1 bound again: the host's CFGI_STE covers CDs
///   kCfgCdAll  DOMAIN × PASID cache           the same
///   kAtcInv    ADDR or PASID × DEV_IOTLB      nothing: the kernel does it with the TLB's
///
/// v7 has no way to remove global entries other than by address: there, kTlbAll leaves those of a
/// guest that makes its stage-1 mappings global (Linux does not).
///
/// Routing: an operation by ASID goes to the containers where a context descriptor with that ASID
/// was noted; one that was never noted goes to all of them. Notes are never taken back: a cached
/// entry may outlive its descriptor. An operation by StreamID goes to that device; for one that the
/// guest does not have it succeeds without a call.
///
/// thread   submit and note_asid: the shard of the guest's CommandDuty; set_stage1: the cold lane
///          while that queue is parked
template <Syscalls Sys>
class Sink {
 public:
  struct Target {
    Container<Sys>* container = nullptr;  ///< must outlive the sink
    StreamId vsid;                        ///< what the guest calls the device
  };

  /// targets   in the order of the guest's device indices
  /// profile   what every one of the containers can do
  Sink(std::span<const Target> targets, const KernelProfile& profile) : profile_(profile) {
    devices_.reserve(targets.size());
    for (const Target& t : targets) devices_.emplace_back(t);
    for (std::size_t i = 0; i < devices_.size(); ++i) by_sid_.push_back({targets[i].vsid.value, i});
    std::sort(by_sid_.begin(), by_sid_.end());
  }

  [[nodiscard]] SinkCaps caps() const noexcept { return profile_.caps(); }

  /// Do them all, in order; the first failure ends it and nothing may be assumed of any.
  ///
  /// cost     one ioctl per operation and container concerned
  /// errors   SubmitResult::error = the positive errno
  SubmitResult submit(std::span<const Operation> ops) noexcept {
    SubmitResult result;
    for (const Operation& op : ops) {
      const int rc = submit_one(op, result.calls);
      if (rc < 0) {
        result.error = -rc;
        break;
      }
    }
    result.host_syncs = result.calls;
    return result;
  }

  void note_asid(std::size_t device, std::uint16_t asid) noexcept {
    if (device >= devices_.size()) return;
    devices_[device].asids.add(asid);
    noted_.add(asid);
  }

  /// Bind, replace or stop the stage 1 of one device, and remember it for binding it again.
  SubmitResult set_stage1(std::size_t device, const Stage1Config& config) noexcept {
    if (device >= devices_.size()) return {.error = ENODEV};
    Bound& d = devices_[device];
    const int rc = d.container->bind_stage1(config);
    // After a failure the kernel keeps what it had, and so do we: replacing is all or nothing.
    if (rc >= 0) d.stage1 = config;
    return {.error = rc < 0 ? -rc : 0, .calls = 1, .host_syncs = 1};
  }

 private:
  static constexpr std::uint64_t kMostGranules = KernelProfile::kMostGranules;

  struct Bound {
    explicit Bound(const Target& t) : container(t.container) {}
    Container<Sys>* container;
    std::optional<Stage1Config> stage1;  ///< what this sink bound; none: an earlier one may have
    AsidSet asids;                       ///< of context descriptors seen
  };

  int submit_one(const Operation& op, std::uint32_t& calls) noexcept {
    switch (op.kind) {
      case OperationKind::kTlbAll:
        return tlb_all(calls);
      case OperationKind::kTlbAsid:
        return on_asid(op.asid, [&](Bound& d) {
          return send(d, Invalidation::pasid(uapi::kIommuCacheInvTypeIotlb, op.asid), calls);
        });
      case OperationKind::kTlbVa:
        return on_asid(op.asid, [&](Bound& d) { return addresses(d, op, op.asid, calls); });
      case OperationKind::kTlbVaa:
        return vaa(op, calls);
      case OperationKind::kCfgCd:
      case OperationKind::kCfgCdAll:
        return on_sid(op.sid, [&](Bound& d) { return descriptors(d, op, calls); });
      case OperationKind::kAtcInv:
        if (!profile_.dev_iotlb) return 0;
        return on_sid(op.sid, [&](Bound& d) { return atc(d, op, calls); });
    }
    return -EINVAL;
  }

  int send(Bound& d, const Invalidation& invalidation, std::uint32_t& calls) noexcept {
    ++calls;
    return d.container->invalidate(invalidation);
  }

  template <class F>
  int on_all(F f) noexcept {
    for (Bound& d : devices_) {
      if (const int rc = f(d); rc < 0) return rc;
    }
    return 0;
  }

  template <class F>
  int on_asid(std::uint16_t asid, F f) noexcept {
    const bool known = noted_.has(asid);
    if (!known && !profile_.tlb_domain) orphans_.add(asid);
    return on_all([&](Bound& d) { return known && !d.asids.has(asid) ? 0 : f(d); });
  }

  template <class F>
  int on_sid(std::uint32_t sid, F f) noexcept {
    auto at = std::lower_bound(by_sid_.begin(), by_sid_.end(), std::pair(sid, std::size_t{0}));
    for (; at != by_sid_.end() && at->first == sid; ++at) {
      if (const int rc = f(devices_[at->second]); rc < 0) return rc;
    }
    return 0;
  }

  int tlb_all(std::uint32_t& calls) noexcept {
    if (profile_.tlb_domain) {
      return on_all([&](Bound& d) {
        return send(d, Invalidation::domain(uapi::kIommuCacheInvTypeIotlb), calls);
      });
    }
    const int rc = on_all([&](Bound& d) {
      return on_every_asid(d, [&](std::uint16_t asid) {
        return send(d, Invalidation::pasid(uapi::kIommuCacheInvTypeIotlb, asid), calls);
      });
    });
    // ASIDs that only commands named: nothing of them is left now, and a guest that names them all
    // must not make every later flush of everything dear.
    if (rc >= 0) orphans_.clear();
    return rc;
  }

  /// Every ASID that may have entries in this container.
  template <class F>
  int on_every_asid(Bound& d, F f) noexcept {
    const int rc = d.asids.for_each(f);
    if (rc < 0) return rc;
    return orphans_.for_each([&](std::uint16_t asid) { return d.asids.has(asid) ? 0 : f(asid); });
  }

  int vaa(const Operation& op, std::uint32_t& calls) noexcept {
    return on_all([&](Bound& d) {
      // One live ASID: its address range is exact, and takes the global entries along.
      if (profile_.tlb_domain && d.asids.size() != 1) {
        return send(d, Invalidation::domain(uapi::kIommuCacheInvTypeIotlb), calls);
      }
      return on_every_asid(d, [&](std::uint16_t asid) { return addresses(d, op, asid, calls); });
    });
  }

  int addresses(Bound& d, const Operation& op, std::uint16_t asid, std::uint32_t& calls) noexcept {
    if (op.pages == 0 || op.granule_log2 >= 64) return -EINVAL;
    if (profile_.tlb_domain && op.pages > kMostGranules) {
      return send(d, Invalidation::domain(uapi::kIommuCacheInvTypeIotlb), calls);
    }
    const std::uint64_t granule = std::uint64_t{1} << op.granule_log2;
    std::uint64_t addr = op.addr;
    for (std::uint64_t left = op.pages; left > 0;) {
      const std::uint64_t n = std::min(left, kMostGranules);
      const int rc = send(d,
                          Invalidation::addresses(uapi::kIommuCacheInvTypeIotlb, true, asid, addr,
                                                  granule, n, op.leaf),
                          calls);
      if (rc < 0) return rc;
      left -= n;
      addr += n * granule;
    }
    return 0;
  }

  int descriptors(Bound& d, const Operation& op, std::uint32_t& calls) noexcept {
    // Only a translating stream has context descriptors that could be cached. What a sink before a
    // restart bound is not known here, and may be one.
    if (d.stage1 && d.stage1->mode != Stage1Config::Mode::kTranslate) return 0;
    if (!profile_.cd_cache) {
      // Whoever resumes with such a kernel binds again first; so nothing was ever bound.
      if (!d.stage1) return 0;
      ++calls;
      return d.container->bind_stage1(*d.stage1);
    }
    const auto cache = uapi::kIommuCacheInvTypePasid;
    return send(d,
                op.kind == OperationKind::kCfgCdAll ? Invalidation::domain(cache)
                                                    : Invalidation::pasid(cache, op.ssid),
                calls);
  }

  int atc(Bound& d, const Operation& op, std::uint32_t& calls) noexcept {
    const auto cache = uapi::kIommuCacheInvTypeDevIotlb;
    const std::uint64_t ssid = op.ssid_valid ? op.ssid : 0;
    if (op.pages == 0 || op.granule_log2 >= 64) {
      return send(d, Invalidation::pasid(cache, ssid), calls);
    }
    return send(d,
                Invalidation::addresses(cache, op.ssid_valid, ssid, op.addr,
                                        std::uint64_t{1} << op.granule_log2, op.pages, false),
                calls);
  }

  std::vector<Bound> devices_;
  std::vector<std::pair<std::uint32_t, std::size_t>> by_sid_;  ///< sorted
  KernelProfile profile_;
  AsidSet noted_;    ///< of any context descriptor of any device
  AsidSet orphans_;  ///< named by commands since the last flush of all, by no descriptor
};

static_assert(InvalidationSink<Sink<LinuxSys>>);

}  // namespace faultline::vfio
