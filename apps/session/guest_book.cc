// SPDX-License-Identifier: BSD-3-Clause
#include "apps/session/guest_book.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/random.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <utility>

#include "apps/session/guest_budget.h"
#include "apps/session/sealed.h"
#include "engine/journal.h"

namespace faultline::session {
namespace {

constexpr std::uint64_t kRegisterBytes = 0x20000;
/// Descriptors that a guest takes once its host has it: the journal, twice, and the record.
constexpr std::size_t kSpare = 3;

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

void GuestBook::Taken::move_to(GuestParts& parts) {
  parts.journal = std::move(journal);
  parts.objects = std::move(objects);
  parts.object_fds = std::move(object_fds);
}

Result<GuestBook::Taken> GuestBook::take_from_host(const std::string& name, int journal,
                                                   SpareFds& spare) {
  Taken out;
  auto copy = spare.duplicate(journal);
  if (!copy) return fail(std::move(copy.error()), "guest " + name + ": keep its journal");
  out.journal = std::move(*copy);
  auto objects = host_->objects(name);
  if (!objects) return tl::unexpected(std::move(objects.error()));
  for (const int fd : objects->fds) {
    auto file = spare.duplicate(fd);
    if (!file) return fail(std::move(file.error()), "guest " + name + ": keep its kernel objects");
    out.object_fds.push_back(std::move(*file));
  }
  out.objects = std::move(objects->record);
  return out;
}

Result<GuestBook::Taken> GuestBook::add_to_host(GuestRequest request) {
  const std::string name = request.name;
  auto journal = host_->add(std::move(request));
  if (!journal) return tl::unexpected(std::move(journal.error()));
  SpareFds none;
  auto taken = take_from_host(name, *journal, none);
  if (!taken) (void)host_->remove(name);
  return taken;
}

Result<GuestBook::Started> GuestBook::start(Guest& guest, bool paused) {
  const std::string& name = guest.parts.name;
  const bool goes_on = in_use(guest.parts.journal);
  if (guest.served) return fail(EALREADY, "guest " + name + " is served already");
  if (guest.parts.devices.empty()) {
    return fail(EINVAL, "guest " + name + " has no device: device.add comes before start");
  }
  auto request = guest.parts.request();
  if (!request) return tl::unexpected(std::move(request.error()));
  request->paused = paused;
  auto taken = add_to_host(std::move(*request));
  if (!taken) return tl::unexpected(std::move(taken.error()));
  auto shown = read_only(taken->journal.get());
  if (!shown) {
    (void)host_->remove(name);
    return fail(std::move(shown.error()), "guest " + name + ": show its journal");
  }
  taken->move_to(guest.parts);
  guest.state.paused = paused;
  guest.served = true;
  keep(guest);
  if (goes_on) log_("guest " + name + " goes on where its journal stood");
  return Started{std::move(*shown), goes_on};
}

Result<Guest*> GuestBook::find_lingering(const std::string& name, const std::string& token,
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

Result<Fd> GuestBook::reshape(Guest& guest) {
  if (!guest.served) return Fd();
  GuestParts& parts = guest.parts;
  auto request = parts.request();
  if (!request) return tl::unexpected(std::move(request.error()));
  request->paused = guest.state.paused;
  auto spare = SpareFds::make(kSpare + parts.object_fds.size());
  if (!spare) return fail(std::move(spare.error()), "guest " + parts.name);
  auto journal = host_->replace(std::move(*request));
  if (!journal) return tl::unexpected(std::move(journal.error()));
  // From here on it has another shape: nothing may be kept, or shown, that is of the one before.
  Taken now;
  auto taken = take_from_host(parts.name, *journal, *spare);
  if (taken) {
    now = std::move(*taken);
  } else {
    log_(taken.error().message() + "; it would not outlive the service");
  }
  now.move_to(parts);
  spare->give_up_one();
  auto shown = parts.journal ? read_only(parts.journal.get()) : Result<Fd>(Fd());
  if (!shown) log_("guest " + parts.name + ": show its journal: " + shown.error().message());
  keep(guest, std::move(*spare));
  return shown ? std::move(*shown) : Fd();
}

void GuestBook::learn_whether_paused(Guest& guest) {
  if (!guest.served) return;
  const engine::EngineSnapshot now = host_->snapshot();
  const auto at = std::ranges::find(now.guests, guest.parts.name, &engine::GuestSnapshot::name);
  if (at == now.guests.end() || at->paused == guest.state.paused) return;
  guest.state.paused = at->paused;
  keep(guest);
}

Result<Fd> GuestBook::add_memory(Guest& guest, OwnedMemory memory) {
  guest.parts.memory.push_back(std::move(memory));
  auto ok = reshape(guest);
  if (ok) return ok;
  guest.parts.memory.pop_back();
  learn_whether_paused(guest);
  return ok;
}

Result<Fd> GuestBook::remove_memory(Guest& guest, Gpa gpa, std::uint64_t bytes) {
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
  if (ok) return ok;
  memory.insert(memory.begin() + index, std::move(gone));
  learn_whether_paused(guest);
  return ok;
}

Result<Fd> GuestBook::add_device(Guest& guest, OwnedDevice device) {
  guest.parts.devices.push_back(std::move(device));
  auto ok = reshape(guest);
  if (ok) return ok;
  guest.parts.devices.pop_back();
  learn_whether_paused(guest);
  return ok;
}

Result<Fd> GuestBook::remove_device(Guest& guest, const std::string& name) {
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
  if (ok) return ok;
  devices.insert(devices.begin() + index, std::move(gone));
  learn_whether_paused(guest);
  return ok;
}

Result<void> GuestBook::pause(Guest& guest) {
  if (auto ok = host_->pause(guest.parts.name); !ok) return ok;
  guest.state.paused = true;
  keep(guest);
  return {};
}

Result<void> GuestBook::reset(Guest& guest) {
  auto ok = host_->reset(guest.parts.name);
  if (!ok) learn_whether_paused(guest);
  return ok;
}

Result<void> GuestBook::resume(Guest& guest) {
  if (auto ok = host_->resume(guest.parts.name); !ok) return ok;
  guest.state.paused = false;
  keep(guest);
  return {};
}

Result<void> GuestBook::set_budget(Guest& guest, const nlohmann::json& budget) {
  auto allowed = read_budget(guest.parts.name, budget, host_->most());
  if (!allowed) return tl::unexpected(std::move(allowed.error()));
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

void GuestBook::keep(Guest& guest, SpareFds spare) {
  const std::vector<std::string> old = std::exchange(guest.kept, {});
  const std::string& name = guest.parts.name;
  ++guest.generation;
  const auto hold = [&](const std::string& part, int fd) {
    guest.kept.push_back(kept_name(name, guest.generation, part));
    keeper_->keep(guest.kept.back(), fd);
  };
  for (const auto& [part, fd] : named_fds(guest.parts)) hold(part, fd);
  spare.give_up_one();
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

}  // namespace faultline::session
