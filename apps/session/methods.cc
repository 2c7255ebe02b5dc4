// SPDX-License-Identifier: BSD-3-Clause
#include "apps/session/methods.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <string_view>
#include <utility>

#include "apps/session/guest_status.h"
#include "apps/session/sealed.h"

namespace faultline::session {
namespace {

using nlohmann::json;

constexpr unsigned kVersion = 1;
constexpr std::size_t kNameBytes = 64;
constexpr std::size_t kTokenBytes = 64;
constexpr std::size_t kStateBytes = 16384;

/// One request on its way to its method.
struct Call {
  Service& service;
  Session& session;
  Fields& fields;

  [[nodiscard]] GuestBook& guests() const { return *service.guests; }
  /// The guest that the field `guest` names, of this session.
  Result<Guest*> made() const {
    const std::string name = fields.text("guest", kNameBytes);
    if (!name_ok(name)) return none(name);
    return guests().of_session(name, session.id);
  }
  Result<Guest*> served() const {
    const std::string name = fields.text("guest", kNameBytes);
    if (!name_ok(name)) return none(name);
    return guests().served_of(name, session.id);
  }

 private:
  /// The field itself is what is wrong where there is one; else the name.
  Result<Guest*> none(const std::string& name) const {
    if (name.empty()) {
      if (auto ok = fields.finish(); !ok) return tl::unexpected(std::move(ok.error()));
    }
    return fail(ENOENT, "'guest' is not the name of a guest");
  }
};

tl::unexpected<Error> pass(Error error) {
  return tl::unexpected<Error>(std::move(error));
}

Result<Reply> done(Result<void> ok) {
  if (!ok) return pass(std::move(ok.error()));
  return Reply{};
}

const char* state_name(const Guest& guest) {
  if (!guest.served) return "made";
  return guest.state.paused ? "paused" : "served";
}

Result<Reply> hello(Call& call);

Result<Reply> guest_add(Call& call) {
  const SessionLimits& limits = call.service.options->limits;
  if (call.guests().guests_of(call.session.id) >= limits.guests_per_session) {
    return fail(EINVAL, fmt::format("guest.add: the session has {} guests, which is the limit",
                                    limits.guests_per_session));
  }
  auto parts = read_guest(call.fields, call.service.host->fd_counts());
  if (!parts) return pass(std::move(parts.error()));
  auto guest = call.guests().add(std::move(*parts), call.session.id, call.session.peer.uid);
  if (!guest) return pass(std::move(guest.error()));
  Reply reply;
  reply.result["token"] = (*guest)->state.token;
  return reply;
}

/// The journal of a served guest beside the answer, where there is one.
Result<Reply> with_journal(Result<Fd> journal, json result = json::object()) {
  if (!journal) return pass(std::move(journal.error()));
  Reply reply;
  reply.result = std::move(result);
  if (!*journal) return reply;
  reply.result["journal"] = 0;
  reply.fds.push_back(std::move(*journal));
  return reply;
}

Result<Reply> memory_add(Call& call) {
  auto guest = call.made();
  if (!guest) return pass(std::move(guest.error()));
  auto memory = read_memory(call.fields, (*guest)->parts, call.service.options->limits);
  if (!memory) return pass(std::move(memory.error()));
  return with_journal(call.guests().add_memory(**guest, std::move(*memory)));
}

Result<Reply> memory_remove(Call& call) {
  auto guest = call.made();
  if (!guest) return pass(std::move(guest.error()));
  const Gpa gpa{call.fields.number("gpa", kMostAddress)};
  const std::uint64_t bytes = call.fields.number("bytes", kMostAddress);
  if (auto ok = call.fields.finish_request(); !ok) return pass(std::move(ok.error()));
  return with_journal(call.guests().remove_memory(**guest, gpa, bytes));
}

Result<Reply> device_add(Call& call) {
  auto guest = call.made();
  if (!guest) return pass(std::move(guest.error()));
  auto device = read_device(call.fields, (*guest)->parts, call.service.host->fd_counts(),
                            call.service.options->limits);
  if (!device) return pass(std::move(device.error()));
  return with_journal(call.guests().add_device(**guest, std::move(*device)));
}

Result<Reply> device_remove(Call& call) {
  auto guest = call.made();
  if (!guest) return pass(std::move(guest.error()));
  const std::string name = call.fields.text("name", kNameBytes);
  if (auto ok = call.fields.finish_request(); !ok) return pass(std::move(ok.error()));
  return with_journal(call.guests().remove_device(**guest, name));
}

Result<Reply> interrupts(Call& call) {
  auto guest = call.made();
  if (!guest) return pass(std::move(guest.error()));
  if ((*guest)->served) {
    return fail(EBUSY, "guest " + (*guest)->parts.name + " is served; its interrupts stay");
  }
  return done(read_interrupts(call.fields, (*guest)->parts));
}

Result<Reply> start(Call& call) {
  auto guest = call.made();
  if (!guest) return pass(std::move(guest.error()));
  const bool paused = call.fields.flag("paused", false);
  if (auto ok = call.fields.finish_request(); !ok) return pass(std::move(ok.error()));
  auto started = call.guests().start(**guest, paused);
  if (!started) return pass(std::move(started.error()));
  if (started->goes_on) ++call.service.counters->reattached;
  return with_journal(std::move(started->journal));
}

Result<Reply> guest_attach(Call& call) {
  const std::string name = call.fields.text("guest", kNameBytes);
  const std::string token = call.fields.text("token", kTokenBytes);
  if (auto ok = call.fields.finish_request(); !ok) return pass(std::move(ok.error()));
  if (!name_ok(name)) return fail(ENOENT, "'guest' is not the name of a guest");
  const SessionLimits& limits = call.service.options->limits;
  if (call.guests().guests_of(call.session.id) >= limits.guests_per_session) {
    return fail(EINVAL, fmt::format("guest.attach: the session has {} guests, which is the limit",
                                    limits.guests_per_session));
  }
  auto guest = call.guests().find_lingering(name, token, call.session.id, call.session.peer.uid);
  if (!guest) return pass(std::move(guest.error()));
  const Fd& journal = (*guest)->parts.journal;
  auto reply = with_journal(journal ? read_only(journal.get()) : Result<Fd>(Fd()),
                            {{"state", state_name(**guest)}});
  if (!reply) return reply;
  call.guests().take_over(**guest, call.session.id);
  ++call.service.counters->reattached;
  return reply;
}

Result<Reply> guest_remove(Call& call) {
  auto guest = call.made();
  if (!guest) return pass(std::move(guest.error()));
  if (auto ok = call.fields.finish_request(); !ok) return pass(std::move(ok.error()));
  return done(call.guests().remove(**guest));
}

/// A method that has a served guest and no other field.
template <class Act>
Result<Reply> of_served(Call& call, Act&& act) {
  auto guest = call.served();
  if (!guest) return pass(std::move(guest.error()));
  if (auto ok = call.fields.finish_request(); !ok) return pass(std::move(ok.error()));
  return act(**guest);
}

Result<Reply> pause(Call& call) {
  return of_served(call, [&](Guest& guest) { return done(call.guests().pause(guest)); });
}
Result<Reply> resume(Call& call) {
  return of_served(call, [&](Guest& guest) { return done(call.guests().resume(guest)); });
}
Result<Reply> reset(Call& call) {
  return of_served(call, [&](Guest& guest) { return done(call.guests().reset(guest)); });
}

Result<Reply> get_state(Call& call) {
  return of_served(call, [&](Guest& guest) -> Result<Reply> {
    auto state = call.service.host->state(guest.parts.name);
    if (!state) return pass(std::move(state.error()));
    Reply reply;
    reply.result["state"] = std::move(*state);
    return reply;
  });
}

Result<Reply> set_state(Call& call) {
  auto guest = call.served();
  if (!guest) return pass(std::move(guest.error()));
  const std::string state = call.fields.text("state", kStateBytes);
  if (auto ok = call.fields.finish_request(); !ok) return pass(std::move(ok.error()));
  return done(call.service.host->set_state((*guest)->parts.name, state));
}

Result<Reply> stage1(Call& call) {
  return of_served(call, [&](Guest& guest) -> Result<Reply> {
    static constexpr std::array<const char*, 4> kModes = {"none", "abort", "bypass", "stage1"};
    auto bound = call.service.host->bindings(guest.parts.name);
    if (!bound) return pass(std::move(bound.error()));
    Reply reply;
    json& list = reply.result["devices"] = json::array();
    for (std::size_t i = 0; i < guest.parts.devices.size() && i < bound->size(); ++i) {
      const OwnedDevice& d = guest.parts.devices[i];
      list.push_back({{"name", d.name},
                      {"vsid", d.vsid.value},
                      {"mode", kModes[static_cast<std::size_t>((*bound)[i])]}});
    }
    return reply;
  });
}

Result<Reply> query(Call& call) {
  auto guest = call.made();
  if (!guest) return pass(std::move(guest.error()));
  if (auto ok = call.fields.finish_request(); !ok) return pass(std::move(ok.error()));
  Reply reply;
  const GuestParts& parts = (*guest)->parts;
  reply.result["state"] = state_name(**guest);
  describe(parts, reply.result);
  if (!(*guest)->served) return reply;
  const engine::EngineSnapshot now = call.service.host->snapshot();
  const auto at = std::ranges::find(now.guests, parts.name, &engine::GuestSnapshot::name);
  if (at != now.guests.end()) describe(*at, reply.result);
  return reply;
}

Result<Reply> budget(Call& call) {
  auto guest = call.made();
  if (!guest) return pass(std::move(guest.error()));
  json asked = json::object();
  for (const char* name : {"commands", "records", "submissions", "weight"}) {
    constexpr std::uint64_t kUnset = ~std::uint64_t{0};
    const std::uint64_t value = call.fields.number(name, 1U << 30U, kUnset);
    if (value != kUnset) asked[name] = value;
  }
  if (auto ok = call.fields.finish_request(); !ok) return pass(std::move(ok.error()));
  return done(call.guests().set_budget(**guest, asked));
}

Result<Reply> dirty_log(Call& call) {
  return of_served(call, [&](Guest& guest) -> Result<Reply> {
    auto ranges = call.service.host->written(guest.parts.name);
    if (!ranges) return pass(std::move(ranges.error()));
    Reply reply;
    json& list = reply.result["ranges"] = json::array();
    for (const GpaRange& r : *ranges) list.push_back({{"gpa", r.gpa.value}, {"bytes", r.bytes}});
    return reply;
  });
}

/// A method without fields.
template <class Act>
Result<Reply> plain(Call& call, Act&& act) {
  if (auto ok = call.fields.finish_request(); !ok) return pass(std::move(ok.error()));
  return act();
}

Result<Reply> heartbeat(Call& call) {
  return plain(call, [&]() -> Result<Reply> {
    auto page = call.service.heartbeat->share();
    if (!page) return pass(std::move(page.error()));
    Reply reply;
    reply.result = {{"memory", 0}, {"bytes", Heartbeat::kBytes}};
    reply.fds.push_back(std::move(*page));
    return reply;
  });
}

Result<Reply> status(Call& call) {
  return plain(call, [&]() -> Result<Reply> {
    if (!call.service.options->status) return fail(ENOTSUP, "status: this service tells none");
    Reply reply;
    reply.result = call.service.options->status();
    return reply;
  });
}

Result<Reply> drain(Call& call) {
  return plain(call, [&]() -> Result<Reply> {
    if (!is_operator(call.session.peer)) {
      return fail(EPERM, "drain: only root and the service's own user may ask for it");
    }
    *call.service.drain = true;
    return Reply{};
  });
}

Result<Reply> goodbye(Call& call) {
  return plain(call, [&]() -> Result<Reply> {
    call.session.goodbye = true;
    return Reply{};
  });
}

using Method = Result<Reply> (*)(Call&);
constexpr std::array<std::pair<std::string_view, Method>, 23> kMethods = {{
    {"hello", hello},
    {"guest.add", guest_add},
    {"memory.add", memory_add},
    {"memory.remove", memory_remove},
    {"device.add", device_add},
    {"device.remove", device_remove},
    {"interrupts", interrupts},
    {"start", start},
    {"guest.attach", guest_attach},
    {"guest.remove", guest_remove},
    {"pause", pause},
    {"resume", resume},
    {"reset", reset},
    {"get-state", get_state},
    {"set-state", set_state},
    {"stage1", stage1},
    {"query", query},
    {"budget", budget},
    {"dirty-log", dirty_log},
    {"heartbeat", heartbeat},
    {"status", status},
    {"drain", drain},
    {"goodbye", goodbye},
}};

Result<Reply> hello(Call& call) {
  const std::vector<unsigned> versions = call.fields.numbers("versions", 0xffff, 64);
  const std::string name = call.fields.text("name", kNameBytes, "");
  if (auto ok = call.fields.finish_request(); !ok) return pass(std::move(ok.error()));
  if (call.session.greeted) return fail(EALREADY, "hello: it was said already");
  if (std::ranges::find(versions, kVersion) == versions.end()) {
    return fail(EPROTO, "hello: this service speaks version 1; 'versions' has to list it");
  }
  call.session.greeted = true;
  call.session.name = name;
  const ServerOptions& options = *call.service.options;
  const FdCounts counts = call.service.host->fd_counts();
  static constexpr std::array<const char*, 3> kBackends = {"soft", "vfio", "iommufd"};
  Reply reply;
  json& r = reply.result;
  r["version"] = kVersion;
  r["node"] = options.node;
  r["backend"] = kBackends[static_cast<std::size_t>(call.service.host->backend())];
  r["register_modes"] = {"exitless", "trapped"};
  for (const auto& [method, act] : kMethods) r["methods"].push_back(method);

  r["device_fds"] = counts.device;
  r["backend_fds"] = counts.backend;
  r["linger_ms"] = options.linger_ns / 1'000'000;
  r["limits"] = {{"guests", options.limits.guests_per_session},
                 {"devices", options.limits.devices_per_guest},
                 {"memory_parts", options.limits.memory_parts},
                 {"memory_bytes", options.limits.memory_bytes},
                 {"descriptors", options.limits.descriptors_per_uid},
                 {"messages_per_second", options.limits.messages_per_second}};
  return reply;
}

}  // namespace

Result<Reply> answer(Service& service, Session& session, Request& request) {
  const auto* const at =
      std::ranges::find(kMethods, request.method, [](const auto& m) { return m.first; });
  if (at == kMethods.end()) {
    return fail(EINVAL, request.method.empty()
                            ? "a request has a 'method'"
                            : "there is no method '" + printable(request.method, 40) +
                                  "'; 'hello' lists those there are");
  }
  if (!session.greeted && request.method != "hello") {
    return fail(EPROTO, request.method + ": 'hello' comes first");
  }
  Fields fields(request.body, request.fds, request.method);
  Call call{service, session, fields};
  return at->second(call);
}

}  // namespace faultline::session
