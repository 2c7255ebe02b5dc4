// SPDX-License-Identifier: BSD-3-Clause
#include "apps/session/iommufd_objects.h"

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <nlohmann/json.hpp>
#include <utility>

namespace faultline::session {
namespace {

using nlohmann::json;

constexpr unsigned kVersion = 1;

struct Named {
  const char* name;
  std::uint32_t iommufd::Parts::*id;
  bool optional = false;
};
constexpr Named kObjects[] = {
    {"ioas", &iommufd::Parts::ioas},
    {"parent", &iommufd::Parts::parent},
    {"viommu", &iommufd::Parts::viommu},
    {"bypass", &iommufd::Parts::bypass},
    {"abort", &iommufd::Parts::abort},
    {"veventq", &iommufd::Parts::veventq},
    {"fault_queue", &iommufd::Parts::fault_queue, true},
};

/// An id of `from`; `ok` becomes false where there is none.
std::uint32_t read_id(const json& from, const char* name, bool optional, bool& ok) {
  const auto at = from.find(name);
  if (at == from.end() || !at->is_number_unsigned() ||
      at->get<std::uint64_t>() > std::numeric_limits<std::uint32_t>::max()) {
    ok = false;
    return 0;
  }
  const auto id = at->get<std::uint32_t>();
  if (id == 0 && !optional) ok = false;
  return id;
}

}  // namespace

KeptObjects objects_of(const iommufd::Parts& parts) {
  json j;
  j["iommufd_objects"] = kVersion;
  for (const Named& o : kObjects) j[o.name] = parts.*o.id;
  j["devices"] = json::array();
  for (const iommufd::Parts::Device& d : parts.devices) {
    j["devices"].push_back({{"name", d.name}, {"id", d.id}, {"vdevice", d.vdevice}});
  }
  KeptObjects out{j.dump(), {parts.veventq_fd}};
  if (parts.fault_queue != 0) out.fds.push_back(parts.fault_fd);
  return out;
}

Result<void> take_objects(const std::string& record, std::span<const int> fds,
                          iommufd::Parts& parts) {
  const auto wrong = [](const char* what) {
    return fail(EINVAL, std::string("its objects in /dev/iommu: ") + what);
  };
  const json j = json::parse(record, nullptr, false);
  if (!j.is_object()) return wrong("not a record of them");
  bool ok = true;
  if (read_id(j, "iommufd_objects", false, ok) != kVersion) return wrong("of another version");
  iommufd::Parts out;
  for (const Named& o : kObjects) out.*o.id = read_id(j, o.name, o.optional, ok);
  const auto devices = j.find("devices");
  if (devices == j.end() || !devices->is_array() || devices->size() != parts.devices.size()) {
    return wrong("of other devices");
  }
  for (std::size_t i = 0; i < devices->size(); ++i) {
    const json& d = (*devices)[i];
    const auto name = d.find("name");
    if (name == d.end() || *name != parts.devices[i].name) return wrong("of other devices");
    out.devices.push_back({.name = {},
                           .vsid = {},
                           .id = read_id(d, "id", false, ok),
                           .vdevice = read_id(d, "vdevice", false, ok)});
  }
  if (!ok) return wrong("an id is missing");
  if (fds.size() != (out.fault_queue != 0 ? 2U : 1U)) return wrong("a file of theirs is missing");

  for (const Named& o : kObjects) parts.*o.id = out.*o.id;
  for (std::size_t i = 0; i < parts.devices.size(); ++i) {
    parts.devices[i].id = out.devices[i].id;
    parts.devices[i].vdevice = out.devices[i].vdevice;
  }
  parts.veventq_fd = fds[0];
  if (out.fault_queue != 0) parts.fault_fd = fds[1];
  parts.owned = true;
  return {};
}

}  // namespace faultline::session
