// SPDX-License-Identifier: BSD-3-Clause
#include "engine/journal.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <functional>
#include <set>
#include <string>

namespace faultline::engine {
namespace {

Journal fresh(std::size_t devices = 2) {
  auto journal = Journal::create("test", devices, 42);
  EXPECT_TRUE(journal.has_value());
  return std::move(*journal);
}

TEST(Journal, IsFreshUntilItIsTakenIntoUse) {
  Journal journal = fresh();
  EXPECT_FALSE(journal.in_use());
  journal.set_in_use();
  auto again = Journal::open(journal.memfd());
  ASSERT_TRUE(again.has_value()) << again.error().message();
  EXPECT_TRUE(again->in_use());
  EXPECT_EQ(again->devices(), 2U);
  EXPECT_EQ(again->identity(), 42U);
}

TEST(Journal, SurvivesTheMappingThatWroteIt) {
  int kept = -1;
  {
    Journal journal = fresh();
    kept = dup(journal.memfd());
    EventJournal event = journal.event();
    event.switch_evtq({0x1000, 7, 1}, 5);
    event.set_position(1, {40, 0});
    event.begin(1, 9, {44, 3});
    event.set_gerror(1, 77);
    event.set_irq({0x2000, 0, 11, 0, 7, 0});
    CommandJournal command = journal.command();
    command.set_cons(12);
    command.begin_sync(13, Gpa{0x3000}, 99);
    command.note_asid(513);
    Stage1Config config;
    config.mode = Stage1Config::Mode::kTranslate;
    config.cd_table = 0x5000;
    config.ste[1] = 7;
    command.set_stage1(1, config);
    command.mark_attaching(0);
  }
  auto journal = Journal::open(kept);
  close(kept);
  ASSERT_TRUE(journal.has_value()) << journal.error().message();
  const EventJournal event = journal->event();
  const auto intent = event.intent();
  EXPECT_TRUE(intent.valid);
  EXPECT_EQ(intent.device, 1U);
  EXPECT_EQ(intent.prod, 9U);
  EXPECT_EQ(intent.position.next, 44U);
  EXPECT_EQ(intent.position.lost, 3U);
  EXPECT_EQ(event.position(1).next, 40U) << "not done yet";
  EXPECT_EQ(event.resume_position(1).next, 44U) << "but what recovery goes on from";
  EXPECT_EQ(event.resume_position(0).next, 0U);
  EXPECT_EQ(event.evtq_prod(), 5U);
  EXPECT_EQ(event.evtq().base, 0x1000U);
  EXPECT_EQ(event.gerror(), 1U);
  EXPECT_EQ(event.gerror_token(), 77U);
  EXPECT_EQ(event.irq().evtq_data, 11U);
  const CommandJournal command = journal->command();
  EXPECT_EQ(command.cons(), 12U);
  EXPECT_EQ(command.sync().state, SyncState::kWriteMsi);
  EXPECT_EQ(command.sync().cons, 13U);
  EXPECT_EQ(command.sync().address, Gpa{0x3000});
  EXPECT_TRUE(command.asid_seen(513));
  EXPECT_FALSE(command.asid_seen(512));
  Stage1Config config;
  EXPECT_TRUE(command.stage1(1, config));
  EXPECT_EQ(config.cd_table, 0x5000U);
  EXPECT_EQ(config.ste[1], 7U);
  EXPECT_FALSE(command.stage1(0, config));
  EXPECT_TRUE(command.attaching(0));
  EXPECT_FALSE(command.attaching(1));
}

TEST(Journal, TakesAnIntentOverOnceAndAgainWithTheSameResult) {
  Journal journal = fresh();
  EventJournal event = journal.event();
  event.set_position(0, {40, 0});
  event.begin(0, 9, {44, 3});
  event.done();
  EXPECT_FALSE(event.intent().valid);
  EXPECT_EQ(event.position(0).next, 44U);
  EXPECT_EQ(event.evtq_prod(), 9U);
  journal.layout().event.intent_valid = 1;  // killed just before the last store
  event.done();
  EXPECT_EQ(event.position(0).next, 44U);
  EXPECT_EQ(event.position(0).lost, 3U);
}

TEST(Journal, KeepsTheOldValueWhenAKillTearsANewOne) {
  Journal journal = fresh();
  EventJournal event = journal.event();
  event.switch_evtq({0x1000, 7, 1}, 0);
  JournalEventPart& part = journal.layout().event;
  part.evtq.slot[(part.evtq.version + 1) & 1] = {0xdead, 3, 0};  // written, not selected
  EXPECT_EQ(event.evtq().base, 0x1000U);
}

TEST(Journal, GoesThroughTheStatesOfASync) {
  Journal journal = fresh();
  CommandJournal command = journal.command();
  command.begin_sync(3, Gpa{0x40}, 1);
  EXPECT_EQ(command.sync().state, SyncState::kWriteMsi);
  command.sync_msi_written();
  EXPECT_EQ(command.sync().state, SyncState::kPublishCons);
  command.end_sync();
  EXPECT_EQ(command.sync().state, SyncState::kNone);
  EXPECT_EQ(command.cons(), 3U);
  command.begin_sync(4, Gpa{0}, 0);
  EXPECT_EQ(command.sync().state, SyncState::kPublishCons) << "there is no MSI to write";
}

TEST(Journal, RefusesEveryCorruptFieldWithOneLine) {
  const std::pair<std::function<void(JournalLayout&)>, std::string> cases[] = {
      {[](JournalLayout& j) { j.header.magic = 0; }, "magic"},
      {[](JournalLayout& j) { j.header.version = 2; }, "version"},
      {[](JournalLayout& j) { j.header.bytes = 1; }, "length"},
      {[](JournalLayout& j) { j.header.devices = 0; }, "number of devices"},
      {[](JournalLayout& j) { j.header.devices = 65; }, "number of devices"},
      {[](JournalLayout& j) { j.header.in_use = 9; }, "in-use"},
      {[](JournalLayout& j) { j.event.intent_valid = 2; }, "intent mark"},
      {[](JournalLayout& j) { j.event.intent_valid = 1, j.event.intent_device = 2; },
       "intent device"},
      {[](JournalLayout& j) { j.event.reading = 3; }, "reading mark"},
      {[](JournalLayout& j) { j.event.loss_owed = 2; }, "owed"},
      {[](JournalLayout& j) { j.event.evtq.slot[0].log2size = 20; }, "event queue log2size"},
      {[](JournalLayout& j) { j.event.evtq.slot[0].enabled = 2; }, "event queue enable"},
      {[](JournalLayout& j) { j.event.irq.slot[0].control = 8; }, "IRQ_CTRL"},
      {[](JournalLayout& j) { j.command.sync_state = 3; }, "SYNC state"},
      {[](JournalLayout& j) { j.command.sync_state = 1, j.command.sync_address = 2; },
       "SYNC MSI address"},
      {[](JournalLayout& j) { j.command.registers.slot[0].cmdq_log2size = 64; },
       "command queue log2size"},
      {[](JournalLayout& j) { j.command.binding[1].attaching = 2; }, "attach mark of device 1"},
      {[](JournalLayout& j) { j.command.binding[0].stage1.slot[0].mode = 3; }, "stage-1 mode"},
      {[](JournalLayout& j) { j.command.binding[0].stage1.slot[0].bound = 3; }, "stage-1 mark"},
      {[](JournalLayout& j) { j.command.binding[0].stage1.slot[0].s1fmt = 3; }, "stage-1 format"},
      {[](JournalLayout& j) { j.command.binding[0].stage1.slot[0].s1cdmax = 21; }, "s1cdmax"},
  };
  for (const auto& [corrupt, word] : cases) {
    Journal journal = fresh();
    ASSERT_TRUE(validate(journal.layout(), sizeof(JournalLayout)).has_value());
    corrupt(journal.layout());
    const auto result = Journal::open(journal.memfd());
    ASSERT_FALSE(result.has_value()) << word;
    EXPECT_THAT(result.error().what, testing::HasSubstr(word));
    EXPECT_EQ(result.error().what.find('\n'), std::string::npos);
  }
}

TEST(Journal, RefusesAFileThatIsTooShortAndADescriptorThatIsNone) {
  const int fd = memfd_create("short", MFD_CLOEXEC);
  ASSERT_EQ(ftruncate(fd, 100), 0);
  const auto result = Journal::open(fd);
  ASSERT_FALSE(result.has_value());
  EXPECT_THAT(result.error().what, testing::HasSubstr("size is 100"));
  close(fd);
  EXPECT_FALSE(Journal::open(-1).has_value());
}

TEST(Journal, RefusesAGuestWithoutDevicesOrWithTooMany) {
  EXPECT_FALSE(Journal::create("g", 0, 0).has_value());
  EXPECT_FALSE(Journal::create("g", 65, 0).has_value());
  EXPECT_TRUE(Journal::create("g", 64, 0).has_value());
}

TEST(Journal, ReportsTheOlderHeartbeat) {
  Journal journal = fresh();
  EXPECT_EQ(journal.last_beat(), 0U);
  journal.event().beat(70);
  journal.command().beat(50);
  EXPECT_EQ(journal.last_beat(), 50U);
}

TEST(JournalStep, HasOneNamePerStep) {
  std::set<std::string_view> names;
  for (unsigned i = 0; i < kJournalSteps; ++i) {
    const auto step = static_cast<JournalStep>(i);
    EXPECT_EQ(step_from_name(step_name(step)), step);
    names.insert(step_name(step));
  }
  EXPECT_EQ(names.size(), kJournalSteps);
  EXPECT_EQ(step_from_name("no-such-step"), std::nullopt);
}

TEST(JournalStepDeathTest, KillsAtTheNthPassing) {
  EXPECT_EXIT(
      {
        KillAtStep hook(JournalStep::kSyncDone, 2);
        hook(JournalStep::kSyncDone);
        hook(JournalStep::kEventDone);
        hook(JournalStep::kSyncDone);
        _exit(0);
      },
      testing::KilledBySignal(SIGKILL), "");
  KillAtStep never;
  EXPECT_FALSE(never(JournalStep::kSyncDone));
}

}  // namespace
}  // namespace faultline::engine
