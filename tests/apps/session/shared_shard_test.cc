// SPDX-License-Identifier: BSD-3-Clause
// Guests that share polling cores: budgets that the operator changes, and a VMM that means harm.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <nlohmann/json.hpp>

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

TEST(SharedShard, AnInterruptThatAVmmMadeBlockCostsTheOthersNoMoreThanAMoment) {
  // Both make processes, so they come before any thread.
  SoftVmm victim(1, 1);
  SoftVmm hostile(1, 1, {}, ~0U, "hostile-");
  Service service(1);
  victim.session().start();
  ASSERT_TRUE(service.host->add(victim.request(0)));
  ASSERT_TRUE(victim.session().wait_ready(kReady));
  victim.run(200);

  // Its driver reads another eventfd, so that nobody ever empties this one.
  GuestRequest request = hostile.request(0);
  const int trap = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  ::close(request.evtq_eventfd);
  request.evtq_eventfd = duplicate(trap);
  ASSERT_TRUE(service.host->add(std::move(request)));
  // One file for both who share it.
  ASSERT_EQ(::fcntl(trap, F_SETFL, 0), 0);
  const std::uint64_t full = ~std::uint64_t{1};
  ASSERT_EQ(::write(trap, &full, sizeof full), 8);
  hostile.session().start();

  // As the service's watch does, but not waiting as long.
  constexpr Nanos kHang = 200'000'000;
  const auto unheard = [&] {
    const auto guests = service.host->snapshot().guests;
    return guests.size() == 2 ? guests[1].interrupts_unheard : 0;
  };
  unsigned nudges = 0;
  const Nanos until = monotonic_ns() + kReady;
  while (unheard() == 0 && monotonic_ns() < until) {
    hostile.turns(1);
    nudges += service.host->nudge_stalled(monotonic_ns() - kHang);
  }
  EXPECT_GE(nudges, 1U);
  EXPECT_GE(unheard(), 1U) << "the shard never came to it, or never came out of it";

  // Whose VMM it was is known, also when the guest is gone.
  EXPECT_EQ(service.host->snapshot().guests.at(1).blocked_eventfds, 1U);
  const std::vector<std::string> blocked = service.host->take_blocked(true);
  ASSERT_EQ(blocked.size(), 1U);
  EXPECT_EQ(blocked[0], service.host->snapshot().guests.at(1).name);
  EXPECT_TRUE(service.host->take_blocked(false).empty());

  // Nobody nudges any more, and it goes on.
  victim.run(2000);
  const RunResult result = victim.session().finish();
  for (const std::string& finding : result.verdict.findings) ADD_FAILURE() << finding;
  EXPECT_GT(result.verdict.faults.produced, 0U);
  // What its audit thinks of events that nobody was told of is its VMM's own affair.
  (void)hostile.session().finish();
  EXPECT_TRUE(service.host->remove(blocked[0]));
  EXPECT_EQ(service.host->take_blocked(false), blocked);
  EXPECT_TRUE(service.host->take_blocked(true).empty());
  const auto stopped = service.host->stop();
  EXPECT_TRUE(stopped) << stopped.error().message();
  ::close(trap);
}

}  // namespace
}  // namespace faultline::session
