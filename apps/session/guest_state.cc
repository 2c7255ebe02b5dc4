// SPDX-License-Identifier: BSD-3-Clause
#include "apps/session/guest_state.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdint>
#include <limits>
#include <memory>
#include <nlohmann/json.hpp>
#include <type_traits>
#include <utility>

#include "kernel/base/shared.h"

namespace faultline::session {
namespace {

using engine::JournalLayout;
using nlohmann::json;
using viommu::Reg32;
using viommu::Reg64;

constexpr unsigned kVersion = 1;
constexpr std::size_t kMostBytes = 16384;

constexpr std::array<std::pair<const char*, Reg32>, 23> kWords = {{
    {"cr0", Reg32::kCr0},
    {"cr0ack", Reg32::kCr0Ack},
    {"cr1", Reg32::kCr1},
    {"cr2", Reg32::kCr2},
    {"statusr", Reg32::kStatusr},
    {"gbpa", Reg32::kGbpa},
    {"irq_ctrl", Reg32::kIrqCtrl},
    {"irq_ctrlack", Reg32::kIrqCtrlAck},
    {"gerror", Reg32::kGerror},
    {"gerrorn", Reg32::kGerrorn},
    {"gerror_irq_cfg1", Reg32::kGerrorIrqCfg1},
    {"gerror_irq_cfg2", Reg32::kGerrorIrqCfg2},
    {"strtab_base_cfg", Reg32::kStrtabBaseCfg},
    {"cmdq_prod", Reg32::kCmdqProd},
    {"cmdq_cons", Reg32::kCmdqCons},
    {"evtq_irq_cfg1", Reg32::kEvtqIrqCfg1},
    {"evtq_irq_cfg2", Reg32::kEvtqIrqCfg2},
    {"priq_irq_cfg1", Reg32::kPriqIrqCfg1},
    {"priq_irq_cfg2", Reg32::kPriqIrqCfg2},
    {"evtq_prod", Reg32::kEvtqProd},
    {"evtq_cons", Reg32::kEvtqCons},
    {"priq_prod", Reg32::kPriqProd},
    {"priq_cons", Reg32::kPriqCons},
}};
constexpr std::array<std::pair<const char*, Reg64>, 7> kLongs = {{
    {"gerror_irq_cfg0", Reg64::kGerrorIrqCfg0},
    {"strtab_base", Reg64::kStrtabBase},
    {"cmdq_base", Reg64::kCmdqBase},
    {"evtq_base", Reg64::kEvtqBase},
    {"evtq_irq_cfg0", Reg64::kEvtqIrqCfg0},
    {"priq_base", Reg64::kPriqBase},
    {"priq_irq_cfg0", Reg64::kPriqIrqCfg0},
}};

/// What of a journal goes along, by name. One list for both ways.
///
/// field(group, name, value): `value` is an unsigned integer of the journal
template <class Field>
void each_field(JournalLayout& j, Field&& field) {
  engine::JournalEvtq evtq = j.event.evtq.load();
  field("evtq", "base", evtq.base);
  field("evtq", "log2size", evtq.log2size);
  field("evtq", "enabled", evtq.enabled);
  j.event.evtq.store(evtq);
  field("evtq", "prod", j.event.evtq_prod);
  field("evtq", "loss_owed", j.event.loss_owed);
  field("evtq", "taken_and_lost", j.event.reading);
  field("gerror", "value_and_token", j.event.gerror);
  engine::JournalIrq irq = j.event.irq.load();
  field("irq", "evtq_address", irq.evtq_address);
  field("irq", "evtq_data", irq.evtq_data);
  field("irq", "gerror_address", irq.gerror_address);
  field("irq", "gerror_data", irq.gerror_data);
  field("irq", "control", irq.control);
  j.event.irq.store(irq);
  field("cmdq", "cons", j.command.cmdq_cons);
  field("cmdq", "sync_state", j.command.sync_state);
  field("cmdq", "sync_cons", j.command.sync_cons);
  field("cmdq", "sync_data", j.command.sync_data);
  field("cmdq", "sync_address", j.command.sync_address);
  field("cmdq", "error_token", j.command.error_token);
  engine::JournalRegisters r = j.command.registers.load();
  field("latched", "cr0", r.cr0);
  field("latched", "cr0ack", r.cr0ack);
  field("latched", "cr1", r.cr1);
  field("latched", "cr2", r.cr2);
  field("latched", "irq_ctrl", r.irq_ctrl);
  field("latched", "gbpa", r.gbpa);
  field("latched", "strtab_base_cfg", r.strtab_base_cfg);
  field("latched", "strtab_base", r.strtab_base);
  field("latched", "cmdq_log2size", r.cmdq_log2size);
  field("latched", "cmdq_base", r.cmdq_base);
  j.command.registers.store(r);
}

std::vector<std::uint32_t> words_of(const viommu::IdRegisters& ids) {
  std::vector<std::uint32_t> out(std::begin(ids.idr), std::end(ids.idr));
  out.push_back(ids.iidr);
  out.push_back(ids.aidr);
  return out;
}

/// Reads numbers out of a state and remembers the first that is not as it should be.
class Reader {
 public:
  explicit Reader(const json& state) : state_(&state) {}

  template <class T>
  void read(const char* group, const char* name, T& value) {
    static_assert(std::is_unsigned_v<T>);
    const auto at = state_->find(group);
    const json* in = at != state_->end() && at->is_object() ? &*at : nullptr;
    const auto field = in != nullptr ? in->find(name) : json::const_iterator{};
    if (in == nullptr || field == in->end() || !field->is_number_unsigned() ||
        field->template get<std::uint64_t>() > std::numeric_limits<T>::max()) {
      if (wrong_.empty()) wrong_ = std::string(group) + "." + name;
      return;
    }
    value = field->template get<T>();
  }
  [[nodiscard]] const std::string& wrong() const noexcept { return wrong_; }

 private:
  const json* state_;
  std::string wrong_;
};

tl::unexpected<Error> refuse(const std::string& why) {
  return fail(EINVAL, "state refused: " + why);
}

/// Of what is said of a journal: neither its name nor what to do with one.
std::string reason_of(const std::string& line) {
  constexpr std::string_view kHead = "restart journal refused: ";
  const std::size_t from = line.starts_with(kHead) ? kHead.size() : 0;
  return line.substr(from, line.find(';', from) - from);
}

Result<void> check_head(const json& j, const engine::Journal& journal,
                        const viommu::IdRegisters& offered) {
  if (j.is_discarded() || !j.is_object()) return refuse("it is not a JSON object");
  const auto version = j.find("faultline_guest_state");
  if (version == j.end() || !version->is_number_unsigned()) {
    return refuse("it has no version (faultline_guest_state)");
  }
  if (*version != kVersion) {
    return refuse("it is of version " + version->dump() + ", this engine takes version " +
                  std::to_string(kVersion));
  }
  const auto identity = j.find("identity");
  if (identity == j.end() || *identity != journal.identity()) {
    return refuse("it is of another guest: register page, mode and StreamIDs have to be the same");
  }
  const auto ids = j.find("id_registers");
  if (ids == j.end() || *ids != json(words_of(offered))) {
    return refuse("the guest was shown other ID registers: the hosts offer different hardware");
  }
  return {};
}

/// The journal counts as one that nobody has used while its parts change: a start that finds it so
/// begins afresh.
void replace(engine::Journal& journal, const JournalLayout& next, bool in_use) noexcept {
  JournalLayout& layout = journal.layout();
  store_release(layout.header.in_use, std::uint32_t{0});
  engine::in_program_order();
  copy_to_shared(&layout.event, &next.event, sizeof next.event);
  copy_to_shared(&layout.command, &next.command, sizeof next.command);
  engine::in_program_order();
  if (in_use) journal.set_in_use();
}

/// A fresh journal of the same guest: its fault queues where they stand, its ASIDs remembered.
std::unique_ptr<JournalLayout> fresh(engine::Journal& journal) {
  auto next = std::make_unique<JournalLayout>();
  next->header = journal.layout().header;
  for (std::size_t i = 0; i < journal.devices(); ++i) {
    const SourcePosition at = journal.event().resume_position(i);
    next->event.device[i].position = {at.next, at.lost};
  }
  // What was written there stays written.
  std::ranges::copy(journal.layout().event.written, next->event.written);
  std::ranges::copy(journal.layout().command.written, next->command.written);
  // What the kernel has cached of these is still there.
  std::ranges::copy(journal.layout().command.asid_seen, next->command.asid_seen);
  return next;
}

}  // namespace

Result<GuardedRegisters> GuardedRegisters::of(const engine::GuestSpec& spec) {
  auto memory = viommu::GuestMemory::make(spec.memory);
  if (!memory) return tl::unexpected(std::move(memory.error()));
  auto page = viommu::RegisterPage::map(*memory, spec.registers);
  if (!page) return tl::unexpected(std::move(page.error()));
  return GuardedRegisters{std::move(*memory), *page};
}

std::string state_of(engine::Journal& journal, const viommu::RegisterPage& page,
                     const viommu::IdRegisters& offered) {
  json j;
  j["faultline_guest_state"] = kVersion;
  j["identity"] = journal.identity();
  j["id_registers"] = words_of(offered);
  const auto copy = std::make_unique<JournalLayout>(journal.layout());
  each_field(*copy,
             [&](const char* group, const char* name, auto& value) { j[group][name] = value; });
  j["evtq"]["taken_and_lost"] = copy->event.reading != 0 ? 1U : 0U;
  for (const auto& [name, reg] : kWords) j["registers"][name] = page.load(reg);
  for (const auto& [name, reg] : kLongs) j["registers"][name] = page.load(reg);
  return j.dump();
}

Result<void> take_state(engine::Journal& journal, const viommu::RegisterPage& page,
                        const viommu::IdRegisters& offered, const std::string& state) {
  if (state.size() > kMostBytes) return refuse("it is larger than any state");
  const json j = json::parse(state, nullptr, false);
  if (auto ok = check_head(j, journal, offered); !ok) return ok;
  Reader reader(j);
  const auto next = fresh(journal);
  each_field(*next, [&](const char* group, const char* name, auto& value) {
    reader.read(group, name, value);
  });
  std::array<std::uint32_t, kWords.size()> words{};
  std::array<std::uint64_t, kLongs.size()> longs{};
  for (std::size_t i = 0; i < words.size(); ++i) {
    reader.read("registers", kWords[i].first, words[i]);
  }
  for (std::size_t i = 0; i < longs.size(); ++i) {
    reader.read("registers", kLongs[i].first, longs[i]);
  }
  if (!reader.wrong().empty()) return refuse(reader.wrong() + " is missing or out of range");
  // Records taken elsewhere are of no device here: the overflow is raised for the first.
  if (next->event.reading > 1) return refuse("evtq.taken_and_lost is missing or out of range");
  // This kernel has nothing from the other engine.
  for (std::size_t i = 0; i < journal.devices(); ++i) next->command.binding[i].attaching = 1;
  if (auto ok = engine::validate(*next, sizeof *next); !ok)
    return refuse(reason_of(ok.error().what));
  for (std::size_t i = 0; i < words.size(); ++i) page.store(kWords[i].second, words[i]);
  for (std::size_t i = 0; i < longs.size(); ++i) page.store(kLongs[i].second, longs[i]);
  replace(journal, *next, true);
  return {};
}

void clear_journal(engine::Journal& journal) noexcept {
  replace(journal, *fresh(journal), false);
}

}  // namespace faultline::session
