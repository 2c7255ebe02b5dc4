// SPDX-License-Identifier: BSD-3-Clause
#include "apps/guest/smmu_driver.h"

#include <algorithm>
#include <string>

namespace faultline::guest {
namespace {

// CR1: tables and queues are inner shareable and write-back cacheable.
constexpr std::uint32_t kCr1 = 3U << 10 | 1U << 8 | 1U << 6 | 3U << 4 | 1U << 2 | 1U;
// CR2: PTM, RECINVSID.
constexpr std::uint32_t kCr2 = 1U << 2 | 1U << 1;

unsigned field(std::uint32_t value, unsigned shift, unsigned bits) {
  return value >> shift & ((1U << bits) - 1);
}

}  // namespace

SmmuDriver::SmmuDriver(GuestMemory& memory, Registers registers, ObservationQueue& sink,
                       const DriverOptions& options)
    : memory_(memory), registers_(registers), sink_(sink), options_(options) {}

Result<void> SmmuDriver::wait(const std::function<bool()>& condition, const char* what,
                              const Idle& idle) {
  const Nanos start = monotonic_ns();
  while (!condition()) {
    if (monotonic_ns() - start > options_.timeout_ns) {
      return fail(0, std::string("the virtual SMMU did not answer in time: ") + what);
    }
    idle();
  }
  return {};
}

Result<void> SmmuDriver::write_and_wait(std::size_t at, std::size_t ack, std::uint32_t value,
                                        const char* name, const Idle& idle) {
  registers_.write32(at, value);
  return wait([&] { return registers_.read32(ack) == value; }, name, idle);
}

Result<void> SmmuDriver::probe(const Idle& idle) {
  // The ID registers come with the page; an engine that is still attaching has not written them.
  if (auto r = wait([&] { return registers_.read32(reg::kIdr0) != 0; }, "IDR0", idle); !r) return r;
  idr0_ = registers_.read32(reg::kIdr0);
  const std::uint32_t idr1 = registers_.read32(reg::kIdr1);
  idr3_ = registers_.read32(reg::kIdr3);
  if ((idr0_ & 2U) == 0) return fail(0, "the virtual SMMU offers no stage 1 (IDR0.S1P)");
  if (field(idr0_, 2, 2) == 1) return fail(0, "the virtual SMMU offers no AArch64 tables");
  if (options_.stream_table == StreamTable::Format::kTwoLevel && (idr0_ & reg::kIdr0TwoLevel) == 0)
    options_.stream_table = StreamTable::Format::kLinear;
  const unsigned command_log2 = std::min(options_.command_log2size, field(idr1, 21, 5));
  const unsigned event_log2 = std::min(options_.event_log2size, field(idr1, 16, 5));
  const unsigned sid_log2 = std::min(options_.sid_log2size, field(idr1, 0, 6));
  if (command_log2 <= 6) return fail(0, "the virtual SMMU's command queue is too small (IDR1)");

  if ((registers_.read32(reg::kCr0) & reg::kCr0SmmuEn) != 0) {
    // Found enabled: block everything before it is disabled.
    registers_.write32(reg::kGbpa, reg::kGbpaUpdate | reg::kGbpaAbort);
    const auto updated = [&] { return (registers_.read32(reg::kGbpa) & reg::kGbpaUpdate) == 0; };
    if (auto r = wait(updated, "GBPA", idle); !r) return r;
  }
  if (auto r = write_and_wait(reg::kCr0, reg::kCr0Ack, 0, "CR0 = 0", idle); !r) return r;

  commands_ = std::make_unique<CommandQueue>(memory_, registers_, command_log2);
  events_ = std::make_unique<EventQueue>(memory_, registers_, event_log2, sink_);
  streams_ = std::make_unique<StreamTable>(memory_, options_.stream_table, sid_log2);
  registers_.write32(reg::kCr1, kCr1);
  registers_.write32(reg::kCr2, kCr2);
  registers_.write64(reg::kStrtabBase, streams_->base_register());
  registers_.write32(reg::kStrtabBaseCfg, streams_->config_register());

  registers_.write64(reg::kCmdqBase, commands_->base_register());
  registers_.write32(reg::kCmdqProd, 0);
  registers_.write32(reg::kCmdqCons, 0);
  std::uint32_t enables = reg::kCr0CmdqEn;
  if (auto r = write_and_wait(reg::kCr0, reg::kCr0Ack, enables, "CR0.CMDQEN", idle); !r) return r;
  if (auto r = run({cfgi_all()}, idle); !r) return r;
  if (auto r = run({tlbi_nsnh_all()}, idle); !r) return r;

  registers_.write64(reg::kEvtqBase, events_->base_register());
  registers_.write32(reg::kEvtqProd, 0);
  registers_.write32(reg::kEvtqCons, 0);
  enables |= reg::kCr0EvtqEn;
  if (auto r = write_and_wait(reg::kCr0, reg::kCr0Ack, enables, "CR0.EVTQEN", idle); !r) return r;

  if (auto r = write_and_wait(reg::kIrqCtrl, reg::kIrqCtrlAck, 0, "IRQ_CTRL = 0", idle); !r)
    return r;
  // Wired interrupts: the MSI configurations stay zero.
  registers_.write64(reg::kGerrorIrqCfg0, 0);
  registers_.write64(reg::kEvtqIrqCfg0, 0);
  if (auto r = write_and_wait(reg::kIrqCtrl, reg::kIrqCtrlAck, reg::kIrqGerror | reg::kIrqEvtq,
                              "IRQ_CTRL", idle);
      !r)
    return r;
  enables |= reg::kCr0SmmuEn;
  return write_and_wait(reg::kCr0, reg::kCr0Ack, enables, "CR0.SMMUEN", idle);
}

Result<void> SmmuDriver::run(std::initializer_list<Command> commands, const Idle& idle) {
  for (const Command& c : commands) commands_->push(c);
  const Position sync = commands_->push_sync(false);
  commands_->publish();
  return wait(
      [&] {
        handle_gerror();
        commands_->poll();
        return commands_->done(sync);
      },
      "CMD_SYNC", idle);
}

bool SmmuDriver::handle_gerror() noexcept {
  const std::uint32_t gerror = registers_.read32(reg::kGerror);
  const std::uint32_t active = gerror ^ gerrorn_;
  if (active == 0) return false;
  unexpected_ |= active & ~reg::kGerrorCmdq;
  if ((active & reg::kGerrorCmdq) != 0 && commands_ != nullptr) commands_->handle_error();
  gerrorn_ = gerror;
  registers_.write32(reg::kGerrorN, gerror);
  return true;
}

}  // namespace faultline::guest
