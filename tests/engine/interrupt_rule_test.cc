// SPDX-License-Identifier: BSD-3-Clause
// Every interleaving of the engine that publishes events and of a driver that consumes them, one
// shared access at a time, with the store buffer that x86 and Arm put before a plain store.
#include <gtest/gtest.h>

#include <compare>
#include <set>

namespace faultline::engine {
namespace {

enum class Rule {
  kExchangeThenLoad,   ///< EventQueue::publish_trapped: exchange PROD, load CONS, compare
  kStoreThenLoad,      ///< the same with a plain store of PROD
  kLoadBeforePublish,  ///< judge "was empty" by a CONS read before PROD is published
  kAlways,             ///< EventQueue::publish_exitless: interrupt after every publication
};

constexpr int kEvents = 3;

struct State {
  // memory
  int prod = 0, cons = 0;
  bool irq = false;
  // engine: publishes 1, 2, … kEvents
  int engine_pc = 0, published = 0, seen_cons = 0;
  int buffered_prod = -1;  ///< in the engine's store buffer; -1: none
  // driver: sleeps until the interrupt, consumes, stores CONS, looks at PROD again
  int driver_pc = 0, consumed = 0, seen_prod = 0;
  int buffered_cons = -1;

  auto operator<=>(const State&) const = default;
};

/// Can some interleaving end with the driver asleep and an event unread?
class Explorer {
 public:
  Explorer(Rule rule, bool driver_has_barrier) : rule_(rule), barrier_(driver_has_barrier) {}

  bool an_event_can_be_missed() {
    visit({});
    return missed_;
  }
  [[nodiscard]] std::size_t states() const { return seen_.size(); }

 private:
  void visit(const State& s) {
    if (!seen_.insert(s).second) return;
    bool moved = false;
    if (s.buffered_prod >= 0) {  // a store buffer drains at any time
      State n = s;
      n.prod = n.buffered_prod;
      n.buffered_prod = -1;
      visit(n);
      moved = true;
    }
    if (s.buffered_cons >= 0) {
      State n = s;
      n.cons = n.buffered_cons;
      n.buffered_cons = -1;
      visit(n);
      moved = true;
    }
    moved |= engine(s);
    moved |= driver(s);
    if (!moved && s.consumed != kEvents) missed_ = true;
  }

  bool engine(State s) {
    if (s.published == kEvents) return false;
    switch (s.engine_pc) {
      case 0:
        if (rule_ == Rule::kLoadBeforePublish) s.seen_cons = s.cons;
        s.engine_pc = 1;
        break;
      case 1:  // publish
        if (rule_ == Rule::kStoreThenLoad) {
          if (s.buffered_prod >= 0) return false;  // one entry is enough
          s.buffered_prod = s.published + 1;
        } else {
          s.prod = s.published + 1;
          s.buffered_prod = -1;
        }
        s.engine_pc = 2;
        break;
      case 2:
        if (rule_ != Rule::kLoadBeforePublish) s.seen_cons = s.cons;
        s.engine_pc = 3;
        break;
      case 3:  // the driver had consumed everything published before
        if (rule_ == Rule::kAlways || s.seen_cons == s.published) s.irq = true;
        ++s.published;
        s.engine_pc = 0;
        break;
    }
    visit(s);
    return true;
  }

  bool driver(State s) {
    switch (s.driver_pc) {
      case 0:  // asleep
        if (!s.irq) return false;
        s.irq = false;
        s.driver_pc = 1;
        break;
      case 1:
        s.seen_prod = s.prod;
        s.driver_pc = s.seen_prod == s.consumed ? 0 : 2;
        break;
      case 2:  // consume, store CONS, look again
        if (barrier_) {
          s.cons = s.seen_prod;
        } else {
          if (s.buffered_cons >= 0) return false;
          s.buffered_cons = s.seen_prod;
        }
        s.consumed = s.seen_prod;
        s.driver_pc = 1;
        break;
    }
    visit(s);
    return true;
  }

  Rule rule_;
  bool barrier_;
  bool missed_ = false;
  std::set<State> seen_;
};

TEST(InterruptRule, ExchangeThenLoadMissesNothingWhenTheDriversConsIsOrdered) {
  Explorer explorer(Rule::kExchangeThenLoad, true);
  EXPECT_FALSE(explorer.an_event_can_be_missed());
  EXPECT_GT(explorer.states(), 100U);
}

TEST(InterruptRule, APlainStoreOfProdMissesEvents) {
  EXPECT_TRUE(Explorer(Rule::kStoreThenLoad, true).an_event_can_be_missed());
}

TEST(InterruptRule, JudgingEmptyBeforePublishingMissesEvents) {
  EXPECT_TRUE(Explorer(Rule::kLoadBeforePublish, true).an_event_can_be_missed());
}

TEST(InterruptRule, AnExitlessDriversPlainStoreOfConsNeedsAnInterruptPerBurst) {
  EXPECT_TRUE(Explorer(Rule::kExchangeThenLoad, false).an_event_can_be_missed());
  EXPECT_FALSE(Explorer(Rule::kAlways, false).an_event_can_be_missed());
}

}  // namespace
}  // namespace faultline::engine
