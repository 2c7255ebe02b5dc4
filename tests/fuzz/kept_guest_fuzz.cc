// SPDX-License-Identifier: BSD-3-Clause
// What a supervisor hands to a service that was restarted: descriptors under any names, records of
// any text. A guest is served again only as it was, with its own descriptors of one generation;
// what is not whole is let go with a line, and nothing is left open.
#include <array>
#include <iterator>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "apps/session/close.h"
#include "apps/session/guest_book.h"
#include "apps/session/kept_guest.h"
#include "tests/fuzz/session_world.h"

namespace faultline::fuzz {
namespace {

using nlohmann::json;
using session::Fd;

/// A file that says what it is.
Fd file_of(const std::string& text) {
  Fd fd(::memfd_create("kept", MFD_CLOEXEC));
  hold(::pwrite(fd.get(), text.data(), text.size(), 0) == static_cast<ssize_t>(text.size()),
       "no file");
  return fd;
}
std::string text_of(int fd) {
  std::array<char, 256> text{};
  const ssize_t n = ::pread(fd, text.data(), text.size(), 0);
  hold(n >= 0, "a descriptor of a guest that is closed");
  return {text.data(), static_cast<std::size_t>(n)};
}

/// Holds descriptors, as systemd does.
class HoldingKeeper final : public session::Keeper {
 public:
  void keep(const std::string& name, int fd) override {
    hold(name.size() <= 200, "a name that is too long to be kept");
    hold(held_.emplace(name, Fd(::fcntl(fd, F_DUPFD_CLOEXEC, 3))).second, "a name is kept twice");
  }
  void forget(const std::string& name) override { held_.erase(name); }
  /// Duplicates, for the next life.
  [[nodiscard]] std::vector<session::KeptFd> hand_out() const {
    std::vector<session::KeptFd> out;
    for (const auto& [name, fd] : held_) out.push_back({name, fd.duplicate()->release()});
    return out;
  }
  [[nodiscard]] std::size_t held() const noexcept { return held_.size(); }

 private:
  std::map<std::string, Fd> held_;
};

/// Every descriptor of a guest is its own and of the same generation.
class Whole {
 public:
  static void check(const session::GuestRequest& r) {
    Whole whole(r.name);
    hold(session::name_ok(r.name), "a name that no guest may have");
    for (std::size_t i = 0; i < r.memory.size(); ++i) {
      whole.is("m" + std::to_string(i), r.memory[i].memfd);
    }
    for (std::size_t i = 0; i < r.devices.size(); ++i) {
      for (std::size_t k = 0; k < r.devices[i].fds.size(); ++k) {
        whole.is("d" + std::to_string(i) + "." + std::to_string(k), r.devices[i].fds[k]);
      }
    }
    for (std::size_t i = 0; i < r.backend_fds.size(); ++i) {
      whole.is("b" + std::to_string(i), r.backend_fds[i]);
    }
    for (std::size_t i = 0; i < r.routes.size(); ++i) {
      whole.is("r" + std::to_string(i), r.routes[i].eventfd);
    }
    for (const auto& [part, fd] : {std::pair{"evtq", r.evtq_eventfd},
                                   {"gerror", r.gerror_eventfd},
                                   {"sync", r.sync_eventfd},
                                   {"doorbell", r.doorbell_eventfd},
                                   {"arm", r.arm_eventfd},
                                   {"armed", r.armed_eventfd}}) {
      if (fd >= 0) whole.is(part, fd);
    }
    for (std::size_t i = 0; i < r.object_fds.size(); ++i) {
      whole.is("o" + std::to_string(i), r.object_fds[i]);
    }
    hold(!r.objects.empty() || r.object_fds.empty(), "files of objects that there are not");
    hold(r.journal >= 0, "a guest without its journal");
    whole.is("journal", r.journal);
  }

 private:
  explicit Whole(std::string guest) : guest_(std::move(guest)) {}
  void is(const std::string& part, int fd) {
    const std::string text = text_of(fd);
    const std::string begin = "g/" + guest_ + "/";
    const std::string end = "/" + part;
    hold(text.starts_with(begin) && text.ends_with(end) &&
             text.size() > begin.size() + end.size() - 1,
         "a descriptor that is another one's");
    const std::string generation = text.substr(begin.size(), text.rfind('/') - begin.size());
    if (!generation_) generation_ = generation;
    hold(generation == *generation_, "descriptors of two generations");
  }

  std::string guest_;
  std::optional<std::string> generation_;
};

json any_value(Input& in) {
  switch (in.byte() % 10) {
    case 0:
      return nullptr;
    case 1:
      return -1;
    case 2:
      return in.u64();
    case 3:
      return json::array();
    case 4:
      return json::object();
    case 5:
      return json::array({1, "a", json::object()});
    case 6:
      return "h";
    case 7:
      return "a\nb";
    case 8:
      return 0.5;
    default:
      return in.byte() % 4;
  }
}

/// One field of an object, or of an object in a list of it, is another one or gone.
void bend(json& object, Input& in) {
  if (!object.is_object() || object.empty()) return;
  const auto at = std::next(object.begin(), static_cast<long>(in.below(object.size())));
  if (at->is_array() && !at->empty() && in.flag()) return bend((*at)[in.below(at->size())], in);
  if (in.flag()) {
    object.erase(at);
  } else {
    *at = any_value(in);
  }
}

session::GuestParts any_parts(const std::string& name, Input& in) {
  session::GuestParts parts;
  parts.name = name;
  parts.registers = Gpa{0x40000000};
  parts.mode = in.flag() ? engine::RegisterMode::kTrapped : engine::RegisterMode::kExitless;
  parts.vcpus = {0, 7};
  const std::uint8_t shape = in.byte();
  for (unsigned i = 0; i <= shape % 3U; ++i) {
    parts.memory.push_back({Gpa{0x40000000 + 0x100000 * i}, 0x100000, 0, file_of("")});
  }
  for (unsigned i = 0; i <= shape / 4U % 3U; ++i) {
    session::OwnedDevice d;
    d.name = "0000:01:00." + std::to_string(i);
    d.vsid = StreamId{8 + i};
    for (unsigned k = 0; k < 2; ++k) d.fds.push_back(file_of(""));
    parts.devices.push_back(std::move(d));
  }
  parts.backend_fds.push_back(file_of(""));
  for (unsigned i = 0; i < shape / 16U % 3U; ++i) {
    parts.routes.push_back({Gpa{0x8080040}, i, file_of("")});
  }
  if (shape >= 0xc0) {
    parts.objects = "what the host made";
    for (unsigned i = 0; i <= shape % 2U; ++i) parts.object_fds.push_back(file_of(""));
  }
  const std::uint8_t wires = in.byte();
  Fd* const all[] = {&parts.evtq,     &parts.gerror, &parts.sync,
                     &parts.doorbell, &parts.arm,    &parts.armed};
  for (std::size_t i = 0; i < std::size(all); ++i) {
    if ((wires >> i & 1) != 0) *all[i] = file_of("");
  }
  if ((wires & 0x40) != 0) parts.budget = {{"weight", 2}};
  if ((wires & 0x80) == 0) parts.journal = file_of("");
  return parts;
}

class Run {
 public:
  explicit Run(Input in) : in_(in), before_(open_descriptors()) {}

  void play() {
    {
      HoldingKeeper keeper;
      for (unsigned n = 1 + in_.byte() % 4U; n > 0; --n) add_generation(keeper);
      if (in_.flag()) add_any(keeper);
      // What the supervisor holds is what it hands out.
      const bool refuse = in_.byte() % 8 == 0;
      const std::size_t first = live(keeper, refuse, false);
      if (!refuse) {
        hold(live(keeper, false, true) == first, "a guest that is not kept for another life");
      }
      hold(keeper.held() == 0, "a name that is kept for no guest");
    }
    session::wait_until_closed();
    hold(open_descriptors() == before_, "a descriptor leaks");
  }

 private:
  void add_generation(HoldingKeeper& keeper) {
    static constexpr const char* kNames[] = {"g", "g", "h", "a b", "a\nb", ""};
    static constexpr const char* kNumbers[] = {"1", "2", "3", "01", "4294967295", "x", ""};
    const std::string name = kNames[in_.byte() % std::size(kNames)];
    const std::string number = kNumbers[in_.byte() % std::size(kNumbers)];
    const session::GuestParts parts = any_parts(name, in_);
    session::KeptState state;
    state.token = "secret";
    state.paused = in_.flag();
    json record = json::parse(session::record_of(parts, state));
    for (unsigned n = in_.byte() % 4U; n > 0; --n) bend(record, in_);
    const std::string begin = "g/" + name + "/" + number + "/";
    const unsigned drop = in_.byte();  // one of them, mostly none
    unsigned i = 0;
    for (const auto& [part, fd] : session::named_fds(parts)) {
      if (++i != drop) add(keeper, begin + part, file_of(begin + part));
    }
    if (drop == 0xff) return;
    const std::string text = record.dump(-1, ' ', true, json::error_handler_t::replace);
    add(keeper, begin + "record", file_of(drop == 0xfe ? text.substr(0, text.size() / 2) : text));
  }

  void add_any(HoldingKeeper& keeper) {
    std::string name(in_.byte() % 24, '\0');
    in_.fill(name.data(), name.size());
    std::string text(in_.byte(), '\0');
    in_.fill(text.data(), text.size());
    add(keeper, name, file_of(text));
  }

  void add(HoldingKeeper& keeper, const std::string& name, const Fd& fd) {
    if (names_.insert(name).second) keeper.keep(name, fd.get());
  }

  /// A service's life. returns  guests that it served again
  static std::size_t live(HoldingKeeper& keeper, bool refuse, bool ends) {
    StrictHost host;
    host.promised = Whole::check;
    host.refuse = refuse;
    session::GuestBook book(host, keeper, [](const std::string& line) { hold_one_line(line); });
    const std::size_t restored = book.restore(keeper.hand_out(), 1);
    hold(book.lingering() == restored && host.guests() == restored,
         "who is served and who lingers");
    hold(!refuse || restored == 0, "a guest that the host refused");
    if (ends) {
      host.refuse = false;
      book.expire(2, 1);
      hold(host.guests() == 0 && book.lingering() == 0, "a guest stays behind");
    }
    return restored;
  }

  Input in_;
  std::size_t before_;
  std::set<std::string> names_;
};

}  // namespace
}  // namespace faultline::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  faultline::fuzz::Run({data, size}).play();
  return 0;
}
