// SPDX-License-Identifier: BSD-3-Clause
#include "apps/session/kept_guest.h"

#include <fmt/format.h>

#include <cerrno>
#include <charconv>
#include <limits>
#include <optional>

namespace faultline::session {
namespace {

using nlohmann::json;

constexpr unsigned kVersion = 1;

std::string device_part(std::size_t device, std::size_t fd) {
  return fmt::format("d{}.{}", device, fd);
}

/// Takes descriptors by name and numbers by field out of what was kept, and remembers the first
/// that is not there.
class Reader {
 public:
  explicit Reader(std::map<std::string, Fd>& fds) : fds_(&fds) {}

  Fd fd(const std::string& part) {
    const auto at = fds_->find(part);
    if (at != fds_->end() && at->second) return std::move(at->second);
    wrong("descriptor " + part);
    return {};
  }
  Fd optional(const std::string& part) {
    const auto at = fds_->find(part);
    return at == fds_->end() ? Fd() : std::move(at->second);
  }
  std::uint64_t number(const json& object, const char* name) {
    const auto at = object.find(name);
    if (at != object.end() && at->is_number_unsigned()) return at->get<std::uint64_t>();
    wrong(name);
    return 0;
  }
  std::string text(const json& object, const char* name) {
    const auto at = object.find(name);
    if (at != object.end() && at->is_string()) return at->get<std::string>();
    wrong(name);
    return {};
  }
  const json& list(const json& object, const char* name) {
    static const json kNone = json::array();
    const auto at = object.find(name);
    if (at != object.end() && at->is_array()) return *at;
    wrong(name);
    return kNone;
  }
  void wrong(const std::string& what) {
    if (wrong_.empty()) wrong_ = what;
  }
  [[nodiscard]] const std::string& wrong() const noexcept { return wrong_; }

 private:
  std::map<std::string, Fd>* fds_;
  std::string wrong_;
};

std::optional<unsigned> to_number(const std::string& text) {
  unsigned value = 0;
  const std::errc error = std::from_chars(text.data(), text.data() + text.size(), value).ec;
  // Only as kept_name() writes it: two spellings of one generation would be mixed.
  if (error != std::errc() || fmt::format("{}", value) != text) return std::nullopt;
  return value;
}

}  // namespace

std::string kept_name(const std::string& guest, unsigned generation, const std::string& part) {
  return fmt::format("g/{}/{}/{}", guest, generation, part);
}

std::vector<std::pair<std::string, int>> named_fds(const GuestParts& parts) {
  std::vector<std::pair<std::string, int>> out;
  const auto add = [&](std::string name, const Fd& fd) {
    if (fd) out.emplace_back(std::move(name), fd.get());
  };
  for (std::size_t i = 0; i < parts.memory.size(); ++i) {
    add(fmt::format("m{}", i), parts.memory[i].memfd);
  }
  for (std::size_t i = 0; i < parts.devices.size(); ++i) {
    const std::vector<Fd>& fds = parts.devices[i].fds;
    for (std::size_t k = 0; k < fds.size(); ++k) add(device_part(i, k), fds[k]);
  }
  for (std::size_t i = 0; i < parts.backend_fds.size(); ++i) {
    add(fmt::format("b{}", i), parts.backend_fds[i]);
  }
  for (std::size_t i = 0; i < parts.routes.size(); ++i) {
    add(fmt::format("r{}", i), parts.routes[i].eventfd);
  }
  add("evtq", parts.evtq);
  add("gerror", parts.gerror);
  add("sync", parts.sync);
  add("doorbell", parts.doorbell);
  for (std::size_t i = 0; i < parts.object_fds.size(); ++i) {
    add(fmt::format("o{}", i), parts.object_fds[i]);
  }
  add("arm", parts.arm);
  add("armed", parts.armed);
  add("journal", parts.journal);
  return out;
}

std::string record_of(const GuestParts& parts, const KeptState& state) {
  json j;
  j["faultline_guest"] = kVersion;
  j["name"] = parts.name;
  j["registers"] = parts.registers.value;
  j["trapped"] = parts.mode == engine::RegisterMode::kTrapped ? 1U : 0U;
  j["vcpus"] = parts.vcpus;
  j["budget"] = parts.budget;
  j["backend_fds"] = parts.backend_fds.size();
  j["memory"] = json::array();
  for (const OwnedMemory& m : parts.memory) {
    j["memory"].push_back({{"gpa", m.gpa.value}, {"bytes", m.bytes}, {"offset", m.offset}});
  }
  j["devices"] = json::array();
  for (const OwnedDevice& d : parts.devices) {
    j["devices"].push_back({{"name", d.name},
                            {"vsid", d.vsid.value},
                            {"host_sid", d.host_sid},
                            {"fds", d.fds.size()}});
  }
  j["routes"] = json::array();
  for (const OwnedRoute& r : parts.routes) {
    j["routes"].push_back({{"address", r.address.value}, {"data", r.data}});
  }
  if (!parts.objects.empty()) {
    j["objects"] = parts.objects;
    j["object_fds"] = parts.object_fds.size();
  }
  j["token"] = state.token;
  j["uid"] = state.uid;
  j["paused"] = state.paused ? 1U : 0U;
  return j.dump();
}

Result<Restored> restore_guest(const std::string& record, std::map<std::string, Fd>& fds) {
  const json j = json::parse(record, nullptr, false);
  if (j.is_discarded() || !j.is_object()) return fail(EINVAL, "its record is not JSON");
  Reader read(fds);
  if (read.number(j, "faultline_guest") != kVersion) {
    return fail(EINVAL, "its record is of another version");
  }
  Restored out;
  GuestParts& parts = out.parts;
  parts.name = read.text(j, "name");
  if (!name_ok(parts.name)) read.wrong("name");
  parts.registers = Gpa{read.number(j, "registers")};
  parts.mode = read.number(j, "trapped") != 0 ? engine::RegisterMode::kTrapped
                                              : engine::RegisterMode::kExitless;
  for (const json& cpu : read.list(j, "vcpus")) {
    if (cpu.is_number_unsigned()) parts.vcpus.push_back(cpu.get<unsigned>());
  }
  const auto budget = j.find("budget");
  if (budget != j.end() && budget->is_object()) parts.budget = *budget;
  const json& memory = read.list(j, "memory");
  for (std::size_t i = 0; i < memory.size(); ++i) {
    parts.memory.push_back({Gpa{read.number(memory[i], "gpa")}, read.number(memory[i], "bytes"),
                            read.number(memory[i], "offset"), read.fd(fmt::format("m{}", i))});
  }
  const json& devices = read.list(j, "devices");
  for (std::size_t i = 0; i < devices.size(); ++i) {
    OwnedDevice d;
    d.name = read.text(devices[i], "name");
    d.vsid = StreamId{static_cast<std::uint32_t>(read.number(devices[i], "vsid"))};
    d.host_sid = static_cast<std::uint32_t>(read.number(devices[i], "host_sid"));
    const std::uint64_t n = std::min<std::uint64_t>(read.number(devices[i], "fds"), kPacketFds);
    for (std::size_t k = 0; k < n; ++k) d.fds.push_back(read.fd(device_part(i, k)));
    parts.devices.push_back(std::move(d));
  }
  const std::uint64_t n = std::min<std::uint64_t>(read.number(j, "backend_fds"), kPacketFds);
  for (std::size_t i = 0; i < n; ++i) parts.backend_fds.push_back(read.fd(fmt::format("b{}", i)));
  const json& routes = read.list(j, "routes");
  for (std::size_t i = 0; i < routes.size(); ++i) {
    parts.routes.push_back({Gpa{read.number(routes[i], "address")},
                            static_cast<std::uint32_t>(read.number(routes[i], "data")),
                            read.fd(fmt::format("r{}", i))});
  }
  parts.evtq = read.optional("evtq");
  parts.gerror = read.optional("gerror");
  parts.sync = read.optional("sync");
  parts.doorbell = read.optional("doorbell");
  if (j.contains("objects")) {
    parts.objects = read.text(j, "objects");
    const auto files = std::min<std::uint64_t>(read.number(j, "object_fds"), kPacketFds);
    for (std::size_t i = 0; i < files; ++i) {
      parts.object_fds.push_back(read.fd(fmt::format("o{}", i)));
    }
  }
  parts.arm = read.optional("arm");
  parts.armed = read.optional("armed");
  parts.journal = read.fd("journal");
  out.state.token = read.text(j, "token");
  out.state.uid = static_cast<unsigned>(read.number(j, "uid"));
  out.state.paused = read.number(j, "paused") != 0;
  if (!read.wrong().empty()) return fail(EINVAL, read.wrong() + " was not kept");
  return out;
}

std::map<std::string, Generations> by_guest(std::vector<KeptFd> kept) {
  std::map<std::string, Generations> out;
  for (KeptFd& k : kept) {
    Fd fd(k.fd);
    const std::size_t name = k.name.find('/');
    const std::size_t generation = k.name.find('/', name + 1);
    const std::size_t part = k.name.find('/', generation + 1);
    if (k.name.compare(0, 2, "g/") != 0 || generation == std::string::npos ||
        part == std::string::npos) {
      continue;
    }
    const auto number = to_number(k.name.substr(generation + 1, part - generation - 1));
    // The next generation has to have a number, too.
    if (!number || *number == std::numeric_limits<unsigned>::max()) continue;
    const std::string guest = k.name.substr(name + 1, generation - name - 1);
    if (!name_ok(guest)) continue;
    out[guest][*number][k.name.substr(part + 1)] = std::move(fd);
  }
  return out;
}

}  // namespace faultline::session
