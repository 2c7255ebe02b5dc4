// SPDX-License-Identifier: BSD-3-Clause
#include "apps/session/guest_book.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/random.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <utility>

#include "apps/session/sealed.h"
#include "engine/journal.h"

namespace faultline::session {
namespace {

constexpr std::uint64_t kRegisterBytes = 0x20000;
constexpr std::size_t kMostRecord = 1 << 20;

/// Without a shortcut on the first byte that differs.
bool same_secret(const std::string& a, const std::string& b) noexcept {
  if (a.size() != b.size()) return false;
  unsigned difference = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    difference |= static_cast<unsigned>(static_cast<unsigned char>(a[i] ^ b[i]));
  }
  return difference == 0;
}

bool holds_registers(const OwnedMemory& m, Gpa registers) {
  return m.gpa < registers + kRegisterBytes && registers < m.gpa + m.bytes;
}

/// Of a journal that a VMM passed.
bool in_use(const Fd& journal) {
  if (!journal) return false;
  auto opened = engine::Journal::open(journal.get());
  return opened && opened->in_use();
}

}  // namespace

std::string make_token() {
  std::array<unsigned char, 16> bytes{};
  // With 16 bytes it is neither interrupted nor short.
  if (::getrandom(bytes.data(), bytes.size(), 0) != static_cast<ssize_t>(bytes.size())) return {};
  std::string out;
  for (const unsigned char b : bytes) out += fmt::format("{:02x}", b);
  return out;
}

Result<Guest*> GuestBook::add(GuestParts parts, std::uint64_t session, unsigned uid) {
  const std::string name = parts.name;
  if (guests_.contains(name)) return fail(EEXIST, "guest " + name + " is there already");
  auto guest = std::make_unique<Guest>();
  guest->parts = std::move(parts);
  guest->state.token = make_token();
  guest->state.uid = uid;
  guest->session = session;
  if (guest->state.token.empty()) return fail(EAGAIN, "guest " + name + ": no random numbers");
  return guests_.emplace(name, std::move(guest)).first->second.get();
}

Result<Guest*> GuestBook::of_session(const std::string& name, std::uint64_t session) {
  const auto at = guests_.find(name);
  // Of another session's guest no more is said than of none.
  if (at == guests_.end() || at->second->session != session) {
    return fail(ENOENT, "this session has no guest " + name);
  }
  return at->second.get();
}

Result<Guest*> GuestBook::served_of(const std::string& name, std::uint64_t session) {
  auto guest = of_session(name, session);
  if (guest && !(*guest)->served) return fail(EINVAL, "guest " + name + " is not started");
  return guest;
}

Result<void> GuestBook::take_from_host(Guest& guest, int journal) {
  GuestParts& parts = guest.parts;
  Fd copy(::fcntl(journal, F_DUPFD_CLOEXEC, 3));
  if (!copy) return fail(errno, "guest " + parts.name + ": keep its journal");
  auto objects = host_->objects(parts.name);
  if (!objects) return tl::unexpected(std::move(objects.error()));
  std::vector<Fd> files;
  for (const int fd : objects->fds) {
    files.emplace_back(::fcntl(fd, F_DUPFD_CLOEXEC, 3));
    if (!files.back()) return fail(errno, "guest " + parts.name + ": keep its kernel objects");
  }
  parts.journal = std::move(copy);
  parts.objects = std::move(objects->record);
  parts.object_fds = std::move(files);
  return {};
}

Result<bool> GuestBook::start(Guest& guest) {
  const std::string& name = guest.parts.name;
  const bool goes_on = in_use(guest.parts.journal);
  if (guest.served) return fail(EALREADY, "guest " + name + " is served already");
  if (guest.parts.devices.empty()) {
    return fail(EINVAL, "guest " + name + " has no device: device.add comes before start");
  }
  auto request = guest.parts.request();
  if (!request) return tl::unexpected(std::move(request.error()));
  auto journal = host_->add(std::move(*request));
  if (!journal) return tl::unexpected(std::move(journal.error()));
  Result<void> ok = take_from_host(guest, *journal);
  if (ok && !guest.parts.budget.is_null()) ok = host_->set_budget(name, guest.parts.budget);
  if (!ok) {
    (void)host_->remove(name);
    return tl::unexpected(std::move(ok.error()));
  }
  guest.served = true;
  keep(guest);
  if (goes_on) log_("guest " + name + " goes on where its journal stood");
  return goes_on;
}

Result<Guest*> GuestBook::attach(const std::string& name, const std::string& token,
                                 std::uint64_t session, unsigned uid) {
  const auto at = guests_.find(name);
  if (at == guests_.end()) return fail(ENOENT, "no guest " + name + " lingers here");
  Guest& guest = *at->second;
  // Who is not its user learns nothing.
  if (guest.state.uid != uid || !same_secret(guest.state.token, token)) {
    return fail(EPERM, "no guest " + name + " lingers here for this user and token");
  }
  if (guest.session == session) {
    return fail(EALREADY, "guest " + name + " is this session's already");
  }
  if (guest.session != 0) return fail(EBUSY, "guest " + name + " is another session's");
  guest.session = session;
  return &guest;
}

Result<void> GuestBook::remove(Guest& guest) {
  const std::string name = guest.parts.name;
  if (guest.served) {
    if (auto ok = host_->remove(name); !ok) return ok;
  }
  forget(guest.kept);
  guests_.erase(name);
  return {};
}

Result<void> GuestBook::reshape(Guest& guest) {
  if (!guest.served) return {};
  auto request = guest.parts.request();
  if (!request) return tl::unexpected(std::move(request.error()));
  request->paused = guest.state.paused;
  auto journal = host_->replace(std::move(*request));
  if (!journal) return tl::unexpected(std::move(journal.error()));
  if (auto ok = take_from_host(guest, *journal); !ok) log_(ok.error().message());
  keep(guest);
  return {};
}

Result<void> GuestBook::add_memory(Guest& guest, OwnedMemory memory) {
  guest.parts.memory.push_back(std::move(memory));
  auto ok = reshape(guest);
  if (!ok) guest.parts.memory.pop_back();
  return ok;
}

Result<void> GuestBook::remove_memory(Guest& guest, Gpa gpa, std::uint64_t bytes) {
  std::vector<OwnedMemory>& memory = guest.parts.memory;
  const std::string where = fmt::format("guest {}: memory at {:#x}", guest.parts.name, gpa.value);
  const auto at = std::ranges::find_if(
      memory, [&](const OwnedMemory& m) { return m.gpa == gpa && m.bytes == bytes; });
  if (at == memory.end()) return fail(ENOENT, fmt::format("{} of {} bytes: none", where, bytes));
  if (guest.served && holds_registers(*at, guest.parts.registers)) {
    return fail(EBUSY, where + " holds the registers of a served guest");
  }
  const auto index = at - memory.begin();
  OwnedMemory gone = std::move(*at);
  memory.erase(at);
  auto ok = reshape(guest);
  if (!ok) memory.insert(memory.begin() + index, std::move(gone));
  return ok;
}

Result<void> GuestBook::add_device(Guest& guest, OwnedDevice device) {
  guest.parts.devices.push_back(std::move(device));
  auto ok = reshape(guest);
  if (!ok) guest.parts.devices.pop_back();
  return ok;
}

Result<void> GuestBook::remove_device(Guest& guest, const std::string& name) {
  std::vector<OwnedDevice>& devices = guest.parts.devices;
  const std::string where = "guest " + guest.parts.name + ": device " + name;
  const auto at = std::ranges::find(devices, name, &OwnedDevice::name);
  if (at == devices.end()) return fail(ENOENT, where + ": none");
  if (guest.served && devices.size() == 1) {
    return fail(EBUSY, where + " is the only one of a served guest; use guest.remove");
  }
  const auto index = at - devices.begin();
  OwnedDevice gone = std::move(*at);
  devices.erase(at);
  auto ok = reshape(guest);
  if (!ok) devices.insert(devices.begin() + index, std::move(gone));
  return ok;
}

Result<void> GuestBook::pause(Guest& guest) {
  if (auto ok = host_->pause(guest.parts.name); !ok) return ok;
  guest.state.paused = true;
  keep(guest);
  return {};
}

Result<void> GuestBook::resume(Guest& guest) {
  if (auto ok = host_->resume(guest.parts.name); !ok) return ok;
  guest.state.paused = false;
  keep(guest);
  return {};
}

Result<void> GuestBook::set_budget(Guest& guest, const nlohmann::json& budget) {
  if (guest.served) {
    if (auto ok = host_->set_budget(guest.parts.name, budget); !ok) return ok;
  }
  guest.parts.budget = budget;
  if (guest.served) keep(guest);
  return {};
}

GuestBook::Left GuestBook::session_ended(std::uint64_t session, bool goodbye, Nanos now) {
  std::vector<Guest*> gone;
  Left left;
  for (auto& [name, guest] : guests_) {
    if (guest->session != session) continue;
    guest->session = 0;
    guest->left_at = now;
    if (goodbye || !guest->served) {
      gone.push_back(guest.get());
    } else {
      ++left.linger;
    }
  }
  left.let_go = gone.size();
  for (Guest* guest : gone) {
    const std::string name = guest->parts.name;
    if (auto ok = remove(*guest); !ok) log_("guest " + name + ": " + ok.error().message());
  }
  return left;
}

void GuestBook::expire(Nanos now, Nanos linger) {
  std::vector<Guest*> gone;
  for (auto& [name, guest] : guests_) {
    if (guest->session == 0 && now - guest->left_at >= linger) gone.push_back(guest.get());
  }
  for (Guest* guest : gone) {
    const std::string name = guest->parts.name;
    guest->left_at = now;  // after an error it is tried again, as late as this time
    if (auto ok = remove(*guest); !ok) {
      log_("guest " + name + ": " + ok.error().message());
    } else {
      log_("guest " + name + ": nobody came back for it; removed");
    }
  }
}

std::size_t GuestBook::guests_of(std::uint64_t session) const {
  return static_cast<std::size_t>(std::ranges::count_if(
      guests_, [&](const auto& entry) { return entry.second->session == session; }));
}

GuestNames GuestBook::names() const {
  GuestNames out;
  for (const auto& [name, guest] : guests_) {
    if (!guest->served) out.made.push_back(name);
    if (guest->session == 0) out.lingering.push_back(name);
  }
  return out;
}

void GuestBook::keep(Guest& guest) {
  const std::vector<std::string> old = std::exchange(guest.kept, {});
  const std::string& name = guest.parts.name;
  ++guest.generation;
  const auto hold = [&](const std::string& part, int fd) {
    guest.kept.push_back(kept_name(name, guest.generation, part));
    keeper_->keep(guest.kept.back(), fd);
  };
  for (const auto& [part, fd] : named_fds(guest.parts)) hold(part, fd);
  auto record = sealed_text("guest-" + name, record_of(guest.parts, guest.state));
  if (record) {
    hold(kRecordPart, record->get());
  } else {
    log_("guest " + name + ": it would not outlive the service: " + record.error().message());
  }
  forget(old);
}

void GuestBook::forget(const std::vector<std::string>& names) {
  // The record first: what is left of a generation without one is nothing.
  for (auto at = names.rbegin(); at != names.rend(); ++at) keeper_->forget(*at);
}

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
  auto request = restored->parts.request();
  if (!request) return tl::unexpected(std::move(request.error()));
  request->paused = restored->state.paused;
  auto journal = host_->add(std::move(*request));
  if (!journal) return tl::unexpected(std::move(journal.error()));
  auto guest = std::make_unique<Guest>();
  guest->parts = std::move(restored->parts);
  guest->state = std::move(restored->state);
  if (auto ok = take_from_host(*guest, *journal); !ok) {
    (void)host_->remove(name);
    return ok;
  }
  guest->served = true;
  guest->left_at = now;
  guest->generation = generations.rbegin()->first;  // the next one is newer than all that is kept
  if (!guest->parts.budget.is_null()) {
    if (auto ok = host_->set_budget(name, guest->parts.budget); !ok) log_(ok.error().message());
  }
  keep(*guest);
  guests_.emplace(name, std::move(guest));
  return {};
}

}  // namespace faultline::session
