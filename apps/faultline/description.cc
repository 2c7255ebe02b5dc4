// SPDX-License-Identifier: BSD-3-Clause
#include "apps/faultline/description.h"

#include <nlohmann/json.hpp>

namespace faultline {
namespace {

using nlohmann::json;

json guest_to_json(const Description::Guest& g) {
  json devices = json::array();
  for (std::size_t i = 0; i < g.fds.size(); ++i) {
    const HostDevice& d = g.host.devices[i];
    devices.push_back({{"name", d.name},
                       {"vsid", d.vsid.value},
                       {"container", g.fds[i].container},
                       {"group", g.fds[i].group},
                       {"device", g.fds[i].device}});
  }
  return {{"name", g.host.name},         {"memory", g.host.memfd},          {"bytes", g.host.bytes},
          {"evtq", g.host.evtq_eventfd}, {"gerror", g.host.gerror_eventfd}, {"journal", g.journal},
          {"devices", devices}};
}

Description::Guest guest_from_json(const json& j) {
  Description::Guest g;
  g.host.name = j.at("name");
  g.host.memfd = j.at("memory");
  g.host.bytes = j.at("bytes");
  g.host.evtq_eventfd = j.at("evtq");
  g.host.gerror_eventfd = j.at("gerror");
  g.journal = j.at("journal");
  for (const json& d : j.at("devices")) {
    HostDevice device;
    device.name = d.at("name");
    device.vsid = StreamId{d.at("vsid").get<std::uint32_t>()};
    g.host.devices.push_back(device);
    g.fds.push_back({d.at("container"), d.at("group"), d.at("device")});
  }
  return g;
}

}  // namespace

std::vector<int> Description::descriptors() const {
  std::vector<int> all = {kernel, go, status};
  for (const Guest& g : guests) {
    for (const int fd : {g.host.memfd, g.host.evtq_eventfd, g.host.gerror_eventfd, g.journal}) {
      all.push_back(fd);
    }
    for (const DeviceFds& d : g.fds) all.insert(all.end(), {d.container, d.group, d.device});
  }
  return all;
}

std::string to_json(const Description& d) {
  json guests = json::array();
  for (const Description::Guest& g : d.guests) guests.push_back(guest_to_json(g));
  const json all = {
      {"kernel", d.kernel},
      {"go", d.go},
      {"status", d.status},
      {"policy", static_cast<int>(d.choices.policy)},
      {"merge_cap", d.choices.merge.cap},
      {"merge_deadline", d.choices.merge.deadline},
      {"merge_wait", d.choices.merge.wait},
      {"merge_linger", static_cast<int>(d.choices.merge.linger)},
      {"assume_nonglobal", d.choices.merge.assume_nonglobal},
      {"audit_merge", d.choices.merge.audit_every},
      {"abi", static_cast<int>(d.choices.abi)},
      {"shards", d.choices.shards},
      {"strict_cores", d.choices.strict_cores},
      {"hugepages", d.choices.hugepages},
      {"idle", d.choices.idle ? static_cast<int>(*d.choices.idle) : -1},
      {"sleep_after_ns", d.choices.sleep_after_ns},
      {"tlb_domain", d.profile.tlb_domain},
      {"cd_cache", d.profile.cd_cache},
      {"dev_iotlb", d.profile.dev_iotlb},
      {"kill_step", d.kill.step},
      {"kill_count", d.kill.count},
      {"guests", guests},
  };
  return all.dump();
}

Result<Description> description_from_json(const std::string& text) {
  try {
    const json j = json::parse(text);
    Description d;
    d.kernel = j.at("kernel");
    d.go = j.at("go");
    d.status = j.at("status");
    d.choices.policy = static_cast<engine::PolicyKind>(j.at("policy").get<int>());
    d.choices.merge.cap = j.at("merge_cap");
    d.choices.merge.deadline = j.at("merge_deadline");
    d.choices.merge.wait = j.at("merge_wait");
    d.choices.merge.linger = static_cast<merge::LingerMode>(j.at("merge_linger").get<int>());
    d.choices.merge.assume_nonglobal = j.at("assume_nonglobal");
    d.choices.merge.audit_every = j.at("audit_merge");
    d.choices.abi = static_cast<vfio::AbiChoice>(j.at("abi").get<int>());
    d.choices.shards = j.at("shards");
    d.choices.strict_cores = j.at("strict_cores");
    d.choices.hugepages = j.at("hugepages");
    if (const int idle = j.at("idle"); idle >= 0) {
      d.choices.idle = static_cast<engine::IdlePolicy>(idle);
    }
    d.choices.sleep_after_ns = j.at("sleep_after_ns");
    d.profile.tlb_domain = j.at("tlb_domain");
    d.profile.cd_cache = j.at("cd_cache");
    d.profile.dev_iotlb = j.at("dev_iotlb");
    d.kill.step = j.at("kill_step");
    d.kill.count = j.at("kill_count");
    for (const json& g : j.at("guests")) d.guests.push_back(guest_from_json(g));
    return d;
  } catch (const json::exception& e) {
    return fail(0, std::string("the description of the engine is damaged: ") + e.what());
  }
}

}  // namespace faultline
