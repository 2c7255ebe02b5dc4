// SPDX-License-Identifier: BSD-3-Clause
#include "tests/prove/proof.h"

#include <algorithm>
#include <cerrno>
#include <utility>

namespace faultline::prove {
namespace {

namespace w = engine::command_world;

constexpr int kRestRounds = 4'000;

}  // namespace

Proof::Proof(std::unique_ptr<PolicyBase> policy, const Setting& setting, SinkMistake mistake)
    : world_(kDevices, engine::RegisterMode::kExitless, 8),
      policy_(std::move(policy)),
      mistake_(mistake) {
  world_.features = features_of(setting);
  for (std::size_t i = 0; i < kDevices; ++i) {
    world_.write_ste(i, static_cast<std::uint16_t>(i + 1));
  }
  if (!start()) fail("the guest's driver did not come up");
}

/// As Linux does it at probe.
bool Proof::start() {
  duty_ = std::make_unique<Duty>(world_.setup(), sink_, AnyPolicy(*policy_), engine::NoHook{},
                                 w::ManualClock{&world_.now});
  world_.journal->set_in_use();
  const Event calm;
  const auto wait = [&](std::uint32_t cr0) {
    world_.write_cr0(cr0);
    for (int i = 0; i < 100 && world_.cr0ack() != cr0; ++i) round(calm);
    return world_.cr0ack() == cr0;
  };
  world_.write_strtab_registers();
  world_.write_cmdq_registers();
  if (!wait(8)) return false;
  world_.write_evtq_registers();
  if (!wait(0xc) || !wait(0xd)) return false;
  for (int i = 0; i < 100; ++i) round(calm);
  return std::all_of(translating_.begin(), translating_.end(), [](bool t) { return t; });
}

std::string Proof::play(const Script& script, const test::CacheWorld& world) {
  if (!wrong_.empty()) return wrong_;
  ordered_ = unordered_ = ideal_ordered_ = ideal_unordered_ = world;
  segment_.clear();
  proving_ = true;
  for (const Event& event : script) {
    if (!wrong_.empty()) return wrong_;
    switch (event.kind) {
      case Event::Kind::kPlace:
        place(event.raw);
        break;
      case Event::Kind::kRing:
        world_.ring();
        break;
      case Event::Kind::kRound:
        round(event);
        break;
    }
  }
  Event calm;
  calm.passes = 500;
  // Twice: with a full queue there is room for the last SYNC only then.
  for (int i = 0; i < 2; ++i) {
    place(w::sync());
    world_.ring();
    for (int n = 0; n < kRestRounds && passed_ != placed_ && wrong_.empty(); ++n) round(calm);
  }
  if (passed_ != placed_) fail(std::to_string(placed_ - passed_) + " commands never completed");
  for (int n = 0; n < 100 && !duty_->quiet(); ++n) round(calm);
  if (!duty_->quiet()) fail("the duty never came to rest");
  world_.requests.clear();
  proving_ = false;
  return wrong_;
}

void Proof::place(const viommu::RawCommand& raw) {
  if (placed_ - passed_ == kQueue) return;
  Issued& c = at(placed_);
  c = {};
  viommu::Command command;
  if (viommu::decode(raw, world_.features, command) != viommu::CommandError::kNone) {
    c.kind = Issued::Kind::kIllegal;
  } else if (command.is_sync()) {
    c.kind = Issued::Kind::kSync;
    if (command.msi_addr != 0) {
      c.msi_at = command.msi_addr;
      c.msi_data = command.msi_data;
      (void)world_.memory->write32(Gpa{c.msi_at}, 0);
      msis_.push_back(placed_);
    }
  } else if (command.is_operation()) {
    c.kind = Issued::Kind::kOperation;
    c.op = viommu::to_operation(command);
  } else if (command.opcode == viommu::Opcode::kCfgiSte) {
    // Of an entry that did not change: its descriptors go.
    c.kind = Issued::Kind::kOperation;
    c.op.kind = OperationKind::kCfgCdAll;
    c.op.sid = command.sid;
  }
  if (c.kind == Issued::Kind::kOperation) {
    // Nothing of a stream is cached that is not translated for.
    const bool config = c.op.kind == OperationKind::kCfgCd || c.op.kind == OperationKind::kCfgCdAll;
    bool cached = true;
    for (std::size_t d = 0; config && d < kDevices; ++d) {
      if (c.op.sid == sid_of(d)) cached = translating_[d];
    }
    if (cached) {
      ordered_.change(c.op, placed_);
      unordered_.change(c.op, placed_);
    }
  }
  world_.place(raw);
  ++placed_;
  ++tally_.commands;
  if (c.kind == Issued::Kind::kSync) ++tally_.syncs;
}

void Proof::round(const Event& event) {
  event_ = &event;
  world_.now += event.passes != 0 ? event.passes : 100;
  (void)duty_->round(world_.now);
  (void)world_.serve_events();
  (void)serve_cold(event.refuse);
  if (proving_) look();
  event_ = nullptr;
}

bool Proof::serve_cold(bool refuse) {
  engine::Stage1Job job;
  if (!world_.rings->to_cold.pop(job)) return false;
  SubmitResult result{0, 1, 0};
  if (refuse) {
    result.error = EINVAL;
  } else {
    translating_[job.device] = job.config.mode == Stage1Config::Mode::kTranslate;
    Operation op;
    op.kind = OperationKind::kCfgCdAll;
    op.sid = sid_of(job.device);
    ordered_.remove(op);
    unordered_.remove(op);
  }
  (void)world_.rings->from_cold.push({job.guest, job.device, result});
  return true;
}

SubmitResult Proof::submit(std::span<const Operation> ops) noexcept {
  if (ops.empty() || ops.size() > merge::kMaxSubmission) fail("a submission of a wrong size");
  if (!proving_) return {0, 1, 1};
  look();  // what was told before this took effect
  ++tally_.submissions;
  tally_.operations += ops.size();
  world_.now += 2'000 + 50 * ops.size();
  if (event_ == nullptr || !event_->fail) {
    execute(ops);
    return {0, 1, 1};
  }
  ++tally_.failures;
  execute(ops.first(std::min<std::size_t>(event_->executed, ops.size())));
  if (mistake_ != SinkMistake::kResumeAtCount) return {EIO, 1, 0};
  execute(ops.subspan(std::min<std::size_t>(event_->reported, ops.size())));
  return {0, 2, 1};
}

/// What hardware makes of it: reserved encodings do nothing.
void Proof::execute(std::span<const Operation> ops) {
  scratch_.clear();
  for (const Operation& op : ops) {
    const bool tlb = op.kind == OperationKind::kTlbVa || op.kind == OperationKind::kTlbVaa;
    const bool reserved = mistake_ == SinkMistake::kReserved && tlb && op.pages == 1 && op.ttl == 0;
    if (reserved) continue;
    if (tlb && (op.pages == 0 || (op.addr & ((std::uint64_t{1} << op.granule_log2) - 1)) != 0)) {
      fail("a malformed operation: " + test::to_text(op));
    }
    ordered_.remove(op);
    scratch_.push_back(op);
  }
  unordered_.remove_unordered(scratch_);
}

/// What the guest can see now.
void Proof::look() {
  for (; next_msi_ < msis_.size(); ++next_msi_) {
    const std::uint64_t position = msis_[next_msi_];
    const Issued& c = at(position);
    if (position >= passed_) {
      std::uint32_t word = 0;
      (void)world_.memory->read32(Gpa{c.msi_at}, word);
      if (word == 0) break;
      if (word != c.msi_data) fail("the MSI of another SYNC");
    }
    tell(position + 1);
  }
  if (next_msi_ == msis_.size()) {
    msis_.clear();
    next_msi_ = 0;
  }
  const std::uint64_t left = world_.used();
  if (placed_ - left > passed_) {
    tell(placed_ - left);
    passed_ = placed_ - left;
    if (next_msi_ < msis_.size() && msis_[next_msi_] < passed_) {
      fail("CMDQ_CONS passed a SYNC whose MSI was not written");
    }
  }
  if (world_.cmdq_error_active()) repair();
}

/// The guest knows that its first `told` commands took effect.
void Proof::tell(std::uint64_t told) {
  if (told <= told_) return;
  for (; told_ != told; ++told_) {
    const Issued& c = at(told_);
    if (c.kind == Issued::Kind::kIllegal) return fail("an illegal command was passed");
    if (c.kind == Issued::Kind::kOperation) {
      ideal_ordered_.change(c.op, told_);
      ideal_ordered_.remove(c.op);
      ideal_unordered_.change(c.op, told_);
      segment_.push_back(c.op);
    } else if (c.kind == Issued::Kind::kSync) {
      ideal_unordered_.remove_unordered(segment_);
      segment_.clear();
      fenced_ = told_ + 1;
    }
  }
  int entry = ordered_.worse_than(ideal_ordered_, told_);
  const char* how = "";
  if (entry < 0) {
    entry = unordered_.worse_than(ideal_unordered_, fenced_);
    how = " (in the worst order of what goes together)";
  }
  if (entry < 0) return;
  const auto e = static_cast<std::size_t>(entry);
  const std::uint64_t age = std::min(ordered_.ages()[e], unordered_.ages()[e]);
  fail(std::to_string(told_) + " commands were told done, and stale since command " +
       std::to_string(age) + " is still: " + test::to_text(ordered_.entries()[e]) + how);
}

/// As arm_smmu_cmdq_skip_err().
void Proof::repair() {
  ++tally_.errors;
  Issued& c = at(passed_);
  if (passed_ == placed_) return fail("an error behind the last command");
  if (world_.cons_error() == 1) {
    if (c.kind != Issued::Kind::kIllegal) return fail("CERROR_ILL at a legal command");
    c = {};
    c.kind = Issued::Kind::kSync;
    world_.put(world_.slot(world_.cons()), w::sync().word[0]);
    world_.put(world_.slot(world_.cons()) + 8, 0);
  } else if (world_.cons_error() != 2 || c.kind == Issued::Kind::kIllegal) {
    return fail("CMDQ error " + std::to_string(world_.cons_error()) + " where none such is due");
  }
  world_.acknowledge_gerror();
}

}  // namespace faultline::prove
