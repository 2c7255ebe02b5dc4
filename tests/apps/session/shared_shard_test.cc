// SPDX-License-Identifier: BSD-3-Clause
// Guests that share polling cores: budgets that the operator changes, and a VMM that means harm.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <utility>

#include "apps/session/guest_budget.h"
#include "tests/apps/session/soft_vmm.h"

namespace faultline::session {
namespace {

using namespace testing_vmm;
using engine::Budget;

constexpr Nanos kReady = 60'000'000'000;

Budget budget_of(const Service& service, const std::string& name) {
  for (const engine::GuestSnapshot& g : service.host->snapshot().guests) {
    if (g.name == name) return g.budget;
  }
  ADD_FAILURE() << "no guest " << name;
  return {};
}

TEST(SharedShard, ALowerBudgetOfTheOperatorsHoldsForGuestsThatAreServed) {
  SoftVmm vmm(2, 1);
  Service service(1);
  vmm.session().start();
  ASSERT_TRUE(service.host->add(vmm.request(0)));
  ASSERT_TRUE(service.host->add(vmm.request(1)));
  ASSERT_TRUE(vmm.session().wait_ready(kReady));
  EXPECT_EQ(budget_of(service, "guest0"), Budget{});

  const Budget most{.commands = 2, .records = 128, .submissions = 1, .weight = 1};
  service.host->set_most(most);
  for (const char* name : {"guest0", "guest1"}) EXPECT_EQ(budget_of(service, name), most) << name;
  const auto cut = [&] { return service.host->snapshot().guests.at(0).commands.commands_cut; };
  const std::uint64_t before = cut();
  const Nanos until = monotonic_ns() + kReady;
  while (cut() == before && monotonic_ns() < until) vmm.run(50);
  EXPECT_GT(cut(), before) << "it is in force";
  const RunResult result = vmm.session().finish();
  for (const std::string& finding : result.verdict.findings) ADD_FAILURE() << finding;
}

TEST(SharedShard, AVmmThatAskedForLessKeepsItsOwn) {
  SoftVmm vmm(3, 1);
  Service service(1);
  ASSERT_TRUE(service.host->add(vmm.request(0)));
  ASSERT_TRUE(service.host->add(vmm.request(1)));
  service.host->set_most({.commands = 64, .records = 128, .submissions = 1, .weight = 4});
  ASSERT_TRUE(service.host->set_budget("guest1", {{"commands", 8U}}));
  EXPECT_FALSE(service.host->set_budget("guest1", {{"commands", 65U}}))
      << "more than the operator's";
  EXPECT_EQ(budget_of(service, "guest1"),
            (Budget{.commands = 8, .records = 128, .submissions = 1, .weight = 4}));

  service.host->set_most({.commands = 512, .records = 1024, .submissions = 2, .weight = 2});
  EXPECT_EQ(budget_of(service, "guest0"),
            (Budget{.commands = 512, .records = 1024, .submissions = 2, .weight = 2}));
  EXPECT_EQ(budget_of(service, "guest1"),
            (Budget{.commands = 8, .records = 1024, .submissions = 2, .weight = 2}))
      << "what it did not ask for is the operator's, also when that grows";
  service.host->set_most({.commands = 4, .records = 1024, .submissions = 2, .weight = 2});
  EXPECT_EQ(budget_of(service, "guest1").commands, 4U);
  service.host->set_most({.commands = 512, .records = 1024, .submissions = 2, .weight = 2});
  EXPECT_EQ(budget_of(service, "guest1").commands, 8U);

  ASSERT_TRUE(service.host->add(vmm.request(2)));
  EXPECT_EQ(budget_of(service, "guest2"), budget_of(service, "guest0")) << "one that comes later";
}

/// A VMM whose guest's event queue interrupts an eventfd that blocks whoever writes it.
class HostileVmm {
 public:
  // It makes processes: before any thread.
  HostileVmm() : trap_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {}
  ~HostileVmm() { ::close(trap_); }
  HostileVmm(const HostileVmm&) = delete;
  HostileVmm& operator=(const HostileVmm&) = delete;

  /// Its driver reads another eventfd, so that nobody ever empties this one.
  void enter(Service& service) {
    GuestRequest request = vmm.request(0);
    ::close(request.evtq_eventfd);
    request.evtq_eventfd = duplicate(trap_);
    const auto added = service.host->add(std::move(request));
    ASSERT_TRUE(added) << added.error().message();
  }
  /// One file for both who share it. After enter(), which makes it non-blocking.
  void spring() const {
    ASSERT_EQ(::fcntl(trap_, F_SETFL, 0), 0);
    const std::uint64_t full = ~std::uint64_t{1};
    ASSERT_EQ(::write(trap_, &full, sizeof full), 8);
  }
  /// Until the shard of the service is in the trap: no other thread here waits in a write(2).
  void wait_until_caught() {
    const Nanos until = monotonic_ns() + kReady;
    while (!somebody_writes()) {
      ASSERT_LT(monotonic_ns(), until) << "the shard never came to it";
      vmm.turns(1);
    }
  }

  /// All of it.
  void hold_shard(Service& service) {
    ASSERT_NO_FATAL_FAILURE(enter(service));
    ASSERT_NO_FATAL_FAILURE(spring());
    vmm.session().start();
    wait_until_caught();
  }

  SoftVmm vmm{1, 1, {}, ~0U, "hostile-"};

 private:
  static bool somebody_writes() {
    for (const auto& task : std::filesystem::directory_iterator("/proc/self/task")) {
      long call = -1;  // "running" is no number
      if (std::ifstream(task.path() / "syscall") >> call && call == SYS_write) return true;
    }
    return false;
  }

  int trap_;
};

std::uint64_t unheard(const Service& service, std::size_t guest) {
  const auto guests = service.host->snapshot().guests;
  return guest < guests.size() ? guests[guest].interrupts_unheard : 0;
}

void expect_clean(SoftVmm& vmm) {
  const RunResult result = vmm.session().finish();
  for (const std::string& finding : result.verdict.findings) ADD_FAILURE() << finding;
  EXPECT_GT(result.verdict.faults.produced, 0U);
}

/// From the start of its guest to the audit's end.
void expect_served(SoftVmm& vmm) {
  const auto ready = vmm.session().wait_ready(kReady);
  ASSERT_TRUE(ready) << ready.error().message();
  vmm.run(1000);
  expect_clean(vmm);
}

TEST(SharedShard, AnInterruptThatAVmmMadeBlockCostsTheOthersNoMoreThanAMoment) {
  SoftVmm victim(1, 1);
  HostileVmm hostile;
  Service service(1);
  victim.session().start();
  ASSERT_TRUE(service.host->add(victim.request(0)));
  ASSERT_TRUE(victim.session().wait_ready(kReady));
  victim.run(200);

  hostile.enter(service);
  hostile.spring();
  hostile.vmm.session().start();
  // As the service's watch does, but not waiting as long.
  constexpr Nanos kHang = 200'000'000;
  unsigned nudges = 0;
  const Nanos until = monotonic_ns() + kReady;
  while (unheard(service, 1) == 0 && monotonic_ns() < until) {
    hostile.vmm.turns(1);
    nudges += service.host->nudge_stalled(monotonic_ns() - kHang);
  }
  EXPECT_GE(nudges, 1U);
  EXPECT_GE(unheard(service, 1), 1U) << "the shard never came to it, or never came out of it";

  // Whose VMM it was is known, also when the guest is gone.
  EXPECT_EQ(service.host->snapshot().guests.at(1).blocked_eventfds, 1U);
  const std::vector<std::string> blocked = service.host->take_blocked(true);
  ASSERT_EQ(blocked.size(), 1U);
  EXPECT_EQ(blocked[0], service.host->snapshot().guests.at(1).name);
  EXPECT_TRUE(service.host->take_blocked(false).empty());

  // Nobody nudges any more, and it goes on.
  victim.run(2000);
  expect_clean(victim);
  // What its audit thinks of events that nobody was told of is its VMM's own affair.
  (void)hostile.vmm.session().finish();
  EXPECT_TRUE(service.host->remove(blocked[0]));
  EXPECT_EQ(service.host->take_blocked(false), blocked);
  EXPECT_TRUE(service.host->take_blocked(true).empty());
  const auto stopped = service.host->stop();
  EXPECT_TRUE(stopped) << stopped.error().message();
}

TEST(SharedShard, AGuestIsTakenOnWhileAVmmHoldsItsShard) {
  SoftVmm newcomer(1, 1);
  HostileVmm hostile;
  Service service(1);
  ASSERT_NO_FATAL_FAILURE(hostile.hold_shard(service));
  // Nobody but the engine itself, which waits for the shard, takes it out.
  newcomer.session().start();
  const auto added = service.host->add(newcomer.request(0));
  ASSERT_TRUE(added) << added.error().message();
  EXPECT_GE(unheard(service, 0), 1U);
  expect_served(newcomer);
  (void)hostile.vmm.session().finish();
}

TEST(SharedShard, AGuestThatAShardDidNotTakeIsNeverTouched) {
  SoftVmm newcomer(1, 1);
  HostileVmm hostile;
  engine::Launcher launcher = engine::on_threads();
  const auto nudge = std::exchange(launcher.nudge, {});
  Service service(1, 50'000, std::move(launcher));
  ASSERT_NO_FATAL_FAILURE(hostile.hold_shard(service));
  const auto refused = service.host->add(newcomer.request(0));
  ASSERT_FALSE(refused) << "nobody takes the shard out";
  EXPECT_EQ(refused.error().code, ETIMEDOUT);
  EXPECT_EQ(service.host->snapshot().guests.size(), 1U);
  // Whether it looks at what was freed is for AddressSanitizer to say.
  const Nanos until = monotonic_ns() + kReady;
  while (unheard(service, 0) == 0 && monotonic_ns() < until) {
    nudge(0);
    hostile.vmm.turns(10);
  }
  const auto added = service.host->add(newcomer.request(0));
  ASSERT_TRUE(added) << added.error().message();
  newcomer.session().start();
  expect_served(newcomer);
  (void)hostile.vmm.session().finish();
}

TEST(SharedShard, AServiceEndsWhileAVmmHoldsItsShard) {
  HostileVmm hostile;
  Service service(1);
  ASSERT_NO_FATAL_FAILURE(hostile.hold_shard(service));
  const auto stopped = service.host->stop();
  EXPECT_TRUE(stopped) << stopped.error().message();
  EXPECT_GE(unheard(service, 0), 1U);
}

// Hangs in about three of four runs on an idle machine, not found why: the note.
TEST(SharedShard, DISABLED_ARestartLeavesInterruptsToTheShard) {
  SoftVmm victim(1, 1);
  HostileVmm hostile;
  Service service(1);
  hostile.enter(service);
  hostile.vmm.session().start();
  ASSERT_TRUE(hostile.vmm.session().wait_ready(kReady));
  ASSERT_TRUE(service.host->pause("hostile-guest0"));
  const auto state = service.host->state("hostile-guest0");
  ASSERT_TRUE(state) << state.error().message();
  ASSERT_TRUE(service.host->set_state("hostile-guest0", *state));
  hostile.spring();
  // This thread would hang in it for ever; the shard is taken out.
  const auto resumed = service.host->resume("hostile-guest0");
  ASSERT_TRUE(resumed) << resumed.error().message();
  victim.session().start();
  ASSERT_TRUE(service.host->add(victim.request(0)));
  EXPECT_GE(unheard(service, 0), 1U) << "the interrupt of a restart was not raised";
  expect_served(victim);
  (void)hostile.vmm.session().finish();
}

}  // namespace
}  // namespace faultline::session
