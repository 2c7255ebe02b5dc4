// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "apps/session/descriptor_limit.h"
#include "apps/session/guest_host.h"
#include "apps/session/guest_names.h"
#include "apps/session/guest_parts.h"
#include "apps/session/keeper.h"
#include "apps/session/kept_guest.h"
#include "apps/session/spare_fds.h"
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

  /// null: there is none
  [[nodiscard]] Guest* find(const std::string& name) {
    const auto at = guests_.find(name);
    return at == guests_.end() ? nullptr : at->second.get();
  }

  struct Started {
    Fd journal;            ///< to be read by its VMM
    bool goes_on = false;  ///< where a journal that was passed stood
  };
  /// paused   not to be served before resume()
  /// errors   as GuestHost::add(); the guest is then made as before
  Result<Started> start(Guest& guest, bool paused = false);
  /// A guest that this user may take over. errors  none that lingers, another user's, a wrong token
  Result<Guest*> find_lingering(const std::string& name, const std::string& token,
                                std::uint64_t session, unsigned uid);
  void take_over(Guest& guest, std::uint64_t session) { guest.session = session; }
  Result<void> remove(Guest& guest);

  // With a guest that is served, all or nothing through GuestHost::replace(). They return its new
  // journal, to be read by its VMM; none of a guest that is not served, or where all descriptors of
  // the service are in use.
  Result<Fd> add_memory(Guest& guest, OwnedMemory memory);
  Result<Fd> remove_memory(Guest& guest, Gpa gpa, std::uint64_t bytes);
  Result<Fd> add_device(Guest& guest, OwnedDevice device);
  Result<Fd> remove_device(Guest& guest, const std::string& name);

  Result<void> pause(Guest& guest);
  Result<void> resume(Guest& guest);
  Result<void> reset(Guest& guest);
  /// errors  more than the operator's; a budget that was asked for before stays
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
  /// Of all guests of a user, by descriptor_limit.h. cost: O(guests, their devices)
  [[nodiscard]] std::uint64_t descriptors_of(unsigned uid) const {
    std::uint64_t n = 0;
    for (const auto& [name, guest] : guests_) {
      if (guest->state.uid == uid) n += session::descriptors_of(guest->parts);
    }
    return n;
  }
  [[nodiscard]] std::size_t lingering() const { return guests_of(0); }
  [[nodiscard]] GuestNames names() const;

 private:
  Result<void> restore_one(const std::string& name, Generations& generations, Nanos now);
  /// What the host has of a guest that it serves, duplicated.
  struct Taken {
    Fd journal;
    std::string objects;
    std::vector<Fd> object_fds;
    void move_to(GuestParts& parts);
  };
  /// Have the host serve the guest as its parts are now.
  Result<Fd> reshape(Guest& guest);
  Result<Taken> take_from_host(const std::string& name, int journal, SpareFds& spare);
  /// Have the host serve a guest that it has not. errors  the host then has nothing of it
  Result<Taken> add_to_host(GuestRequest request);
  /// After an error, with its parts as before: the host may have had to pause it.
  void learn_whether_paused(Guest& guest);
  /// spare   made before, of which the record may take one
  void keep(Guest& guest, SpareFds spare = {});
  void forget(const std::vector<std::string>& names);

  GuestHost* host_;
  Keeper* keeper_;
  Log log_;
  std::map<std::string, std::unique_ptr<Guest>> guests_;
};

/// 128 random bits in hexadecimal.
[[nodiscard]] std::string make_token();

}  // namespace faultline::session
