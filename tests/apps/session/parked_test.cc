// SPDX-License-Identifier: BSD-3-Clause
// A guest that cannot be put back on its cores is paused and can be resumed; it is never neither.
#include <gmock/gmock.h>

#include "apps/guest/commands.h"
#include "apps/session/engine_guests.h"
#include "engine/journal.h"
#include "tests/apps/session/quiet_guest.h"
#include "tests/apps/session/soft_vmm.h"

namespace faultline::session {
namespace {

using namespace testing_vmm;
using testing::HasSubstr;

/// While it lives, the engine takes the journal for another guest's and refuses it.
class WrongJournal {
 public:
  explicit WrongJournal(int memfd) : journal_(engine::Journal::open(memfd).value()) {
    journal_.layout().header.identity ^= 1U;
  }
  ~WrongJournal() { journal_.layout().header.identity ^= 1U; }
  WrongJournal(const WrongJournal&) = delete;
  WrongJournal& operator=(const WrongJournal&) = delete;

 private:
  engine::Journal journal_;
};

TEST(Parked, AGuestWhoseResetFailsIsPausedAndComesBackReset) {
  SoftVmm vmm(1, 2);
  Service service;
  QuietGuest guest(vmm.hosts()[0]);
  const int journal = service.host->add(vmm.request(0)).value();
  ASSERT_TRUE(guest.driver.probe(guest.idle));
  {
    const WrongJournal wrong(journal);
    const auto reset = service.host->reset("guest0");
    ASSERT_FALSE(reset);
    EXPECT_THAT(reset.error().message(), HasSubstr("guest guest0 is paused now"));
    EXPECT_THAT(service.host->resume("guest0").error().message(), HasSubstr("another guest"));
  }
  auto shown = service.host->snapshot().guests;
  ASSERT_EQ(shown.size(), 1U);
  EXPECT_TRUE(shown[0].paused);
  EXPECT_TRUE(service.host->state("guest0")) << "as of any paused guest";
  EXPECT_FALSE(service.host->pause("guest0")) << "it is";
  EXPECT_TRUE(service.host->reset("guest0"));
  EXPECT_TRUE(service.host->snapshot().guests.at(0).paused) << "as it was";
  ASSERT_TRUE(service.host->resume("guest0"));
  shown = service.host->snapshot().guests;
  ASSERT_EQ(shown.size(), 1U);
  EXPECT_FALSE(shown[0].paused);
  EXPECT_TRUE(guest.driver.probe(guest.idle)) << "it begins anew";
}

TEST(Parked, AGuestThatCannotGoBackFromANewShapeIsPaused) {
  SoftVmm vmm(1, 2);
  Service service;
  QuietGuest guest(vmm.hosts()[0]);
  const int journal = service.host->add(vmm.request(0)).value();
  ASSERT_TRUE(guest.driver.probe(guest.idle));
  {
    GuestRequest wrong = vmm.request(0);
    wrong.memory.push_back({HostGuest::kBase, 0x10000, 0, duplicate(vmm.hosts()[0].memfd)});
    const WrongJournal both(journal);
    const auto replaced = service.host->replace(std::move(wrong));
    ASSERT_FALSE(replaced);
    EXPECT_THAT(replaced.error().message(), HasSubstr("guest guest0 is paused now"));
    EXPECT_THAT(replaced.error().message(), HasSubstr("overlap"));
  }
  EXPECT_TRUE(service.host->snapshot().guests.at(0).paused);
  ASSERT_TRUE(service.host->resume("guest0"));
  EXPECT_FALSE(service.host->snapshot().guests.at(0).paused);
  EXPECT_TRUE(guest.driver.run({guest::tlbi_nsnh_all()}, guest.idle)) << "where it stood";
  EXPECT_EQ(guest.driver.unexpected_errors(), 0U);
}

TEST(Parked, AGuestComesWithTheBudgetThatItHadAndTheOperatorsHolds) {
  SoftVmm vmm(1, 1);
  Service service(1);
  service.host->set_most({.commands = 64, .records = 128, .submissions = 1, .weight = 4});
  GuestRequest r = vmm.request(0);
  r.budget = engine::Budget{.commands = 200,
                            .records = engine::Budget::kMost,
                            .submissions = engine::Budget::kMost,
                            .weight = 2};
  ASSERT_TRUE(service.host->add(std::move(r)));
  const auto budget = [&] { return service.host->snapshot().guests.at(0).budget; };
  EXPECT_EQ(budget(),
            (engine::Budget{.commands = 64, .records = 128, .submissions = 1, .weight = 2}));
  service.host->set_most({.commands = 512, .records = 256, .submissions = 1, .weight = 4});
  EXPECT_EQ(budget(),
            (engine::Budget{.commands = 200, .records = 256, .submissions = 1, .weight = 2}));
}

}  // namespace
}  // namespace faultline::session
