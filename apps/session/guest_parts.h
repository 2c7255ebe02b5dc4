// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "apps/session/fd.h"
#include "apps/session/guest_host.h"
#include "apps/session/request.h"
#include "apps/session/server.h"
#include "kernel/base/result.h"

namespace faultline::session {

struct OwnedMemory {
  Gpa gpa;
  std::uint64_t bytes = 0;
  std::uint64_t offset = 0;
  Fd memfd;
};

struct OwnedDevice {
  std::string name;
  StreamId vsid;
  std::uint32_t host_sid = 0;
  std::vector<Fd> fds;
};

struct OwnedRoute {
  Gpa address;
  std::uint32_t data = 0;
  Fd eventfd;
};

/// All that a VMM said of a guest, with the descriptors that it passed. The engine gets duplicates,
/// so that the guest can be taken on again: with a device more, or after a restart.
struct GuestParts {
  std::string name;
  Gpa registers;
  engine::RegisterMode mode = engine::RegisterMode::kExitless;
  std::vector<unsigned> vcpus;
  std::vector<OwnedMemory> memory;
  std::vector<OwnedDevice> devices;
  std::vector<Fd> backend_fds;
  Fd evtq, gerror, sync, doorbell, arm, armed;
  std::vector<OwnedRoute> routes;
  nlohmann::json budget;  ///< as it was asked for; null: the service's default
  std::string objects;    ///< KeptObjects, once it is served
  std::vector<Fd> object_fds;
  Fd journal;  ///< the live one once it is served; before that one of an earlier life

  /// errors  no more descriptors to be had; a budget that is none
  [[nodiscard]] Result<GuestRequest> request() const;
};

[[nodiscard]] bool name_ok(const std::string& name);

// The parts of a guest out of the fields of their methods. Nothing of `parts` has changed after an
// error, which is one line.

/// guest.add: everything that is not of another method. The journal that it may come with is
/// copied: who passed it may still write there.
Result<GuestParts> read_guest(Fields& fields, const FdCounts& counts);
Result<void> read_interrupts(Fields& fields, GuestParts& parts);
/// returns  the piece; it overlaps none of `parts` and is sealed
Result<OwnedMemory> read_memory(Fields& fields, const GuestParts& parts,
                                const SessionLimits& limits);
Result<OwnedDevice> read_device(Fields& fields, const GuestParts& parts, const FdCounts& counts,
                                const SessionLimits& limits);

}  // namespace faultline::session
