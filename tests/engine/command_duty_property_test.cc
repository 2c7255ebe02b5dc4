// SPDX-License-Identifier: BSD-3-Clause
#include <gtest/gtest.h>

#include <bit>
#include <deque>
#include <random>
#include <string>

#include "tests/engine/command_duty_world.h"

// Random guests on a kernel that fails at random, judged by an oracle that knows only what the
// guest wrote, what the kernel was told and what the guest could see.

namespace faultline::engine::command_world {
namespace {

/// One command that the guest queued and has not seen CMDQ_CONS pass.
struct Issued {
  enum class Kind { kOperation, kStream, kSync, kIllegal, kNothing };
  Kind kind = Kind::kNothing;
  viommu::RawCommand raw;
  Operation op;            ///< kOperation
  std::size_t device = 0;  ///< kStream
  bool covered = false;
  std::uint64_t segment = 0;  ///< SYNCs queued before it
  std::uint64_t msi_at = 0;   ///< kSync: where its MSI goes, 0: none
  std::uint32_t msi_data = 0;
};

template <class Policy>
class Trial {
 public:
  Trial(std::uint64_t seed, bool failures)
      : random_(seed), failures_(failures), world_(3, RegisterMode::kExitless, 6), engine_(world_) {
    world_.kernel.record = false;
    for (std::size_t i = 0; i < 3; ++i) world_.write_ste(i, static_cast<std::uint16_t>(i + 1));
    EXPECT_TRUE(engine_.probe());
    world_.kernel.on_submit = [this](std::span<const Operation> ops) { judge(ops); };
  }

  void run(int turns) {
    if (failures_) {
      world_.kernel.fail_submit = [this](std::size_t) { return random_() % 16 == 0; };
      world_.kernel.refuse_stage1 = [this](std::uint32_t, const Stage1Config&) {
        return random_() % 8 == 0;
      };
    }
    for (int i = 0; i < turns && !testing::Test::HasFailure(); ++i) {
      const std::uint64_t burst = random_() % 12;
      for (std::uint64_t n = 0; n < burst && issued_.size() < world_.size(); ++n) issue();
      if (random_() % 4 != 0) world_.ring();
      const std::uint64_t rounds = random_() % 4;
      for (std::uint64_t n = 0; n < rounds; ++n) round();
    }
    world_.kernel.fail_submit = nullptr;
    world_.kernel.refuse_stage1 = nullptr;
    if (issued_.size() < world_.size()) push(sync(), Issued::Kind::kSync);
    world_.ring();
    for (int i = 0; i < 20'000 && !issued_.empty() && !testing::Test::HasFailure(); ++i) round();
    EXPECT_TRUE(issued_.empty()) << issued_.size() << " commands never completed";
  }

  void tally(std::uint64_t& errors, std::uint64_t& syncs) {
    errors += engine_.duty().counters().aborts + engine_.duty().counters().illegal;
    syncs += engine_.duty().counters().syncs_completed;
  }

 private:
  static constexpr bool kAcrossSyncs = std::same_as<Policy, merge::Merge>;

  void push(const viommu::RawCommand& raw, Issued::Kind kind, std::size_t device = 0) {
    Issued c;
    c.kind = kind;
    c.raw = raw;
    c.device = device;
    c.segment = segment_;
    viommu::Command decoded;
    if (kind == Issued::Kind::kOperation &&
        viommu::decode(raw, world_.features, decoded) == viommu::CommandError::kNone) {
      c.op = viommu::to_operation(decoded);
    }
    if (kind == Issued::Kind::kSync) {
      ++segment_;
      if ((raw.word[0] >> 12U & 3) == 1) {
        c.msi_at = raw.word[1];
        c.msi_data = static_cast<std::uint32_t>(raw.word[0] >> 32U);
        EXPECT_TRUE(world_.memory->write32(Gpa{c.msi_at}, 0));
      }
    }
    issued_.push_back(c);
    world_.place(raw);
  }

  void issue() {
    const std::size_t device = random_() % 3;
    switch (random_() % 24) {
      case 0:
        push(tlbi_asid(static_cast<std::uint16_t>(random_() % 4)), Issued::Kind::kOperation);
        return;
      case 1:
        push(tlbi_all(), Issued::Kind::kOperation);
        return;
      case 2:
        push(cfgi_cd(World::sid(device)), Issued::Kind::kStream, device);
        return;
      case 3:
        push(cfgi_cd_all(World::sid(device)), Issued::Kind::kStream, device);
        return;
      case 4:
        // What the guest does with a stream's entry it does before CFGI_STE.
        if (random_() % 2 == 0) {
          world_.write_ste(device, static_cast<std::uint16_t>(random_() % 9));
          world_.put(World::ste(device) + 8, random_() % 4);
        }
        push(cfgi_ste(World::sid(device)), Issued::Kind::kStream, device);
        return;
      case 5:
        push(prefetch(), Issued::Kind::kNothing);
        return;
      case 6:
        if (random_() % 4 == 0) {
          push(illegal(), Issued::Kind::kIllegal);
        } else {
          push(cfgi_cd(1), Issued::Kind::kNothing);
        }
        return;
      case 7:
      case 8:
      case 9:
        push(sync(), Issued::Kind::kSync);
        return;
      case 10:
      case 11: {
        const std::uint64_t at = World::kRam + 0x300000 + 4 * (next_msi_++ % 256);
        push(sync_msi(at, static_cast<std::uint32_t>(random_()) | 1), Issued::Kind::kSync);
        return;
      }
      default:
        // Mostly new addresses, now and then one again.
        if (random_() % 4 != 0) ++next_va_;
        push(tlbi_va(next_va_ << 12U), Issued::Kind::kOperation);
    }
  }

  /// The kernel took these: whatever was queued before and is the same is covered.
  void judge(std::span<const Operation> ops) {
    std::uint64_t segment = ~std::uint64_t{0};
    for (const Operation& op : ops) {
      for (Issued& c : issued_) {
        if (c.kind == Issued::Kind::kOperation) {
          const bool same = c.op == op;
          if (op.kind == OperationKind::kTlbAll || same) c.covered = true;
          // Order: an address of its own says which SYNCs it belongs between.
          if (!kAcrossSyncs && same && op.kind == OperationKind::kTlbVa && unique(op)) {
            if (segment == ~std::uint64_t{0}) segment = c.segment;
            EXPECT_EQ(c.segment, segment) << "one submission across a SYNC";
          }
        } else if (c.kind == Issued::Kind::kStream && op.sid == World::sid(c.device) &&
                   (op.kind == OperationKind::kCfgCdAll || op.kind == OperationKind::kCfgCd)) {
          c.covered = true;
        }
      }
    }
  }
  [[nodiscard]] bool unique(const Operation& op) const {
    int n = 0;
    for (const Issued& c : issued_) n += c.kind == Issued::Kind::kOperation && c.op == op ? 1 : 0;
    return n == 1;
  }

  void round() {
    attached_ = world_.kernel.attach_calls;
    engine_.round();
    if (world_.kernel.attach_calls != attached_) {
      // Bound anew: the stream's contexts are gone, too. A failed one ends in abort.
      for (Issued& c : issued_) {
        if (c.kind == Issued::Kind::kStream) c.covered = true;
      }
    }
    look();
  }

  /// What the guest can see now must be true.
  void look() {
    // An MSI: everything before its SYNC took effect.
    for (std::size_t i = 0; i < issued_.size(); ++i) {
      std::uint32_t word = 0;
      if (issued_[i].msi_at == 0) continue;
      EXPECT_TRUE(world_.memory->read32(Gpa{issued_[i].msi_at}, word));
      if (word == 0) continue;
      EXPECT_EQ(word, issued_[i].msi_data);
      for (std::size_t j = 0; j < i; ++j) expect_done(issued_[j]);
    }
    // CONS: so did everything that it passed.
    while (!issued_.empty() && issued_.size() > world_.used()) {
      expect_done(issued_.front());
      EXPECT_NE(issued_.front().kind, Issued::Kind::kIllegal);
      issued_.pop_front();
    }
    if (world_.cmdq_error_active()) repair();
  }
  void expect_done(const Issued& c) {
    if (c.kind == Issued::Kind::kOperation) {
      EXPECT_TRUE(c.covered) << "TLBI of " << c.op.addr << " told done, never submitted";
    } else if (c.kind == Issued::Kind::kStream && !c.covered) {
      // Nothing to submit only where the kernel does not translate for the stream.
      EXPECT_EQ(engine_.duty().stage1().translating() >> c.device & 1, 0U);
    }
  }

  /// As arm_smmu_cmdq_skip_err().
  void repair() {
    ASSERT_FALSE(issued_.empty());
    if (world_.cons_error() == 1) {
      ASSERT_EQ(issued_.front().kind, Issued::Kind::kIllegal);
      issued_.front().kind = Issued::Kind::kSync;
      world_.put(world_.slot(world_.cons()), sync().word[0]);
      world_.put(world_.slot(world_.cons()) + 8, 0);
    } else {
      ASSERT_EQ(world_.cons_error(), 2U);
      ASSERT_NE(issued_.front().kind, Issued::Kind::kIllegal);
    }
    world_.acknowledge_gerror();
  }

  std::mt19937_64 random_;
  bool failures_;
  World world_;
  Engine<Policy> engine_;
  std::deque<Issued> issued_;
  std::uint64_t segment_ = 0;
  std::uint64_t next_va_ = 0;
  std::uint64_t next_msi_ = 0;
  std::size_t attached_ = 0;
};

template <class Policy>
class CommandProperty : public testing::Test {};
using Policies = testing::Types<merge::ForwardEach, merge::BatchUntilSync, merge::Merge>;
TYPED_TEST_SUITE(CommandProperty, Policies);

TYPED_TEST(CommandProperty, NothingIsToldDoneBeforeItTookEffect) {
  std::uint64_t errors = 0;
  std::uint64_t syncs = 0;
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    Trial<TypeParam> trial(seed, false);
    trial.run(400);
    trial.tally(errors, syncs);
    if (this->HasFailure()) return;
  }
  EXPECT_GT(errors, 100U) << "illegal commands were met";
  EXPECT_GT(syncs, 1000U);
}

TYPED_TEST(CommandProperty, NorWithAKernelThatFails) {
  std::uint64_t errors = 0;
  std::uint64_t syncs = 0;
  for (std::uint64_t seed = 101; seed <= 120; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    Trial<TypeParam> trial(seed, true);
    trial.run(400);
    trial.tally(errors, syncs);
    if (this->HasFailure()) return;
  }
  EXPECT_GT(errors, 100U);
  EXPECT_GT(syncs, 1000U);
}

}  // namespace
}  // namespace faultline::engine::command_world
