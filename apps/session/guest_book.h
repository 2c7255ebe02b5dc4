// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "apps/session/guest_host.h"
#include "apps/session/guest_names.h"
#include "apps/session/guest_parts.h"
#include "apps/session/keeper.h"
#include "apps/session/kept_guest.h"
#include "kernel/base/clock.h"
#include "kernel/base/result.h"

namespace faultline::session {

/// One guest that a VMM is putting together or that is served.
struct Guest {
  GuestParts parts;
  KeptState state;
  bool served = false;        ///< the host has it
  std::uint64_t session = 0;  ///< 0: it lingers
  Nanos left_at = 0;
  unsigned generation = 0;  ///< of what the keeper holds; 0: nothing
  std::vector<std::string> kept;
};

/// All guests of a service: whose they are, what the host has of them, what the keeper holds. The
/// host and the keeper always agree with it.
///
/// thread   the session thread
class GuestBook {
 public:
  using Log = std::function<void(const std::string&)>;

  GuestBook(GuestHost& host, Keeper& keeper, Log log)
      : host_(&host), keeper_(&keeper), log_(std::move(log)) {}

  /// errors  there is one of that name
  Result<Guest*> add(GuestParts parts, std::uint64_t session, unsigned uid);
  /// errors  there is none of that name, or it is another session's
  Result<Guest*> of_session(const std::string& name, std::uint64_t session);
  Result<Guest*> served_of(const std::string& name, std::uint64_t session);

  /// returns whether it goes on where a journal that was passed stood
  /// errors  as GuestHost::add(); the guest is then made as before
  Result<bool> start(Guest& guest);
  /// Take over a lingering guest. errors  none that lingers, another user's, a wrong token
  Result<Guest*> attach(const std::string& name, const std::string& token, std::uint64_t session,
                        unsigned uid);
  Result<void> remove(Guest& guest);

  // With a guest that is served, all or nothing through GuestHost::replace().
  Result<void> add_memory(Guest& guest, OwnedMemory memory);
  Result<void> remove_memory(Guest& guest, Gpa gpa, std::uint64_t bytes);
  Result<void> add_device(Guest& guest, OwnedDevice device);
  Result<void> remove_device(Guest& guest, const std::string& name);

  Result<void> pause(Guest& guest);
  Result<void> resume(Guest& guest);
  Result<void> set_budget(Guest& guest, const nlohmann::json& budget);

  struct Left {
    std::size_t linger = 0;
    std::size_t let_go = 0;
  };
  /// What a session leaves: made guests go, served ones linger; after a goodbye all go.
  Left session_ended(std::uint64_t session, bool goodbye, Nanos now);
  /// Let go of what has lingered longer.
  void expire(Nanos now, Nanos linger);

  /// returns  guests that are served again
  unsigned restore(std::vector<KeptFd> kept, Nanos now);

  [[nodiscard]] std::size_t guests_of(std::uint64_t session) const;
  [[nodiscard]] std::size_t lingering() const { return guests_of(0); }
  [[nodiscard]] GuestNames names() const;

 private:
  Result<void> restore_one(const std::string& name, Generations& generations, Nanos now);
  /// Have the host serve the guest as its parts are now.
  Result<void> reshape(Guest& guest);
  Result<void> take_from_host(Guest& guest, int journal);
  void keep(Guest& guest);
  void forget(const std::vector<std::string>& names);

  GuestHost* host_;
  Keeper* keeper_;
  Log log_;
  std::map<std::string, std::unique_ptr<Guest>> guests_;
};

/// 128 random bits in hexadecimal.
[[nodiscard]] std::string make_token();

}  // namespace faultline::session
