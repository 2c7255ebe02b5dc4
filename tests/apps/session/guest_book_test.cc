// SPDX-License-Identifier: BSD-3-Clause
// What the book of guests says where something fails half way: the VMM, the host and the keeper
// are told the same.
#include "apps/session/guest_book.h"

#include <gmock/gmock.h>
#include <sys/stat.h>

#include <memory>

#include "tests/apps/session/peer_end.h"
#include "tests/support/full_descriptors.h"

namespace faultline::session {
namespace {

using test_support::FullDescriptors;
using testing::attach;
using testing::Bench;
using testing::event;
using ::testing::HasSubstr;
using testing::json;
using testing::open_descriptors;
using testing::PeerEnd;

ino_t file_of(int fd) {
  struct stat info {};
  EXPECT_EQ(::fstat(fd, &info), 0);
  return info.st_ino;
}

/// guest.add with a budget. returns  whether it was taken
bool add_with_budget(PeerEnd& vmm, const json& budget) {
  std::vector<Fd> socket;
  socket.push_back(event());
  return vmm.ok({{"method", "guest.add"},
                 {"name", "g"},
                 {"registers", 0x40000000},
                 {"mode", "exitless"},
                 {"budget", budget},
                 {"backend_fds", {0}}},
                socket);
}

/// The answer to a request that is served without a free descriptor.
json answer_when_full(Bench& bench, PeerEnd& vmm, json request) {
  request["id"] = 77;
  EXPECT_TRUE(vmm.post(request.dump()));
  {
    const FullDescriptors full;
    bench.turns();
  }
  return vmm.next().value_or(json());
}

TEST(GuestBook, ANewShapeIsKeptAndShownAlsoWhereDescriptorsRunOut) {
  Bench bench;
  PeerEnd vmm(bench);
  vmm.serve_guest("g");
  std::unique_ptr<FullDescriptors> full;
  ino_t fresh = 0;
  bench.host.reshaping = [&](engine::Journal& journal) {
    journal = engine::Journal::create("g", 2, 8).value();
    fresh = file_of(journal.memfd());
    full = std::make_unique<FullDescriptors>();
  };
  bench.keeper.keeping = [&] { full.reset(); };
  ASSERT_TRUE(vmm.add_device("g", 9)) << vmm.error;
  ASSERT_EQ(vmm.fds.size(), 1U) << "the journal of the new shape";
  EXPECT_EQ(file_of(vmm.fds[0].get()), fresh);

  Bench second;
  ASSERT_EQ(second.server->restore(bench.keeper.hand_out()), 1U);
  auto& g = second.host.guests.at("g");
  EXPECT_EQ(g.request->devices.size(), 2U);
  EXPECT_EQ(file_of(g.journal.memfd()), fresh);
}

TEST(GuestBook, NothingOfAnEarlierShapeIsKeptOfANewOne) {
  Bench bench;
  PeerEnd vmm(bench);
  vmm.serve_guest("g");
  bench.host.kept_objects = {"of the host", {-1}};  // they cannot be had
  ASSERT_TRUE(vmm.add_device("g", 9)) << vmm.error;
  EXPECT_TRUE(vmm.fds.empty()) << "no journal is better than that of another shape";
  EXPECT_TRUE(bench.logged("it would not outlive the service"));
  for (const auto& [name, fd] : bench.keeper.held) EXPECT_FALSE(name.ends_with("/journal")) << name;
  Bench second;
  EXPECT_EQ(second.server->restore(bench.keeper.hand_out()), 0U);
  EXPECT_TRUE(second.logged("descriptor journal was not kept"));
}

TEST(GuestBook, WithoutDescriptorsNoShapeChanges) {
  Bench bench;
  PeerEnd vmm(bench);
  const std::string token = vmm.serve_guest("g");
  ASSERT_TRUE(vmm.add_device("g", 9));
  const json answer = answer_when_full(
      bench, vmm, {{"method", "device.remove"}, {"guest", "g"}, {"name", "0000:01:00.9"}});
  EXPECT_THAT(answer.value("error", ""), HasSubstr("LimitNOFILE"));
  EXPECT_EQ(bench.host.guests.at("g").request->devices.size(), 2U);
}

TEST(GuestBook, AGuestThatCannotBeShownIsNobodysYet) {
  Bench bench;
  auto vmm = std::make_unique<PeerEnd>(bench);
  const std::string token = vmm->serve_guest("g");
  vmm->hang_up();
  vmm.reset();
  bench.turns();
  PeerEnd unlucky(bench);
  EXPECT_TRUE(answer_when_full(bench, unlucky, attach("g", token)).contains("error"));
  EXPECT_EQ(bench.server->counters().lingering, 1U);
  EXPECT_EQ(bench.server->counters().reattached, 0U);
  PeerEnd next(bench);
  EXPECT_TRUE(next.ok(attach("g", token))) << next.error;
}

TEST(GuestBook, AStartThatFailsLateLeavesNothingBehind) {
  Bench bench;
  PeerEnd vmm(bench);
  ASSERT_TRUE(vmm.add_guest("g"));
  ASSERT_TRUE(vmm.add_memory("g"));
  ASSERT_TRUE(vmm.add_device("g", 8));
  const std::size_t before = open_descriptors();
  const Fd one = event();
  bench.host.kept_objects = {"of the host", {one.get(), -1}};
  EXPECT_THAT(vmm.refused({{"method", "start"}, {"guest", "g"}}), HasSubstr("kernel objects"));
  EXPECT_EQ(bench.host.calls.back(), "remove g");
  EXPECT_EQ(open_descriptors(), before + 1);
  bench.host.kept_objects = {};
  ASSERT_TRUE(vmm.of("start", "g")) << vmm.error;
  const GuestRequest& got = *bench.host.guests.at("g").request;
  EXPECT_EQ(got.journal, -1) << "as it was made";
  EXPECT_TRUE(got.objects.empty());
  EXPECT_TRUE(got.object_fds.empty());
}

TEST(GuestBook, ABudgetThatIsNoneIsNoticedBeforeAnythingElse) {
  Bench bench;
  PeerEnd vmm(bench);
  for (const json& bad : {json{{"commands", 0}}, json{{"speed", 1}}, json{{"weight", "all"}}}) {
    EXPECT_FALSE(add_with_budget(vmm, bad));
    EXPECT_THAT(vmm.error, HasSubstr("guest g: budget: ")) << bad;
  }
  EXPECT_TRUE(add_with_budget(vmm, {{"commands", 1}})) << vmm.error;
}

TEST(GuestBook, AGuestComesBackUnderABudgetThatWasLowered) {
  Bench bench;
  bench.host.budget.commands = 64;
  PeerEnd vmm(bench);
  // As from before the operator lowered it.
  ASSERT_TRUE(add_with_budget(vmm, {{"commands", 128}})) << vmm.error;
  ASSERT_TRUE(vmm.add_memory("g"));
  ASSERT_TRUE(vmm.add_device("g", 8));
  ASSERT_TRUE(vmm.of("start", "g")) << vmm.error;
  const auto asked = [](Bench& b) { return b.host.guests.at("g").request->budget; };
  ASSERT_TRUE(asked(bench));
  EXPECT_EQ(asked(bench)->commands, 128U) << "the host knows what was asked";
  EXPECT_TRUE(vmm.of("query", "g"));
  EXPECT_EQ(vmm.result["budget"], (json{{"commands", 128}}));

  Bench second;
  second.host.budget.commands = 32;
  EXPECT_EQ(second.server->restore(bench.keeper.hand_out()), 1U);
  ASSERT_TRUE(asked(second));
  EXPECT_EQ(asked(second)->commands, 128U);
  EXPECT_TRUE(second.log.empty());
}

TEST(GuestBook, WhoAsksAnewGetsNoMoreThanTheOperators) {
  Bench bench;
  bench.host.budget.commands = 64;
  PeerEnd vmm(bench);
  const json more = {{"method", "budget"}, {"guest", "g"}, {"commands", 65}};
  ASSERT_TRUE(vmm.add_guest("g"));
  EXPECT_THAT(vmm.refused(more), HasSubstr("from 1 to 64, the operator's")) << "made";
  ASSERT_TRUE(vmm.add_memory("g"));
  ASSERT_TRUE(vmm.add_device("g", 8));
  ASSERT_TRUE(vmm.of("start", "g"));
  EXPECT_THAT(vmm.refused(more), HasSubstr("from 1 to 64, the operator's")) << "served";
  EXPECT_TRUE(vmm.ok({{"method", "budget"}, {"guest", "g"}, {"commands", 64}})) << vmm.error;
}

TEST(GuestBook, AGuestThatTheHostHadToPauseIsPausedForAll) {
  Bench bench;
  PeerEnd vmm(bench);
  const std::string a = vmm.serve_guest("a");
  vmm.serve_guest("b");
  bench.host.guests.at("a").paused = true;
  bench.host.fail_next("guest a is paused now");
  EXPECT_EQ(vmm.refused({{"method", "reset"}, {"guest", "a"}}), "guest a is paused now");
  EXPECT_TRUE(vmm.of("query", "a"));
  EXPECT_EQ(vmm.result["state"], "paused");
  bench.host.guests.at("b").paused = true;
  bench.host.fail_next("guest b is paused now");
  EXPECT_FALSE(vmm.add_memory("b", 0x80000000));
  EXPECT_TRUE(vmm.of("query", "b"));
  EXPECT_EQ(vmm.result["state"], "paused");
  EXPECT_EQ(vmm.result["memory"].size(), 1U);
  Bench second;
  EXPECT_EQ(second.server->restore(bench.keeper.hand_out()), 2U);
  EXPECT_TRUE(second.host.guests.at("a").paused);
  EXPECT_TRUE(second.host.guests.at("b").paused);
  EXPECT_EQ(second.host.guests.at("b").request->memory.size(), 1U) << "of its old shape";
  EXPECT_TRUE(vmm.of("resume", "a")) << vmm.error;
}

TEST(GuestBook, AGuestCanBeStartedPaused) {
  Bench bench;
  PeerEnd vmm(bench);
  ASSERT_TRUE(vmm.add_guest("g"));
  ASSERT_TRUE(vmm.add_memory("g"));
  ASSERT_TRUE(vmm.add_device("g", 8));
  EXPECT_EQ(vmm.refused({{"method", "start"}, {"guest", "g"}, {"paused", 1}}),
            "start: 'paused' has to be true or false");
  ASSERT_TRUE(vmm.ok({{"method", "start"}, {"guest", "g"}, {"paused", true}})) << vmm.error;
  EXPECT_EQ(bench.host.calls, std::vector<std::string>{"add g"}) << "nothing came between";
  EXPECT_TRUE(bench.host.guests.at("g").paused);
  EXPECT_TRUE(vmm.of("query", "g"));
  EXPECT_EQ(vmm.result["state"], "paused");
  EXPECT_EQ(vmm.result["memory"], json::parse(R"([{"gpa":1073741824,"bytes":2097152}])"));
  Bench second;
  EXPECT_EQ(second.server->restore(bench.keeper.hand_out()), 1U);
  EXPECT_TRUE(second.host.guests.at("g").paused);
  EXPECT_TRUE(vmm.of("resume", "g"));
  EXPECT_FALSE(bench.host.guests.at("g").paused);
}

}  // namespace
}  // namespace faultline::session
