// SPDX-License-Identifier: BSD-3-Clause
#include <algorithm>
#include <memory>

#include "apps/session/guest_state.h"
#include "engine/viommu/registers.h"
#include "kernel/base/shared.h"

namespace faultline::session {

using engine::JournalLayout;

std::vector<std::optional<std::size_t>> devices_before(const engine::GuestSpec& now,
                                                       const engine::GuestSpec& old) {
  std::vector<std::optional<std::size_t>> out;
  for (const engine::DeviceSpec& d : now.devices) {
    const auto at = std::ranges::find_if(old.devices, [&](const engine::DeviceSpec& was) {
      return was.vsid == d.vsid && was.name == d.name;
    });
    out.emplace_back();
    if (at != old.devices.end()) out.back() = static_cast<std::size_t>(at - old.devices.begin());
  }
  return out;
}

void carry_journal(engine::Journal& from, engine::Journal& to,
                   const std::vector<std::optional<std::size_t>>& was) {
  const auto old = std::make_unique<JournalLayout>(from.layout());
  const auto next = std::make_unique<JournalLayout>(*old);
  next->header = to.layout().header;
  const auto now = [&](std::uint64_t device) -> std::optional<std::size_t> {
    for (std::size_t i = 0; i < was.size(); ++i) {
      if (was[i] == device) return i;
    }
    return std::nullopt;
  };
  for (std::size_t i = 0; i < engine::kJournalDevices; ++i) {
    next->event.device[i] = {};
    next->command.binding[i] = {};
    if (i >= was.size()) continue;
    if (was[i]) {
      next->event.device[i] = old->event.device[*was[i]];
      next->command.binding[i] = old->command.binding[*was[i]];
    } else {
      next->command.binding[i].attaching = 1;  // bound as the guest's stream table says
    }
  }
  for (engine::JournalCookie& request : next->event.cookie) {
    if (request.valid == 0) continue;
    // The requests of a device that left ended with it.
    if (const auto device = now(request.device)) {
      request.device = static_cast<std::uint32_t>(*device);
    } else {
      request = {};
    }
  }
  if (next->event.intent_device != engine::kNoDevice) {
    const auto device = now(next->event.intent_device);
    next->event.intent_device = device ? static_cast<std::uint32_t>(*device) : engine::kNoDevice;
  }
  // What was taken and is nowhere becomes an overflow, whoever's it was.
  if (next->event.reading != 0) next->event.reading = now(next->event.reading - 1).value_or(0) + 1;
  copy_to_shared(&to.layout().event, &next->event, sizeof next->event);
  copy_to_shared(&to.layout().command, &next->command, sizeof next->command);
  to.set_in_use();
}

std::vector<GpaRange> written_by(engine::Journal& journal, Gpa registers) {
  std::vector<GpaRange> out{{registers, viommu::kRegisterBytes}};
  const engine::JournalEvtq evtq = journal.event().evtq();
  if (evtq.enabled != 0) out.push_back({Gpa{evtq.base}, std::uint64_t{32} << evtq.log2size});
  // Linux has a CMD_SYNC write over its own slot.
  const engine::JournalRegisters r = journal.command().registers();
  if ((r.cr0ack & viommu::cr0::kCmdqEn) != 0) {
    out.push_back({Gpa{r.cmdq_base & viommu::queue::kAddr}, std::uint64_t{16} << r.cmdq_log2size});
  }
  const engine::JournalIrq irq = journal.event().irq();
  for (const std::uint64_t word :
       {irq.evtq_address, irq.gerror_address, journal.command().sync().address.value}) {
    if (word != 0) out.push_back({Gpa{word}, 4});
  }
  return out;
}

std::vector<StreamBinding> bindings_of(engine::Journal& journal) {
  const engine::CommandJournal command = journal.command();
  const bool enabled = (command.registers().cr0ack & viommu::cr0::kSmmuEn) != 0;
  std::vector<StreamBinding> out(journal.devices(), StreamBinding::kNone);
  for (std::size_t i = 0; enabled && i < out.size(); ++i) {
    Stage1Config config;
    if (!command.stage1(i, config)) continue;
    out[i] = config.mode == Stage1Config::Mode::kAbort    ? StreamBinding::kAbort
             : config.mode == Stage1Config::Mode::kBypass ? StreamBinding::kBypass
                                                          : StreamBinding::kStage1;
  }
  return out;
}

}  // namespace faultline::session
