// SPDX-License-Identifier: BSD-3-Clause
// Register writes of a hostile guest in any order, trapped and exitless, with commands, faults,
// refusals of the kernel and kills in between: every change is answered, nothing is touched that
// is not the engine's to touch.
#include "tests/fuzz/world.h"

namespace faultline::fuzz {
namespace {

constexpr Reg32 kWritable32[] = {
    Reg32::kCr0,           Reg32::kCr0,      Reg32::kCr1,      Reg32::kCr2,
    Reg32::kGbpa,          Reg32::kIrqCtrl,  Reg32::kGerrorn,  Reg32::kGerrorIrqCfg1,
    Reg32::kStrtabBaseCfg, Reg32::kCmdqProd, Reg32::kCmdqCons, Reg32::kEvtqIrqCfg1,
    Reg32::kEvtqProd,      Reg32::kEvtqCons, Reg32::kCmdqProd, Reg32::kIrqCtrl,
};
constexpr Reg64 kWritable64[] = {Reg64::kGerrorIrqCfg0, Reg64::kStrtabBase, Reg64::kCmdqBase,
                                 Reg64::kEvtqBase, Reg64::kEvtqIrqCfg0};
// Registers that nobody but the guest writes, whatever the mode.
constexpr Reg32 kGuests[] = {Reg32::kCr0,        Reg32::kCr1,     Reg32::kCr2,
                             Reg32::kIrqCtrl,    Reg32::kGerrorn, Reg32::kGerrorIrqCfg1,
                             Reg32::kEvtqIrqCfg1};

class Run {
 public:
  explicit Run(Input& in)
      : in_(in),
        mode_(in.flag() ? engine::RegisterMode::kExitless : engine::RegisterMode::kTrapped),
        forward_each_(in.flag()),
        world_(narrowed(in), mode_) {
    auto journal = engine::Journal::create("fuzz", World::kDevices, 1);
    if (!journal) std::abort();
    world_.journal.emplace(std::move(*journal));
    world_.record.form = FaultRecord::Form::kRawEvent;
    world_.record.event[0] = 0x10;
    duties_.emplace(world_, forward_each_);
    duties_->settle(4);
    for (std::size_t i = 0; i < std::size(kGuests); ++i) written_[i] = world_.page.load(kGuests[i]);
  }

  void run() {
    for (int steps = 0; steps < 48 && !in_.empty(); ++steps) step();
    world_.refuse_submit = world_.refuse_stage1 = 0;
    duties_->settle();
    check();
  }

 private:
  static viommu::Features narrowed(Input& in) {
    viommu::Features f = features(in);
    f.sid_bits = std::min(f.sid_bits, 16U);
    return f;
  }
  /// Nothing that a guest writes points to where it has no business (see World::kFar).
  static std::uint64_t harmless(std::uint64_t word) { return word & ~World::kFar; }

  void write_ram(std::size_t word, std::uint64_t value) {
    value = harmless(value);
    std::memcpy(World::memory().host(1) + 8 * (word % (World::kRamBytes / 8)), &value, 8);
  }
  /// Most of the time in RAM.
  std::uint64_t address() {
    return in_.flag() ? World::kRam + 0x1000 * (in_.byte() % 8) : harmless(in_.u64());
  }

  void write_register() {
    viommu::RegisterPage& page = world_.page;
    const std::uint8_t which = in_.byte();
    if (which % 3 != 0) {
      const Reg32 reg = kWritable32[which % 16];
      const std::uint32_t value = in_.flag() ? in_.byte() : in_.u32();
      page.release(reg, value);
      for (std::size_t i = 0; i < std::size(kGuests); ++i) {
        if (kGuests[i] == reg) written_[i] = value;
      }
      return;
    }
    const Reg64 reg = kWritable64[which % 5];
    const std::uint64_t value = address() | (in_.byte() & 0x1f);
    if (in_.flag()) {
      page.store(reg, value);
      return;
    }
    // In two halves, in either order, with the engine in between.
    auto* halves = reinterpret_cast<std::uint32_t*>(&page.at(reg));
    const unsigned first = in_.byte() & 1;
    store_relaxed(halves[first], static_cast<std::uint32_t>(value >> 32 * first));
    duties_->round();
    store_relaxed(halves[1 - first], static_cast<std::uint32_t>(value >> 32 * (1 - first)));
  }

  /// What Linux does at probe, so that the fuzzer need not find it.
  void probe() {
    viommu::RegisterPage& page = world_.page;
    page.store(Reg64::kStrtabBase, World::kRam + 0x4000);
    page.store(Reg32::kStrtabBaseCfg, 3);
    page.store(Reg64::kCmdqBase, World::kRam | 6);
    page.store(Reg32::kCmdqProd, 0);
    page.store(Reg32::kCmdqCons, 0);
    page.store(Reg64::kEvtqBase, (World::kRam + 0x2000) | 3);
    page.store(Reg32::kEvtqProd, 0);
    page.store(Reg32::kEvtqCons, 0);
    for (std::size_t i = 0; i < World::kDevices; ++i) {
      write_ram((0x4000 + 64 * World::sid(i)) / 8, 1 | 5 << 1 | (World::kRam + 0x5000));
    }
    write_ram(0x5000 / 8, std::uint64_t{1} << 31 | std::uint64_t{3} << 48);
    write(Reg32::kIrqCtrl, 5);
    write(Reg32::kCr0, 0xd);
    if (in_.flag()) duties_->settle(20);
  }
  void write(Reg32 reg, std::uint32_t value) {
    world_.page.release(reg, value);
    for (std::size_t i = 0; i < std::size(kGuests); ++i) {
      if (kGuests[i] == reg) written_[i] = value;
    }
  }

  /// Commands into the queue of probe(), and PROD.
  void commands() {
    static constexpr std::uint8_t kUsual[] = {0x03, 0x04, 0x05, 0x06, 0x10, 0x11, 0x12, 0x13,
                                              0x30, 0x40, 0x46, 0x46, 0x46, 0x01, 0x44, 0xff};
    std::uint32_t prod = world_.page.load(Reg32::kCmdqProd);
    for (unsigned n = 1 + in_.byte() % 24; n > 0; --n, ++prod) {
      const std::uint8_t how = in_.byte();
      std::uint64_t low = kUsual[how % 16];
      if ((how & 0x10) != 0) low |= in_.u64() & ~std::uint64_t{0xff};
      if ((how & 0x20) != 0) low |= std::uint64_t{World::sid(how >> 6 & 1)} << 32;
      write_ram(2 * (prod % 64), low);
      write_ram(2 * (prod % 64) + 1, (how & 0x40) != 0 ? address() | in_.byte() : 0);
    }
    world_.page.release(Reg32::kCmdqProd, prod % 128);
  }

  void step() {
    std::uint8_t how = 0;
    switch (in_.byte() % 12) {
      case 0:
      case 1:
      case 2:
        write_register();
        break;
      case 3:
        probe();
        break;
      case 4:
      case 5:
        commands();
        break;
      case 6:
        write(Reg32::kGerrorn, world_.page.load(Reg32::kGerror));
        break;
      case 7:
        write_ram(in_.u16(), in_.flag() ? in_.u64() : address() | in_.byte());
        break;
      case 8:
        world_.waiting[in_.byte() % 2] = in_.byte() % 80;
        world_.losses = in_.byte() % 3;
        world_.page.store(Reg32::kEvtqCons, world_.page.load(Reg32::kEvtqProd));
        break;
      case 9:
        how = in_.byte();
        world_.refuse_submit = how % 4;
        world_.devices_silent = (how & 0x10) != 0;
        world_.refuse_stage1 = in_.byte() % 8;
        break;
      case 10:
        world_.plan = {in_.byte(), 1 + in_.byte() % 4, false};
        if (in_.flag()) duties_->restart();
        break;
      default:
        for (unsigned n = in_.byte() % 16; n > 0; --n) duties_->round(in_.flag(), in_.flag());
        break;
    }
  }

  void check() {
    const viommu::RegisterPage& page = world_.page;
    const viommu::Features& f = world_.features;
    const std::uint32_t mask = 0xd | (f.pri ? 2U : 0U) | (f.ats ? 0x10U : 0U);
    hold((page.load(Reg32::kCr0Ack) & ~mask) == 0, "an acknowledgement of what is not offered");
    hold(page.load(Reg32::kCr0Ack) == (page.load(Reg32::kCr0) & mask), "CR0 is not answered");
    hold(page.load(Reg32::kIrqCtrlAck) == (page.load(Reg32::kIrqCtrl) & (5 | (f.pri ? 2U : 0U))),
         "IRQ_CTRL is not answered");
    hold((page.load(Reg32::kGbpa) & viommu::gbpa::kUpdate) == 0, "GBPA is not answered");
    for (std::size_t i = 0; i < std::size(kGuests); ++i) {
      hold(page.load(kGuests[i]) == written_[i], "a register of the guest's was changed");
    }
    const bool error = ((page.load(Reg32::kGerror) ^ page.load(Reg32::kGerrorn)) & 1) != 0;
    if (forward_each_ && !error && (page.load(Reg32::kCr0Ack) & 8) != 0) {
      // Whatever PROD is, the queue empties; a queue may be long, so what counts is progress.
      // CONS by the journal: the guest may have scribbled over the register.
      const engine::CommandJournal journal = world_.journal->command();
      const std::uint32_t before = journal.cons();
      const std::uint32_t size = 1U << journal.registers().cmdq_log2size;
      const bool empty = ((page.load(Reg32::kCmdqProd) - before) & (2 * size - 1)) == 0;
      duties_->settle(8);
      hold(empty || journal.cons() != before || page.load(Reg32::kCmdqProd) == ~0U,
           "commands are left in the queue");
    }
    if ((page.load(Reg32::kCr0Ack) & 1) == 0) {
      for (const Stage1Config& c : world_.bound) {
        hold(c.mode != Stage1Config::Mode::kTranslate || error, "a stream translates after SMMUEN");
      }
    }
    const unsigned char* canary = World::memory().host(2);
    for (std::size_t i = 0; i < 0x1000; ++i) hold(canary[i] == 0, "memory nobody pointed to");
  }

  Input& in_;
  engine::RegisterMode mode_;
  bool forward_each_;
  World world_;
  std::optional<Duties> duties_;
  std::uint32_t written_[std::size(kGuests)] = {};
};

}  // namespace
}  // namespace faultline::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  faultline::fuzz::Input in(data, size);
  faultline::fuzz::Run(in).run();
  return 0;
}
