// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "engine/guest_spec.h"
#include "kernel/base/result.h"
#include "kernel/base/units.h"

namespace faultline {

/// One assigned device as the host knows it.
struct HostDevice {
  std::string name;    ///< PCI address
  unsigned group = 0;  ///< /dev/vfio/<group>
  std::uint32_t host_sid = 0;
  StreamId vsid;  ///< what the guest calls it
};

/// One guest as its VMM knows it: memory, interrupts, devices. Descriptors are plain numbers of
/// this process; whoever made them closes them.
struct HostGuest {
  std::string name;
  int memfd = -1;
  std::size_t bytes = 0;   ///< of RAM; the register page is its end
  void* memory = nullptr;  ///< where RAM is mapped here
  int evtq_eventfd = -1;
  int gerror_eventfd = -1;
  std::vector<HostDevice> devices;

  static constexpr Gpa kBase{0x4000'0000};
  static constexpr std::size_t kRegisterBytes = 0x20000;
  [[nodiscard]] Gpa registers() const noexcept { return kBase + (bytes - kRegisterBytes); }
};

/// Guests with their devices named and numbered, and nothing else yet.
///
/// guests, devices   how many, and devices of each
/// vsids             of the devices of a guest, the same for all guests
std::vector<HostGuest> make_guests(unsigned guests, const std::vector<StreamId>& vsids);

/// Lock all mapped memory of the guests into RAM.
///
/// errors   the limit is too low: one line with what is needed
Result<void> lock_memory(const std::vector<HostGuest>& guests);

/// Make the memfd (sealed against shrinking) and the eventfds; does not map.
///
/// errors   what memfd_create, ftruncate, fcntl and eventfd say
Result<void> make_descriptors(HostGuest& guest);
void close_descriptors(HostGuest& guest) noexcept;

/// How the engine is told of it.
engine::GuestSpec spec_of(const HostGuest& guest, engine::PolicyKind policy,
                          const merge::MergeOptions& merge = {});

}  // namespace faultline
