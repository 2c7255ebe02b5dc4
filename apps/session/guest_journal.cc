// SPDX-License-Identifier: BSD-3-Clause
#include <algorithm>
#include <memory>
#include <utility>

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
      // Records that somebody before it left in its ring are not this guest's.
      next->event.device[i].position = {SourcePosition::kNone, 0};
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

namespace {

/// Pages of guest memory: in order, disjoint, inside the guest's memory.
class Pages {
 public:
  void add(Gpa gpa, std::uint64_t bytes) {
    constexpr std::uint64_t kMost = ~std::uint64_t{0} - kPage4K;
    const std::uint64_t from = gpa.value & ~(kPage4K - 1);
    const std::uint64_t end = bytes > kMost - gpa.value ? kMost : gpa.value + bytes;
    pieces_.emplace_back(from, (end + kPage4K - 1) & ~(kPage4K - 1));
  }
  [[nodiscard]] std::vector<GpaRange> inside(std::span<const engine::MemoryRegion> memory) {
    std::vector<std::pair<std::uint64_t, std::uint64_t>> cut;
    for (const auto& [from, end] : pieces_) {
      for (const engine::MemoryRegion& region : memory) {
        const std::uint64_t a = std::max(from, region.gpa.value);
        const std::uint64_t b = std::min(end, region.gpa.value + region.size);
        if (a < b) cut.emplace_back(a, b);
      }
    }
    std::sort(cut.begin(), cut.end());
    std::vector<GpaRange> out;
    for (const auto& [from, end] : cut) {
      if (!out.empty() && from <= out.back().gpa.value + out.back().bytes) {
        out.back().bytes = std::max(out.back().bytes, end - out.back().gpa.value);
      } else {
        out.push_back({Gpa{from}, end - from});
      }
    }
    return out;
  }

 private:
  std::vector<std::pair<std::uint64_t, std::uint64_t>> pieces_;  ///< from, end
};

}  // namespace

std::vector<GpaRange> written_by(engine::Journal& journal, Gpa registers,
                                 std::span<const engine::MemoryRegion> memory) {
  const engine::EventJournal event = journal.event();
  const engine::CommandJournal command = journal.command();
  Pages pages;
  pages.add(registers, viommu::kRegisterBytes);
  // The SYNC that is being completed: its MSI may come as soon as the guest is taken on again.
  const engine::CommandJournal::Sync sync = command.sync();
  if (sync.state == engine::SyncState::kWriteMsi) pages.add(sync.address, sizeof(std::uint32_t));
  for (const engine::WrittenPages& part : {event.written(), command.written()}) {
    if (part.everything()) pages.add(Gpa{0}, ~std::uint64_t{0});
    part.each([&](Gpa gpa, std::uint64_t bytes) { pages.add(gpa, bytes); });
  }
  return pages.inside(memory);
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
