// SPDX-License-Identifier: BSD-3-Clause
// hot path: how the guest is told that something waits for it.
#pragma once

#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <span>

#include "engine/guest_spec.h"
#include "engine/viommu/guest_memory.h"
#include "kernel/base/shared.h"
#include "kernel/base/units.h"

namespace faultline::engine {

/// Who is told of an MSI whose address is no memory of the guest; -1: nobody.
/// cost  O(routes)
inline int route_of(std::span<const MsiRoute> routes, Gpa address, std::uint32_t data) noexcept {
  for (const MsiRoute& route : routes) {
    if (route.address == address && route.data == data) return route.eventfd;
  }
  return -1;
}

/// One interrupt of one guest: an MSI where the guest programmed one and its address is memory,
/// else the VMM's eventfd, which stands for the wire and for doorbells that are not memory.
///
/// thread  the shard that owns the duty; counters may be read by anybody with load_relaxed()
class Interrupt {
 public:
  Interrupt() = default;
  /// eventfd   -1: the VMM gave none
  explicit Interrupt(int eventfd) noexcept : eventfd_(eventfd) {}

  /// Take what the guest programmed. address 0: no MSI.
  ///
  /// routed   eventfd of route_of(), told in the place of the VMM's own; -1: none
  void program(Gpa address, std::uint32_t data, int routed = -1) noexcept {
    address_ = address;
    data_ = data;
    routed_ = routed;
  }

  /// Everything that the guest is to find was stored before.
  ///
  /// returns  whether somebody was told
  /// cost     an MSI: one store; an eventfd: one write(2)
  bool raise(const viommu::GuestMemory& memory) noexcept {
    store_relaxed(raised_, raised_ + 1);
    if (address_.value != 0 && memory.write32(address_, data_)) return true;
    if (tell(routed_ >= 0 ? routed_ : eventfd_)) return true;
    store_relaxed(unheard_, unheard_ + 1);
    return false;
  }

  /// Its VMM made the eventfd block (nudge.h): it is not written any more.
  [[nodiscard]] bool blocked() const noexcept { return load_relaxed(blocked_); }

  [[nodiscard]] const std::uint64_t& raised() const noexcept { return raised_; }
  /// Raised, but there was no way to tell anybody.
  [[nodiscard]] const std::uint64_t& unheard() const noexcept { return unheard_; }

 private:
  bool tell(int eventfd) noexcept {
    if (eventfd < 0 || blocked_) return false;
    const std::uint64_t one = 1;
    if (::write(eventfd, &one, sizeof one) == sizeof one) return true;
    // Which no call that cannot sleep ends with.
    if (errno == EINTR) [[unlikely]] {
      store_relaxed(blocked_, true);
    }
    return false;
  }

  int eventfd_ = -1;
  int routed_ = -1;
  bool blocked_ = false;
  std::uint32_t data_ = 0;
  Gpa address_;
  std::uint64_t raised_ = 0;
  std::uint64_t unheard_ = 0;
};

}  // namespace faultline::engine
