// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <gtest/gtest.h>
#include <sys/mman.h>

#include <array>
#include <cerrno>
#include <cstdint>
#include <cstdlib>
#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "engine/command_duty.h"
#include "engine/merge/batch_until_sync.h"
#include "engine/merge/forward_each.h"
#include "engine/merge/merge.h"

// What a CommandDuty lives between: a kernel that keeps what it was told, a cold lane, an
// EventDuty, guest memory, and a driver that writes registers and commands as Linux does.

namespace faultline::engine::command_world {

using viommu::Reg32;
using viommu::Reg64;

/// The kernel: what was invalidated, in order, and each device's stage 1. Survives the engine.
struct FakeKernel {
  std::vector<std::vector<Operation>> submissions;
  std::vector<std::pair<std::uint32_t, Stage1Config>> attaches;
  std::vector<std::pair<std::size_t, std::uint16_t>> asids;
  std::function<bool(std::size_t call)> fail_submit;  ///< call = how many came before
  std::function<bool(std::uint32_t device, const Stage1Config&)> refuse_stage1;
  int refusal = EINVAL;  ///< what it says then
  std::function<void(std::span<const Operation>)> on_submit;
  std::function<bool(std::span<const Operation>)> atc_timeout;  ///< a device does not answer
  std::size_t calls = 0;
  std::size_t attach_calls = 0;
  bool record = true;
  bool config_caches = true;

  [[nodiscard]] std::vector<Operation> flat() const {
    std::vector<Operation> all;
    for (const auto& s : submissions) all.insert(all.end(), s.begin(), s.end());
    return all;
  }
};

/// The engine's half of it; dies with the engine.
struct FakeSink {
  FakeKernel* kernel;

  SinkCaps caps() noexcept {
    return {.max_batch = 63, .tlb_all = true, .config_caches = kernel->config_caches};
  }
  SubmitResult submit(std::span<const Operation> ops) noexcept {
    EXPECT_GE(ops.size(), 1U);
    EXPECT_LE(ops.size(), merge::kMaxSubmission);
    const std::size_t call = kernel->calls++;
    if (kernel->fail_submit && kernel->fail_submit(call)) return {EIO, 1, 0};
    if (kernel->record) kernel->submissions.emplace_back(ops.begin(), ops.end());
    if (kernel->on_submit) kernel->on_submit(ops);
    if (kernel->atc_timeout && kernel->atc_timeout(ops)) return {ETIMEDOUT, 1, 1, true};
    return {0, 1, 1};
  }
  void note_asid(std::size_t device, std::uint16_t asid) noexcept {
    if (kernel->record) kernel->asids.emplace_back(device, asid);
  }
  SubmitResult set_stage1(std::size_t device, const Stage1Config& config) noexcept {
    const auto i = static_cast<std::uint32_t>(device);
    if (kernel->refuse_stage1 && kernel->refuse_stage1(i, config)) {
      return {kernel->refusal, 1, 0};
    }
    ++kernel->attach_calls;
    if (kernel->record) kernel->attaches.emplace_back(i, config);
    return {0, 1, 0};
  }
};

struct ManualClock {
  Nanos* now;
  Nanos operator()() const noexcept { return *now; }
};

/// Tells the duty to leave at the n-th passing of a step, as a kill would.
struct StopAt {
  struct Plan {
    std::optional<JournalStep> step;
    std::uint32_t count = 1;
    std::set<JournalStep> seen;
  };
  Plan* plan;
  bool operator()(JournalStep at) const noexcept {
    plan->seen.insert(at);
    return plan->step == at && --plan->count == 0;
  }
};

// Commands as the driver writes them.
inline viommu::RawCommand tlbi_va(std::uint64_t va, std::uint16_t asid = 1) {
  return {{0x12 | std::uint64_t{asid} << 48U, va | 1}};
}
inline viommu::RawCommand tlbi_asid(std::uint16_t asid) {
  return {{0x11 | std::uint64_t{asid} << 48U, 0}};
}
inline viommu::RawCommand tlbi_all() {
  return {{0x30, 0}};
}
inline viommu::RawCommand cfgi_ste(std::uint32_t sid) {
  return {{0x03 | std::uint64_t{sid} << 32U, 1}};
}
inline viommu::RawCommand cfgi_all() {
  return {{0x04, 31}};
}
inline viommu::RawCommand cfgi_cd(std::uint32_t sid) {
  return {{0x05 | std::uint64_t{sid} << 32U, 1}};
}
inline viommu::RawCommand cfgi_cd_all(std::uint32_t sid) {
  return {{0x06 | std::uint64_t{sid} << 32U, 0}};
}
/// 2^size pages, size 52: all
inline viommu::RawCommand atc_inv(std::uint32_t sid, std::uint64_t addr, std::uint64_t size) {
  return {{0x40 | std::uint64_t{sid} << 32U, addr | size}};
}
inline viommu::RawCommand resume(std::uint32_t sid) {
  return {{0x44 | std::uint64_t{sid} << 32U | 1U << 12U, 0}};
}
inline viommu::RawCommand prefetch() {
  return {{0x01, 0}};
}
inline viommu::RawCommand sync() {
  return {{0x46, 0}};
}
inline viommu::RawCommand sync_irq() {
  return {{0x46 | 1U << 12U, 0}};
}
inline viommu::RawCommand sync_msi(std::uint64_t address, std::uint32_t data) {
  return {{0x46 | 1U << 12U | std::uint64_t{data} << 32U, address}};
}
inline viommu::RawCommand illegal() {
  return {{0xff, 0}};
}

/// Everything outside the engine.
class World {
 public:
  static constexpr std::uint64_t kRegisters = 0x0900'0000;
  static constexpr std::uint64_t kRam = 0x4000'0000;
  static constexpr std::size_t kRamBytes = 4U << 20U;
  static constexpr std::uint64_t kCmdq = kRam + 0x10000;
  static constexpr std::uint64_t kEvtq = kRam + 0x40000;
  static constexpr std::uint64_t kStrtab = kRam + 0x80000;
  static constexpr std::uint64_t kContexts = kRam + 0x100000;  ///< one page for each device
  static constexpr unsigned kEvtqLog2 = 5;

  explicit World(std::size_t devices = 2, RegisterMode mode = RegisterMode::kExitless,
                 unsigned cmdq_log2 = 7)
      : cmdq_log2(cmdq_log2) {
    map(kRegisters, viommu::kRegisterBytes);
    map(kRam, kRamBytes);
    spec.mode = mode;
    for (std::size_t i = 0; i < devices; ++i) {
      spec.devices.push_back({"d" + std::to_string(i), StreamId{sid(i)}});
    }
    auto made = viommu::GuestMemory::make(spec.memory);
    if (!made) std::abort();
    memory.emplace(std::move(*made));
    page = *viommu::RegisterPage::map(*memory, Gpa{kRegisters});
    auto fresh = Journal::create("test", devices, 1);
    if (!fresh) std::abort();
    journal.emplace(std::move(*fresh));
    features.sid_bits = 6;
  }
  World(const World&) = delete;
  World& operator=(const World&) = delete;
  ~World() {
    memory.reset();
    for (const MemoryRegion& r : spec.memory) munmap(r.host, r.size);
  }

  static constexpr std::uint32_t sid(std::size_t device) {
    return 8 + 3 * static_cast<std::uint32_t>(device);
  }

  [[nodiscard]] CommandDutySetup setup() {
    return {7, &spec, &*memory, page, features, &*rings, &*journal};
  }

  // The driver's side.

  void put(std::uint64_t gpa, std::uint64_t value) {
    ASSERT_TRUE(memory->write64(Gpa{gpa}, value));
  }
  [[nodiscard]] std::uint64_t get(std::uint64_t gpa) const {
    std::uint64_t value = 0;
    EXPECT_TRUE(memory->read64(Gpa{gpa}, value));
    return value;
  }
  [[nodiscard]] std::uint32_t size() const { return 1U << cmdq_log2; }
  [[nodiscard]] std::uint32_t mask() const { return 2 * size() - 1; }
  [[nodiscard]] std::uint64_t slot(std::uint32_t index) const {
    return kCmdq + 16 * std::uint64_t{index & (size() - 1)};
  }
  /// Write commands, then PROD.
  void queue(std::initializer_list<viommu::RawCommand> commands) {
    for (const viommu::RawCommand& c : commands) place(c);
    ring();
  }
  void place(const viommu::RawCommand& c) {
    put(slot(prod), c.word[0]);
    put(slot(prod) + 8, c.word[1]);
    prod = (prod + 1) & mask();
  }
  void ring() { page.release(Reg32::kCmdqProd, prod); }
  [[nodiscard]] std::uint32_t cons() const { return page.acquire(Reg32::kCmdqCons); }
  [[nodiscard]] std::uint32_t cons_error() const { return cons() >> 24U & 0x7fU; }
  [[nodiscard]] std::uint32_t used() const { return (prod - cons()) & mask(); }
  [[nodiscard]] bool cmdq_error_active() const {
    return ((page.acquire(Reg32::kGerror) ^ page.load(Reg32::kGerrorn)) & 1) != 0;
  }
  void acknowledge_gerror() { page.release(Reg32::kGerrorn, page.acquire(Reg32::kGerror)); }

  /// A stage-1 STE with one context of `asid`.
  void write_ste(std::size_t device, std::uint16_t asid) {
    const std::uint64_t cd = kContexts + 0x1000 * std::uint64_t{device};
    put(cd, 0x19 | std::uint64_t{1} << 30U | std::uint64_t{1} << 31U | std::uint64_t{asid} << 48U);
    put(cd + 8, kRam + 0x200000);
    put(ste(device) + 8, 0);
    put(ste(device), 1 | 5U << 1U | cd);
  }
  void write_bypass_ste(std::size_t device) {
    put(ste(device) + 8, 0);
    put(ste(device), 1 | 4U << 1U);
  }
  static std::uint64_t ste(std::size_t device) { return kStrtab + 64 * std::uint64_t{sid(device)}; }

  void write_cmdq_registers() {
    page.store(Reg64::kCmdqBase, kCmdq | cmdq_log2);
    page.store(Reg32::kCmdqProd, 0);
    page.store(Reg32::kCmdqCons, 0);
    prod = 0;
  }
  void write_evtq_registers() {
    page.store(Reg64::kEvtqBase, kEvtq | kEvtqLog2);
    page.store(Reg32::kEvtqProd, 0);
    page.store(Reg32::kEvtqCons, 0);
  }
  void write_strtab_registers() {
    page.store(Reg64::kStrtabBase, kStrtab);
    page.store(Reg32::kStrtabBaseCfg, features.sid_bits);
  }
  void write_cr0(std::uint32_t value) { page.release(Reg32::kCr0, value); }
  [[nodiscard]] std::uint32_t cr0ack() const { return page.acquire(Reg32::kCr0Ack); }

  // The EventDuty and the cold lane, one step each. returns  work done

  std::size_t serve_events() {
    ToEventDuty message;
    if (hold_events || !rings->to_event.pop(message)) return 0;
    requests.push_back(message);
    EventJournal journalled = journal->event();
    std::uint32_t gerror = journalled.gerror();
    if (message.kind == ToEventDuty::Kind::kRaiseGerror) {
      const std::uint32_t active = gerror ^ page.acquire(Reg32::kGerrorn);
      gerror ^= message.bits & ~active;
      journalled.set_gerror(gerror, message.token);
      page.release(Reg32::kGerror, gerror);
    } else if (message.kind == ToEventDuty::Kind::kEnableEvtq) {
      journalled.switch_evtq({message.base, message.log2size, 1}, message.prod);
    } else if (message.kind == ToEventDuty::Kind::kDisableEvtq) {
      journalled.switch_evtq({}, 0);
    }
    EXPECT_TRUE(rings->to_command.push({message.token, gerror}));
    return 1;
  }
  std::size_t serve_cold(FakeSink& sink) {
    Stage1Job job;
    if (hold_cold || !rings->to_cold.pop(job)) return 0;
    EXPECT_EQ(job.guest, 7U);
    const SubmitResult result = sink.set_stage1(job.device, job.config);
    EXPECT_TRUE(rings->from_cold.push({job.guest, job.device, result}));
    return 1;
  }

  GuestSpec spec;
  std::optional<viommu::GuestMemory> memory;
  viommu::RegisterPage page;
  viommu::Features features;
  std::optional<Journal> journal;
  std::optional<GuestRings> rings{std::in_place};
  FakeKernel kernel;
  StopAt::Plan plan;
  Nanos now = 1000;
  std::uint32_t prod = 0;
  unsigned cmdq_log2;
  bool hold_events = false;
  bool hold_cold = false;
  std::vector<ToEventDuty> requests;

 private:
  void map(std::uint64_t gpa, std::size_t bytes) {
    void* host = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (host == MAP_FAILED) std::abort();
    spec.memory.push_back({Gpa{gpa}, bytes, host, -1});
  }
};

/// The engine: a duty that can be killed and started again on the same world.
template <class Policy>
class Engine {
 public:
  using Duty = CommandDuty<FakeSink, Policy, StopAt, ManualClock>;

  explicit Engine(World& world) : world_(&world), sink_{&world.kernel} { start(); }

  void start() {
    duty_ = std::make_unique<Duty>(world_->setup(), sink_, Policy{}, StopAt{&world_->plan},
                                   ManualClock{&world_->now});
    world_->journal->set_in_use();
  }
  /// A killed engine takes its rings and everything in them along.
  void restart() {
    duty_.reset();
    world_->rings.emplace();
    world_->plan.step.reset();
    start();
  }

  std::size_t round() {
    world_->now += 100;
    std::size_t work = duty_->round(world_->now);
    work += world_->serve_events();
    work += world_->serve_cold(sink_);
    return work;
  }
  /// Rounds until `done` says so. returns  whether it did, within the bound
  bool until(const std::function<bool()>& done, int rounds = 2000) {
    for (int i = 0; i < rounds; ++i) {
      if (done()) return true;
      round();
    }
    return done();
  }
  void rounds(int n) {
    for (int i = 0; i < n; ++i) round();
  }
  bool drained() {
    return until([&] { return world_->used() == 0; });
  }

  /// Everything as Linux does it at probe; each acknowledgement awaited.
  bool probe() {
    World& w = *world_;
    w.write_strtab_registers();
    w.write_cmdq_registers();
    w.write_cr0(8);
    if (!until([&] { return w.cr0ack() == 8; })) return false;
    w.queue({cfgi_all(), sync(), tlbi_all(), sync()});
    if (!drained()) return false;
    w.write_evtq_registers();
    w.write_cr0(0xc);
    if (!until([&] { return w.cr0ack() == 0xc; })) return false;
    w.page.release(Reg32::kIrqCtrl, 5);
    if (!until([&] { return w.page.acquire(Reg32::kIrqCtrlAck) == 5; })) return false;
    w.write_cr0(0xd);
    return until([&] { return w.cr0ack() == 0xd; });
  }

  Duty& duty() { return *duty_; }
  FakeSink& sink() { return sink_; }

 private:
  World* world_;
  FakeSink sink_;
  std::unique_ptr<Duty> duty_;
};

}  // namespace faultline::engine::command_world
