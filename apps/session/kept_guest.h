// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "apps/session/guest_parts.h"
#include "apps/session/keeper.h"
#include "kernel/base/result.h"

namespace faultline::session {

// What a keeper holds of a served guest: each descriptor under a name, and a record that says what
// they are. Names are "g/<guest>/<generation>/<part>"; the record is kept last, so that a
// generation with a record is whole.

/// What a service knows of a guest besides its parts.
struct KeptState {
  std::string token;
  unsigned uid = 0;
  bool paused = false;
};

/// Descriptor of each part by its name, the record left out. They stay the parts'.
[[nodiscard]] std::vector<std::pair<std::string, int>> named_fds(const GuestParts& parts);

/// The record: JSON.
[[nodiscard]] std::string record_of(const GuestParts& parts, const KeptState& state);

[[nodiscard]] std::string kept_name(const std::string& guest, unsigned generation,
                                    const std::string& part);

/// A guest made of its record and its descriptors by part; those are taken out of `fds`.
///
/// errors  code EINVAL: no record of this version, a part that is not there
struct Restored {
  GuestParts parts;
  KeptState state;
};
[[nodiscard]] Result<Restored> restore_guest(const std::string& record,
                                             std::map<std::string, Fd>& fds);

/// Descriptors of a keeper by guest and generation. Those whose name is of no guest are closed.
using Generations = std::map<unsigned, std::map<std::string, Fd>>;
[[nodiscard]] std::map<std::string, Generations> by_guest(std::vector<KeptFd> kept);

inline constexpr const char* kRecordPart = "record";

}  // namespace faultline::session
