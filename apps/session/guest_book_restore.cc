// SPDX-License-Identifier: BSD-3-Clause
// What GuestBook makes of the guests of an earlier life.
#include <algorithm>
#include <cerrno>
#include <utility>

#include "apps/session/guest_book.h"
#include "apps/session/guest_budget.h"
#include "apps/session/sealed.h"

namespace faultline::session {
namespace {

constexpr std::size_t kMostRecord = 1 << 20;

}  // namespace

unsigned GuestBook::restore(std::vector<KeptFd> kept, Nanos now) {
  std::vector<std::string> names;
  for (const KeptFd& k : kept) names.push_back(k.name);
  unsigned restored = 0;
  for (auto& [name, generations] : by_guest(std::move(kept))) {
    if (auto ok = restore_one(name, generations, now); !ok) {
      log_("guest " + name + " of an earlier life is let go: " + ok.error().message());
    } else {
      ++restored;
    }
  }
  forget(names);
  return restored;
}

Result<void> GuestBook::restore_one(const std::string& name, Generations& generations, Nanos now) {
  // The newest that is whole.
  const auto at = std::find_if(generations.rbegin(), generations.rend(), [](const auto& entry) {
    return entry.second.contains(kRecordPart);
  });
  if (at == generations.rend()) return fail(EINVAL, "it has no record");
  auto record = read_text(at->second[kRecordPart], kMostRecord);
  if (!record) return tl::unexpected(std::move(record.error()));
  auto restored = restore_guest(*record, at->second);
  if (!restored) return tl::unexpected(std::move(restored.error()));
  if (restored->parts.name != name) return fail(EINVAL, "its record is another guest's");
  GuestParts& parts = restored->parts;
  if (!parts.budget.is_null()) {
    if (auto ok = read_budget(name, parts.budget, kAnyBudget); !ok) {
      log_(ok.error().message() + "; it has the operator's");
      parts.budget = nullptr;
    }
  }
  auto request = parts.request();
  if (!request) return tl::unexpected(std::move(request.error()));
  request->paused = restored->state.paused;
  auto taken = add_to_host(std::move(*request));
  if (!taken) return tl::unexpected(std::move(taken.error()));
  auto guest = std::make_unique<Guest>();
  guest->parts = std::move(parts);
  guest->state = std::move(restored->state);
  taken->move_to(guest->parts);
  guest->served = true;
  guest->left_at = now;
  guest->generation = generations.rbegin()->first;  // the next one is newer than all that is kept
  keep(*guest);
  guests_.emplace(name, std::move(guest));
  return {};
}

}  // namespace faultline::session
