// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <cerrno>
#include <cstddef>
#include <optional>
#include <utility>
#include <vector>

#include "apps/session/served_guests.h"

namespace faultline::session {

// How ServedGuests gives a guest another shape.

template <class KernelGuest>
Result<int> ServedGuests<KernelGuest>::replace(GuestRequest request) {
  if constexpr (kHasObjects) {
    OwnedRequest refused(std::move(request));
    return fail(ENOTSUP, "guest " + refused->name +
                             ": on iommufd, devices and memory do not change while it is served: "
                             "guest.remove, and add it again");
  }
  auto next = std::make_unique<Served>(std::move(request));
  Served& g = *next;
  const std::string name = g.request->name;
  auto found = find(name);
  if (!found) return tl::unexpected(std::move(found.error()));
  Served& old = **found;
  if (auto ok = check(g); !ok) return tl::unexpected(std::move(ok.error()));
  const bool same = engine::identity_of(g.spec) == old.journal->identity();
  auto journal =
      same ? engine::Journal::open(old.journal->memfd()) : engine::create_journal(g.spec);
  if (!journal) return fail(std::move(journal.error()), "guest " + name);
  if (auto ok = open(g, std::move(*journal)); !ok) return tl::unexpected(std::move(ok.error()));
  if (auto ok = leave(old); !ok) return tl::unexpected(std::move(ok.error()));
  Result<void> ok;
  if (!same) ok = hand_over(old, g);
  g.spec.budget = old.spec.budget;
  if (ok) ok = old.paused ? check_parked(g) : enter(g);
  if (!ok) {
    if (!old.paused) {
      if (auto back = enter(old); !back) ok = park(old, std::move(ok.error()));
    }
    note_parked(old);
    return tl::unexpected(std::move(ok.error()));
  }
  g.paused = old.paused;
  g.asked = old.asked;
  note_parked(g);
  const int memfd = g.journal->memfd();
  guests_[name] = std::move(next);
  return memfd;
}

/// Between two sets of devices: the journal, and the stage 1 of those that leave. Their guest's
/// invalidations do not reach them any more, so they abort; nothing else would keep them from
/// translations that the guest was told are gone.
///
/// errors  the old guest's journal then says that these are to be bound again
template <class KernelGuest>
Result<void> ServedGuests<KernelGuest>::hand_over(Served& old, Served& g) {
  const auto was = devices_before(g.spec, old.spec);
  carry_journal(*old.journal, *g.journal, was);
  std::vector<bool> stays(old.spec.devices.size());
  for (const std::optional<std::size_t>& before : was) {
    if (before) stays[*before] = true;
  }
  engine::CommandJournal bound = old.journal->command();
  auto sink = old.kernel->sink();
  for (std::size_t i = 0; i < stays.size(); ++i) {
    Stage1Config config;
    const bool translates =
        bound.stage1(i, config) && config.mode == Stage1Config::Mode::kTranslate;
    if (stays[i] || !(translates || bound.attaching(i))) continue;
    bound.mark_attaching(i);
    if (const int error = sink.set_stage1(i, {.mode = Stage1Config::Mode::kAbort}).error) {
      return fail(error, "guest " + g.spec.name + ": device " + old.spec.devices[i].name +
                             ": stop its translation");
    }
  }
  return {};
}

}  // namespace faultline::session
