// SPDX-License-Identifier: BSD-3-Clause
#include "apps/session/guest_parts.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <cerrno>
#include <numeric>

#include "apps/session/guest_budget.h"
#include "apps/session/sealed.h"

namespace faultline::session {
namespace {

constexpr std::uint64_t kUnit = kPage4K;
constexpr std::size_t kNameBytes = 64;
constexpr std::size_t kMostRoutes = 16;
constexpr std::size_t kMostVcpus = 1024;
constexpr std::uint64_t kMostCpu = 65535;
constexpr std::uint64_t kMost32 = 0xffffffff;

/// Duplicates them in turn and remembers the first failure; what was made is closed then.
class Duplicates {
 public:
  int of(const Fd& fd) {
    auto copy = fd.duplicate();
    if (!copy) {
      if (error_.what.empty()) error_ = std::move(copy.error());
      return -1;
    }
    made_.push_back(std::move(*copy));
    return made_.back().get();
  }
  std::vector<int> of(const std::vector<Fd>& fds) {
    std::vector<int> out;
    out.reserve(fds.size());
    for (const Fd& fd : fds) out.push_back(of(fd));
    return out;
  }
  Result<void> finish(const std::string& guest) {
    if (!error_.what.empty()) return fail(std::move(error_), "guest " + guest);
    for (Fd& fd : made_) (void)fd.release();
    return {};
  }

 private:
  std::vector<Fd> made_;
  Error error_;
};

}  // namespace

Result<GuestRequest> GuestParts::request() const {
  GuestRequest out;
  if (!budget.is_null()) {
    auto asked = read_budget(name, budget, kAnyBudget);
    if (!asked) return tl::unexpected(std::move(asked.error()));
    out.budget = *asked;
  }
  Duplicates copy;
  out.name = name;
  out.registers = registers;
  out.mode = mode;
  out.vcpus = vcpus;
  for (const OwnedMemory& m : memory) {
    out.memory.push_back({m.gpa, m.bytes, m.offset, copy.of(m.memfd)});
  }
  for (const OwnedDevice& d : devices) {
    out.devices.push_back({d.name, d.vsid, d.host_sid, copy.of(d.fds)});
  }
  out.backend_fds = copy.of(backend_fds);
  out.evtq_eventfd = copy.of(evtq);
  out.gerror_eventfd = copy.of(gerror);
  out.sync_eventfd = copy.of(sync);
  out.doorbell_eventfd = copy.of(doorbell);
  out.arm_eventfd = copy.of(arm);
  out.armed_eventfd = copy.of(armed);
  for (const OwnedRoute& r : routes) {
    out.routes.push_back({r.address, r.data, copy.of(r.eventfd)});
  }
  out.objects = objects;
  out.object_fds = copy.of(object_fds);
  out.journal = copy.of(journal);
  if (auto ok = copy.finish(name); !ok) return tl::unexpected(std::move(ok.error()));
  return out;
}

bool name_ok(const std::string& name) {
  return !name.empty() && name.size() <= kNameBytes &&
         std::ranges::all_of(name, [](unsigned char c) {
           return c < 0x80 && (std::isalnum(c) != 0 || c == '.' || c == '_' || c == '-');
         });
}

Result<GuestParts> read_guest(Fields& fields, const FdCounts& counts) {
  GuestParts parts;
  parts.name = fields.text("name", kNameBytes);
  parts.registers = Gpa{fields.number("registers", kMostAddress)};
  const std::string mode = fields.text("mode", 16);
  parts.mode = mode == "trapped" ? engine::RegisterMode::kTrapped : engine::RegisterMode::kExitless;
  parts.vcpus = fields.numbers("vcpus", kMostCpu, kMostVcpus);
  parts.backend_fds = fields.optional_fds("backend_fds");
  parts.journal = fields.optional_fd("journal");
  if (const nlohmann::json* budget = fields.object("budget")) parts.budget = *budget;
  if (auto ok = fields.finish_request(); !ok) return tl::unexpected(std::move(ok.error()));
  if (!name_ok(parts.name)) {
    return fail(EINVAL, "guest.add: 'name' has to be 1 to 64 of A-Z a-z 0-9 . _ -");
  }
  const std::string where = "guest " + parts.name;
  if (mode != "trapped" && mode != "exitless") {
    return fail(EINVAL, where + ": 'mode' has to be exitless or trapped");
  }
  if (parts.registers.value % kUnit != 0) {
    return fail(EINVAL, where + ": 'registers' has to be a multiple of 4096");
  }
  if (parts.backend_fds.size() != counts.backend) {
    return fail(EINVAL, fmt::format("{}: this service needs {} backend_fds, {} came", where,
                                    counts.backend, parts.backend_fds.size()));
  }
  if (!parts.budget.is_null()) {
    if (auto asked = read_budget(parts.name, parts.budget, kAnyBudget); !asked) {
      return tl::unexpected(std::move(asked.error()));
    }
  }
  if (parts.journal) {
    auto copy = copy_journal(parts.journal.get());
    if (!copy) return fail(std::move(copy.error()), where);
    parts.journal = std::move(*copy);
  }
  return parts;
}

Result<void> read_interrupts(Fields& fields, GuestParts& parts) {
  Fd evtq = fields.optional_fd("evtq");
  Fd gerror = fields.optional_fd("gerror");
  Fd sync = fields.optional_fd("sync");
  Fd doorbell = fields.optional_fd("doorbell");
  Fd arm = fields.optional_fd("arm");
  Fd armed = fields.optional_fd("armed");
  std::vector<OwnedRoute> routes;
  if (const nlohmann::json* list = fields.objects("routes", kMostRoutes)) {
    for (const nlohmann::json& object : *list) {
      Fields route = fields.inner(object, "interrupts: a route");
      OwnedRoute r;
      r.address = Gpa{route.number("address", kMostAddress)};
      r.data = static_cast<std::uint32_t>(route.number("data", kMost32));
      r.eventfd = route.fd("eventfd");
      fields.part(route.finish());
      routes.push_back(std::move(r));
    }
  }
  if (auto ok = fields.finish_request(); !ok) return ok;
  const std::string where = "guest " + parts.name;
  if (bool(arm) != bool(armed) || (arm && !doorbell)) {
    return fail(EINVAL, where + ": 'arm', 'armed' and 'doorbell' come together");
  }
  if (arm && parts.mode != engine::RegisterMode::kExitless) {
    return fail(EINVAL, where + ": it is trapped, every write rings; 'arm' is for exitless guests");
  }
  for (const auto& [what, fd] : {std::pair<const char*, const Fd*>{"evtq", &evtq},
                                 {"gerror", &gerror},
                                 {"sync", &sync},
                                 {"doorbell", &doorbell},
                                 {"arm", &arm},
                                 {"armed", &armed}}) {
    if (auto ok = make_nonblocking_eventfd(*fd); !ok) {
      return fail(std::move(ok.error()), where + ": " + what);
    }
  }
  for (const OwnedRoute& r : routes) {
    if (auto ok = make_nonblocking_eventfd(r.eventfd); !ok) {
      return fail(std::move(ok.error()), where + ": a route");
    }
  }
  parts.evtq = std::move(evtq);
  parts.gerror = std::move(gerror);
  parts.sync = std::move(sync);
  parts.doorbell = std::move(doorbell);
  parts.arm = std::move(arm);
  parts.armed = std::move(armed);
  parts.routes = std::move(routes);
  return {};
}

Result<OwnedMemory> read_memory(Fields& fields, const GuestParts& parts,
                                const SessionLimits& limits) {
  OwnedMemory m;
  m.gpa = Gpa{fields.number("gpa", kMostAddress)};
  m.bytes = fields.number("bytes", kMostAddress);
  m.offset = fields.number("offset", kMostAddress, 0);
  m.memfd = fields.fd("memfd");
  if (auto ok = fields.finish_request(); !ok) return tl::unexpected(std::move(ok.error()));
  const std::string where = "guest " + parts.name;
  if (m.bytes == 0 || (m.gpa.value | m.bytes | m.offset) % kUnit != 0) {
    return fail(EINVAL, where + ": memory comes in multiples of 4096 bytes");
  }
  if (m.bytes > kMostAddress - m.gpa.value) {
    return fail(EINVAL, where + ": memory has to end below 2^52");
  }
  for (const OwnedMemory& other : parts.memory) {
    if (m.gpa < other.gpa + other.bytes && other.gpa < m.gpa + m.bytes) {
      return fail(EINVAL,
                  fmt::format("{}: memory at {:#x} overlaps what it has", where, m.gpa.value));
    }
  }
  if (parts.memory.size() >= limits.memory_parts) {
    return fail(EINVAL, fmt::format("{}: it has {} pieces of memory, which is the limit", where,
                                    parts.memory.size()));
  }
  const std::uint64_t has =
      std::accumulate(parts.memory.begin(), parts.memory.end(), std::uint64_t{0},
                      [](std::uint64_t sum, const OwnedMemory& part) { return sum + part.bytes; });
  if (m.bytes > limits.memory_bytes || has > limits.memory_bytes - m.bytes) {
    return fail(EINVAL, fmt::format("{}: it would have more than {} bytes of memory, the limit",
                                    where, limits.memory_bytes));
  }
  if (auto ok = check_sealed(m.memfd, m.offset, m.bytes); !ok) {
    return fail(std::move(ok.error()), fmt::format("{}: memory at {:#x}", where, m.gpa.value));
  }
  return m;
}

Result<OwnedDevice> read_device(Fields& fields, const GuestParts& parts, const FdCounts& counts,
                                const SessionLimits& limits) {
  OwnedDevice d;
  d.name = fields.text("name", kNameBytes);
  d.vsid = StreamId{static_cast<std::uint32_t>(fields.number("vsid", kMost32))};
  d.host_sid = static_cast<std::uint32_t>(fields.number("host_sid", kMost32, 0));
  d.fds = fields.optional_fds("fds");
  if (auto ok = fields.finish_request(); !ok) return tl::unexpected(std::move(ok.error()));
  const std::string where = fmt::format("guest {}: device {}", parts.name, d.name);
  if (d.fds.size() != counts.device) {
    return fail(EINVAL, fmt::format("{}: this service needs {} fds, {} came", where, counts.device,
                                    d.fds.size()));
  }
  for (const OwnedDevice& other : parts.devices) {
    if (other.name == d.name) return fail(EEXIST, where + " is there already");
    if (other.vsid == d.vsid) {
      return fail(EEXIST,
                  fmt::format("{}: vsid {} is device {}'s", where, d.vsid.value, other.name));
    }
  }
  if (parts.devices.size() >= limits.devices_per_guest) {
    return fail(EINVAL, fmt::format("{}: the guest has {} devices, which is the limit", where,
                                    parts.devices.size()));
  }
  return d;
}

}  // namespace faultline::session
