// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "apps/session/guest_host.h"
#include "engine/guest_spec.h"
#include "engine/journal.h"
#include "engine/viommu/feature_set.h"
#include "engine/viommu/guest_memory.h"
#include "engine/viommu/registers.h"
#include "kernel/base/result.h"

namespace faultline::session {

// What another engine has to know to go on with a guest, as JSON. Everything else is in the guest's
// memory or of the kernel that its devices leave: stage 1 is bound anew from the stream table,
// requests that the old kernel has open end with its devices, and new fault queues begin where they
// stand.

/// The register page of a guest, guarded while it is looked at.
struct GuardedRegisters {
  static Result<GuardedRegisters> of(const engine::GuestSpec& spec);
  viommu::GuestMemory memory;
  viommu::RegisterPage page;
};

/// Of a guest that nothing is polled for.
///
/// page      its registers; offered  those of them that say what it was shown
[[nodiscard]] std::string state_of(engine::Journal& journal, const viommu::RegisterPage& page,
                                   const viommu::IdRegisters& offered);

/// Make journal and registers those of another engine's guest. An engine that takes the guest on
/// with them recovers. Nothing is polled for the guest.
///
/// offered   the ID registers that this engine shows
/// errors    code EINVAL and one line: not a state, another version, another shape of guest, a
///           value that no journal may have, hardware that offers something else. Everything is
///           then as it was
[[nodiscard]] Result<void> take_state(engine::Journal& journal, const viommu::RegisterPage& page,
                                      const viommu::IdRegisters& offered, const std::string& state);

/// Of each device of a guest: its index before, by its StreamID and name.
[[nodiscard]] std::vector<std::optional<std::size_t>> devices_before(const engine::GuestSpec& now,
                                                                     const engine::GuestSpec& old);

/// Have a guest with other devices go on: everything of its old journal that is not a device's own.
/// Nothing is polled for it.
///
/// was   of each device of `to`: its index in `from`; none: it is new
void carry_journal(engine::Journal& from, engine::Journal& to,
                   const std::vector<std::optional<std::size_t>>& was);

/// Where an engine may have written the guest's memory in the life of its journal: the register
/// page, event queues and MSIs, also where they were before. All of it, where that is too much to
/// be remembered (engine/written.h).
///
/// memory    of the guest
/// returns   multiples of 4 KiB inside of it, in order and disjoint
[[nodiscard]] std::vector<GpaRange> written_by(engine::Journal& journal, Gpa registers,
                                               std::span<const engine::MemoryRegion> memory);

/// What each device's stream is bound to.
[[nodiscard]] std::vector<StreamBinding> bindings_of(engine::Journal& journal);

/// As fresh, but for where the fault queues stand and which ASIDs the kernel may have cached.
void clear_journal(engine::Journal& journal) noexcept;

}  // namespace faultline::session
