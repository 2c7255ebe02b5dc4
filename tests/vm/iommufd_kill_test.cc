// SPDX-License-Identifier: BSD-3-Clause
// An engine in a process of its own is killed at each of the journal's steps; the next one goes on.
// The guest's driver, the devices and the kernel's objects stay.
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "engine/journal_step.h"
#include "tests/vm/vm_engine.h"

namespace faultline::vm {
namespace {

using engine::JournalStep;
using engine::KillAtStep;

/// Keeps an engine alive on a host: the supervisor.
class Lives {
 public:
  /// kills   lives that end at the `passing`th passing of `step`; those after them do not
  Lives(Host<LinuxSys>& host, JournalStep step, std::uint32_t passing, unsigned kills)
      : host_(&host), hook_(step, passing), left_(kills) {
    start();
  }
  Lives(const Lives&) = delete;
  Lives& operator=(const Lives&) = delete;
  ~Lives() {
    kill(pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
  }

  /// Give the engine time; start another one if it is dead.
  void turn() {
    int status = 0;
    if (waitpid(pid_, &status, WNOHANG) == pid_) {
      EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL) << "status " << status;
      ++killed;
      start();
    }
    usleep(200);
  }

  unsigned killed = 0;

 private:
  void start() {
    const KillAtStep hook = left_ != 0 ? hook_ : KillAtStep{};
    left_ -= left_ != 0 ? 1 : 0;
    pid_ = fork();
    ASSERT_GE(pid_, 0);
    if (pid_ != 0) return;
    Engine<LinuxSys, merge::Merge, KillAtStep> engine(*host_, hook);
    for (;;) {
      if (engine.round() == 0) usleep(100);
    }
  }

  Host<LinuxSys>* host_;
  KillAtStep hook_;
  unsigned left_;
  pid_t pid_ = -1;
};

class IommufdKilledAt : public testing::TestWithParam<JournalStep> {};

/// Late enough that there is something to lose, where the step is passed often.
std::uint32_t passing_of(JournalStep step) {
  if (step <= JournalStep::kEventDone || step == JournalStep::kCommandsSubmitted) return 2;
  if (step >= JournalStep::kCommandsFetched && step <= JournalStep::kConsPublished) return 4;
  if (step >= JournalStep::kAttachMarked) return 3;
  return 1;
}

TEST_P(IommufdKilledAt, NothingIsSilentNothingIsTwiceNothingIsStale) {
  Host<LinuxSys> host;
  ASSERT_EQ(host.error(), "");
  Lives lives(host, GetParam(), passing_of(GetParam()), 2);
  const auto turn = [&] { lives.turn(); };
  // A guest starts when its SMMU is there.
  while (!host.journal->in_use()) turn();
  guest::SmmuDriver& driver = *host.driver;
  ASSERT_TRUE(driver.probe(turn));
  guest::CommandQueue& queue = driver.commands();
  const auto run = [&](const std::vector<guest::Command>& commands, bool by_msi) {
    for (const guest::Command& c : commands) queue.push(c);
    const guest::Position sync = queue.push_sync(by_msi);
    queue.publish();
    while (!queue.done(sync)) {
      turn();
      driver.handle_gerror();
      queue.poll();
    }
  };
  host.make_tables();
  for (const GuestDevice& d : host.devices) run({guest::cfgi_ste(d.sid)}, true);

  // Some devices fault in bursts while the others work.
  std::vector<Host<LinuxSys>::Dma> requests(kDevices);
  std::map<std::vector<std::uint64_t>, unsigned> expected;
  for (std::size_t i = 0; i < kDevices; ++i) {
    host.clean(host.devices[i].page);
    requests[i].device = i;
    if (i >= 3) continue;
    requests[i].iova = Iova{0x5000'0000 + 0x10000 * i};
    requests[i].bytes = 64;
    for (std::uint64_t n = 0; n < 16; ++n) {
      expected[{host.devices[i].sid.value, requests[i].iova.value + 4 * n}] = 0;
    }
  }
  host.dma(requests, turn);
  for (std::size_t i = 3; i < kDevices; ++i) EXPECT_TRUE(host.written(host.devices[i].page));

  // Everything is unmapped, with an illegal command among the invalidations.
  std::vector<guest::Command> commands;
  for (const GuestDevice& d : host.devices) {
    d.table->unmap(kIova);
    commands.push_back(guest::tlbi_va(d.asid, kIova));
  }
  commands.insert(commands.begin() + 3, guest::Command{{guest::op::kIllegal, 0}});
  run(commands, true);
  run({}, false);
  for (std::size_t i = 0; i < kDevices; ++i) {
    host.clean(host.devices[i].page);
    requests[i] = {.device = i};
    expected[{host.devices[i].sid.value, kIova.value}] = 0;
  }
  host.dma(requests, turn);
  for (const GuestDevice& d : host.devices) EXPECT_FALSE(host.written(d.page)) << d.sid.value;

  // Whatever can still come comes; with an engine that lives on, nothing is missing for long.
  const auto seen = [&] { return host.events.size(); };
  for (std::size_t quiet = 0, before = 0; quiet < 200;) {
    turn();
    host.read_events();
    driver.handle_gerror();
    const bool all = seen() >= expected.size() || host.overflows != 0;
    quiet = all && seen() == before ? quiet + 1 : 0;
    before = seen();
  }
  for (const guest::Observation& o : host.events) {
    const auto it = expected.find({o.words[0] >> 32U, o.words[2]});
    ASSERT_NE(it, expected.end()) << std::hex << o.words[0] << ' ' << o.words[2];
    EXPECT_EQ(++it->second, 1U) << "twice: " << std::hex << o.words[2];
  }
  EXPECT_GE(lives.killed, 1U) << "the step was never passed";
  EXPECT_TRUE(seen() == expected.size() || host.overflows != 0) << "lost in silence";
  EXPECT_EQ(queue.violations(), 0U);
  EXPECT_EQ(driver.events().violations(), 0U);
  EXPECT_GE(queue.errors_handled(), 1U);
  EXPECT_EQ(driver.unexpected_errors(), 0U);
}

std::vector<JournalStep> steps() {
  std::vector<JournalStep> out;
  for (unsigned i = 0; i < engine::kJournalSteps; ++i) out.push_back(static_cast<JournalStep>(i));
  return out;
}
std::string name_of(const testing::TestParamInfo<JournalStep>& info) {
  std::string name(engine::step_name(info.param));
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
}
INSTANTIATE_TEST_SUITE_P(Steps, IommufdKilledAt, testing::ValuesIn(steps()), name_of);

}  // namespace
}  // namespace faultline::vm
