// SPDX-License-Identifier: BSD-3-Clause
#include "apps/session/guest_status.h"

#include <nlohmann/json.hpp>

namespace faultline::session {

void describe(const GuestParts& parts, nlohmann::json& out) {
  out["memory"] = nlohmann::json::array();
  for (const OwnedMemory& m : parts.memory) {
    out["memory"].push_back({{"gpa", m.gpa.value}, {"bytes", m.bytes}});
  }
  out["devices"] = nlohmann::json::array();
  for (const OwnedDevice& d : parts.devices) {
    out["devices"].push_back({{"name", d.name}, {"vsid", d.vsid.value}});
  }
  out["budget"] = parts.budget.is_null() ? nlohmann::json::object() : parts.budget;
}

void describe(const engine::GuestSnapshot& guest, nlohmann::json& out) {
  using Device = engine::EventDeviceCounters;
  out["detached"] = guest.detached;
  out["evtq"] = {{"depth", guest.evtq_depth}, {"size", guest.evtq_size}};
  out["devices"] = nlohmann::json::array();
  for (const engine::DeviceSnapshot& d : guest.devices) {
    out["devices"].push_back({{"name", d.name},
                              {"vsid", d.vsid.value},
                              {"delivered", d.events.delivered},
                              {"lost_exact", d.events.lost_exact},
                              {"lost_possible", d.events.lost_possible}});
  }
  out["counters"] = {{"delivered", guest.sum(&Device::delivered)},
                     {"discarded", guest.sum(&Device::discarded)},
                     {"dropped_full", guest.sum(&Device::dropped_full)},
                     {"untranslatable", guest.sum(&Device::untranslatable)},
                     {"page_requests", guest.sum(&Device::page_requests)},
                     {"overflows", guest.events.overflows},
                     {"gerrors", guest.events.gerrors},
                     {"interrupts", guest.interrupts},
                     {"commands", guest.commands.commands},
                     {"syncs_completed", guest.commands.syncs_completed},
                     {"submissions", guest.commands.submissions},
                     {"ioctls", guest.commands.ioctls},
                     {"illegal", guest.commands.illegal},
                     {"aborts", guest.commands.aborts},
                     {"resyncs", guest.commands.resyncs},
                     {"blocked", guest.commands.blocked}};
}

}  // namespace faultline::session
