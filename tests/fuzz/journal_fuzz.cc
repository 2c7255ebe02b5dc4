// SPDX-License-Identifier: BSD-3-Clause
// A restart journal with any damage: validate() agrees with the rules said once more, and what it
// lets through can be resumed from without touching anything that is not the guest's.
#include "engine/journal.h"

#include "tests/fuzz/world.h"

namespace faultline::fuzz {
namespace {

using engine::JournalLayout;

bool sound(const JournalLayout& j) {
  const auto& h = j.header;
  const auto& e = j.event;
  const auto& c = j.command;
  bool ok = h.magic == engine::kJournalMagic && h.version == 1 && h.bytes == sizeof j;
  ok = ok && h.devices >= 1 && h.devices <= 64 && h.in_use <= 1;
  if (!ok) return false;
  ok = e.intent_valid <= 1 && e.intent_held <= 1 && e.reading <= h.devices && e.loss_owed <= 1;
  for (const auto& request : e.cookie) {
    ok = ok && request.valid <= 1 && (request.valid == 0 || request.device < h.devices);
  }
  if (e.intent_valid == 1) ok = ok && (e.intent_device < h.devices || e.intent_device == ~0U);
  const auto& evtq = e.evtq.slot[e.evtq.version % 2];
  ok = ok && evtq.enabled <= 1 && evtq.log2size < 20 && e.irq.slot[e.irq.version % 2].control < 8;
  ok = ok && c.sync_state <= 2 && (c.sync_state != 1 || c.sync_address % 4 == 0);
  ok = ok && c.registers.slot[c.registers.version % 2].cmdq_log2size < 20;
  for (std::size_t i = 0; ok && i < h.devices; ++i) {
    const auto& s = c.binding[i].stage1.slot[c.binding[i].stage1.version % 2];
    ok = c.binding[i].attaching <= 1 && s.bound <= 1 && s.mode <= 2 && s.s1fmt <= 2 &&
         s.s1cdmax <= 20;
  }
  return ok;
}

/// Offsets that mean something; the rest of the journal is arrays of these.
constexpr std::size_t kEvent = offsetof(JournalLayout, event);
constexpr std::size_t kCommand = offsetof(JournalLayout, command);
constexpr std::size_t kFields[] = {
    0,
    8,
    12,
    24,
    28,
    kEvent + 0,
    kEvent + 8,
    kEvent + 12,
    kEvent + 16,
    kEvent + 24,
    kEvent + 40,
    kEvent + 48,
    kEvent + 52,
    kEvent + 64,
    kEvent + 72,
    kEvent + 80,
    kEvent + 88,
    kEvent + 92,
    kEvent + 96,
    kEvent + 104,
    kEvent + 128,
    kEvent + 136,
    kEvent + 144,
    kEvent + 160,
    kEvent + 256,
    kCommand + 8,
    kCommand + 12,
    kCommand + 16,
    kCommand + 20,
    kCommand + 24,
    kCommand + 32,
    kCommand + 64,
    kCommand + 72,
    kCommand + 76,
    kCommand + 80,
    kCommand + 92,
    kCommand + 96,
    kCommand + 100,
    kCommand + 104,
    kCommand + 112,
    kCommand + 136,
    kCommand + 256,
    kCommand + 264,
    kCommand + 268,
    kCommand + 272,
    kCommand + 280,
    kCommand + 328,
    kCommand + 256 + 80,
    kCommand + 256 + 88,
    kCommand + 256 + 92,
    kCommand + 256 + 152,
    // Behind the others, so that the corpus keeps its meaning.
    kEvent + 32,
    kEvent + 256 + 64 * 32,
    kEvent + 256 + 64 * 32 + 4,
};

/// A guest in the middle of its work.
void fill(World& world) {
  engine::EventJournal event = world.journal->event();
  event.switch_evtq({World::kRam + 0x2000, 3, 1}, 5);
  event.set_irq({World::kRam + 0x3000, 0, 11, 0, 5, 0});
  engine::CommandJournal command = world.journal->command();
  engine::JournalRegisters r;
  r.cr0 = r.cr0ack = 0xd;
  r.irq_ctrl = 5;
  r.strtab_base = World::kRam + 0x4000;
  r.strtab_base_cfg = 3;
  r.cmdq_base = World::kRam;
  r.cmdq_log2size = 6;
  command.set_registers(r);
  command.set_cons(3);
  world.page.release(Reg32::kCr0, 0xd);
  world.page.release(Reg32::kIrqCtrl, 5);
  world.page.release(Reg32::kCmdqProd, 9);
  auto* words = reinterpret_cast<std::uint64_t*>(World::memory().host(1));
  for (std::size_t i = 0; i < 64; ++i) words[2 * i] = i % 4 == 3 ? 0x46 : 0x12;
}

void damage(Input& in, JournalLayout& layout) {
  auto* bytes = reinterpret_cast<unsigned char*>(&layout);
  for (unsigned n = in.byte() % 12; n > 0; --n) {
    std::size_t at = in.byte() % 64;
    at = at < std::size(kFields) ? kFields[at] : in.below(sizeof layout);
    const std::uint8_t how = in.byte();
    const std::size_t size = std::min<std::size_t>(std::size_t{1} << how % 4, sizeof layout - at);
    const std::uint64_t value = (how & 0x10) != 0 ? in.u64() : in.byte();
    std::memcpy(bytes + at, &value, size);
  }
}

/// The duties trust what they resume from, so nothing in it may lead astray. Addresses of a guest
/// are its own business and are checked by its memory; the far ones are kept free as the witness.
void resume(Input& in, World& world) {
  auto& c = world.journal->layout().command;
  auto& e = world.journal->layout().event;
  c.sync_address &= ~World::kFar;
  for (auto& slot : c.registers.slot) slot.cmdq_base &= ~World::kFar;
  for (auto& slot : e.evtq.slot) slot.base &= ~World::kFar;
  for (auto& slot : e.irq.slot) {
    slot.evtq_address &= ~World::kFar;
    slot.gerror_address &= ~World::kFar;
  }
  world.waiting = {in.byte() % 8U, in.byte() % 8U};
  world.journal->set_in_use();
  const std::uint32_t cr0 = world.page.load(Reg32::kCr0);
  Duties duties(world, in.flag());
  duties.settle(24);
  hold(world.page.load(Reg32::kCr0) == cr0, "a register of the guest's was changed");
  hold((world.page.load(Reg32::kCr0Ack) & ~0x1fU) == 0, "an acknowledgement of what there is not");
  hold(!world.journal->event().intent().valid, "an intent is never carried out");
  hold(world.journal->command().sync().state == engine::SyncState::kNone, "a SYNC is never told");
  hold(engine::validate(world.journal->layout(), sizeof(JournalLayout)).has_value(),
       "the engine writes a journal that it would refuse");
  const unsigned char* canary = World::memory().host(2);
  for (std::size_t i = 0; i < 0x1000; ++i) hold(canary[i] == 0, "memory nobody pointed to");
}

void run(Input in) {
  World world(features(in),
              in.flag() ? engine::RegisterMode::kExitless : engine::RegisterMode::kTrapped);
  auto journal = engine::Journal::create("fuzz", World::kDevices, 1);
  if (!journal) std::abort();
  world.journal.emplace(std::move(*journal));
  fill(world);
  damage(in, world.journal->layout());
  const JournalLayout& layout = world.journal->layout();

  hold(!engine::validate(layout, in.u16() % sizeof layout).has_value(), "a journal cut short");
  const auto valid = engine::validate(layout, sizeof layout);
  hold(valid.has_value() == sound(layout), "accepted or refused against the rules");
  if (!valid) {
    hold_one_line(valid.error().message());
    hold(!engine::Journal::open(world.journal->memfd()).has_value(), "opened all the same");
    return;
  }
  auto opened = engine::Journal::open(world.journal->memfd());
  hold(opened.has_value(), "a valid journal is not opened");
  hold(opened->devices() == layout.header.devices, "devices");
  for (std::size_t i = 0; i < opened->devices(); ++i) {
    Stage1Config config;
    if (!opened->command().stage1(i, config)) continue;
    hold(config.mode <= Stage1Config::Mode::kTranslate && config.s1cdmax <= 20, "stage 1");
  }
  // The engine refuses the journal of a guest with other devices.
  if (layout.header.devices == World::kDevices) resume(in, world);
}

}  // namespace
}  // namespace faultline::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  faultline::fuzz::run({data, size});
  return 0;
}
