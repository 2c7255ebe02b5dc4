// SPDX-License-Identifier: BSD-3-Clause
#include "apps/replay/replay.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <string>

#include "apps/guest/player.h"
#include "apps/replay/policies.h"
#include "apps/replay/virtual_session.h"
#include "engine/merge/planted.h"
#include "tests/apps/guest/text_trace.h"

namespace faultline {
namespace {

using engine::PolicyKind;
using guest::Trace;
using guest::trace_of;

constexpr Nanos kSubmission = 1'000 + 2'000 + 50;  // with one operation

ReplayOptions with(PolicyKind policy, SinkModel sink = SinkModel::kArray) {
  ReplayOptions o;
  o.policy = policy;
  o.sink = sink;
  o.ring = 200;
  o.ioctl = 1'000;
  o.host_sync = 2'000;
  o.entry = 50;
  o.round = 100;
  return o;
}
const ReplayOptions kEach = with(PolicyKind::kForwardEach);
const ReplayOptions kBatch = with(PolicyKind::kBatchUntilSync);

ReplayReport play(const Trace& trace, const ReplayOptions& options) {
  auto report = replay(trace, options);
  if (!report) {
    ADD_FAILURE() << report.error().message();
    return {};
  }
  return *report;
}

std::uint64_t nanoseconds(const ReplayReport& r) {
  return static_cast<std::uint64_t>(r.seconds * 1e9 + 0.5);
}

TEST(Replay, TakesARoundAndASubmissionForEachSyncOfOneVcpu) {
  const Trace t = trace_of({"0:A.", "0:B."}, 1);
  for (const ReplayOptions& o : {kEach, kBatch}) {
    const ReplayReport r = play(t, o);
    EXPECT_EQ(r.commands, 4U);
    EXPECT_EQ(r.syncs, 2U);
    EXPECT_EQ(r.ioctls, 2U);
    EXPECT_EQ(r.operations, 2U);
    EXPECT_EQ(r.host_syncs, 2U);
    EXPECT_EQ(r.attaches, 0U);
    EXPECT_EQ(r.sync_latency.count(), 2U);
    EXPECT_EQ(r.sync_latency.percentile(0.5), 100 + kSubmission);
    EXPECT_EQ(r.sync_latency.max(), 100 + kSubmission);
    EXPECT_EQ(nanoseconds(r), 2 * (100 + kSubmission) + 200);
    EXPECT_EQ(r.mean_outstanding_syncs(), 1.0);
    EXPECT_EQ(r.limit_ioctls_per_sync(), 1.0);
    EXPECT_FALSE(r.engine_ns_per_command.has_value());
  }
}

TEST(Replay, ForwardsEachOperationByItself) {
  const ReplayReport r = play(trace_of({"0:ABC."}, 1), kEach);
  EXPECT_EQ(r.ioctls, 3U);
  EXPECT_EQ(r.operations, 3U);
  EXPECT_EQ(r.host_syncs, 3U);
  EXPECT_EQ(r.sync_latency.max(), 3 * (100 + kSubmission));
}

TEST(Replay, BatchesWhatOneSyncWaitsFor) {
  const ReplayReport r = play(trace_of({"0:ABC."}, 1), kBatch);
  EXPECT_EQ(r.ioctls, 1U);
  EXPECT_EQ(r.operations, 3U);
  EXPECT_EQ(r.host_syncs, 1U);
  EXPECT_EQ(r.sync_latency.max(), 100 + kSubmission + 2 * 50U);
}

TEST(Replay, NeedsAnIoctlForEachOperationOnASinkOfOne) {
  const ReplayReport r =
      play(trace_of({"0:ABC."}, 1), with(PolicyKind::kBatchUntilSync, SinkModel::kOneOperation));
  EXPECT_EQ(r.ioctls, 3U);
  EXPECT_EQ(r.operations, 3U);
  EXPECT_EQ(r.host_syncs, 3U);
  EXPECT_EQ(r.sync_latency.max(), 100 + 3 * kSubmission);
}

TEST(Replay, LetsOtherVcpusRingWhileASubmissionIsInTheKernel) {
  const ReplayReport r = play(trace_of({"0:A.", "1:B.", "0:C."}, 2), kBatch);
  // A: rung at 0, submitted at 100, done at 3150. B, submitted at 3250, is done at 6300. Meanwhile,
  // at 3350, C is rung; the same round that completes B fetches it, and the next, at 6400, submits.
  EXPECT_EQ(r.ioctls, 3U);
  EXPECT_EQ(r.sync_latency.max(), 2 * (100 + kSubmission));
  EXPECT_EQ(nanoseconds(r), 3 * (100 + kSubmission));
  EXPECT_EQ(r.outstanding_sum, 1U + 2U + 2U);
  EXPECT_EQ(r.busiest_syncs, 2U);
}

TEST(Replay, ThinksBeforeItGoesOn) {
  ReplayOptions o = kBatch;
  o.think = 5'000'000;
  const ReplayReport r = play(trace_of({"0:A.", "0:B."}, 1), o);
  EXPECT_EQ(nanoseconds(r), 2 * (100 + kSubmission) + 200 + 5'000'000);
  EXPECT_EQ(r.sync_latency.max(), 100 + kSubmission);
}

TEST(Replay, WaitsForTheLingerOfWhatNoSyncFollows) {
  const ReplayReport r = play(trace_of({"0:A", "0:B"}, 1), kBatch);
  EXPECT_EQ(r.syncs, 0U);
  EXPECT_EQ(r.ioctls, 1U);
  EXPECT_EQ(r.operations, 2U);
  // Fetched first at 100.
  EXPECT_EQ(nanoseconds(r), 100 + merge::BatchUntilSync::kLinger + kSubmission + 50);
}

TEST(Replay, PlaysEveryLoop) {
  ReplayOptions o = kBatch;
  o.loops = 3;
  const ReplayReport r = play(trace_of({"0:!.", "0:A.", "1:B."}, 2), o);
  EXPECT_EQ(r.commands, 2U + 3 * 4U) << "the prologue is played once";
  EXPECT_EQ(r.syncs, 1U + 3 * 2U);
  EXPECT_EQ(r.ioctls, 1U + 3 * 2U);
  EXPECT_EQ(r.busiest_syncs, 1U + 3U);
  EXPECT_EQ(r.sync_latency.count(), r.syncs);
}

TEST(Replay, CompletesASyncBehindAStreamWithoutDeviceWithoutAnIoctl) {
  const ReplayReport r = play(trace_of({"0:?.", "0:??."}, 1), kEach);
  EXPECT_EQ(r.commands, 5U);
  EXPECT_EQ(r.syncs, 2U);
  EXPECT_EQ(r.ioctls, 0U);
  EXPECT_EQ(r.sync_latency.max(), 100U);
}

TEST(Replay, FindsBothPoliciesExact) {
  const Trace t = trace_of({"0:AAB.", "1:cC."}, 2);
  const ReplayReport each = play(t, kEach);
  EXPECT_EQ(each.entries_asked, 4U);
  const ReplayReport batch = play(t, kBatch);
  EXPECT_EQ(batch.entries_asked, 3U) << "the second A is the same entry";
  EXPECT_EQ(batch.operations, 4U);
  for (const ReplayReport& r : {each, batch}) {
    EXPECT_EQ(r.over_invalidation(), 1.0);
    EXPECT_EQ(r.missed, 0U);
    EXPECT_EQ(r.widened, 0U);
  }
}

TEST(Replay, FindsAPolicyThatLosesOperations) {
  const Trace t = trace_of({"0:ABCDEF.", "0:GHI.", "0:J."}, 1);
  const SinkCaps caps{.max_batch = 63, .tlb_all = true, .atc = true};
  auto world = ReplayWorld::make(t, replay_features(t, caps));
  ASSERT_TRUE(world);
  const auto r = play_virtual(**world, t, kBatch, merge::DropTlbi<merge::BatchUntilSync>());
  ASSERT_TRUE(r);
  // Every third of the driver's own one and these ten.
  EXPECT_EQ(r->missed, 3U);
  EXPECT_EQ(r->operations, 7U);
  EXPECT_LT(r->over_invalidation(), 1.0);
}

TEST(Replay, MakesAQueueThatHoldsTheLongestDoorbell) {
  Trace t = trace_of({"0:A"}, 1);
  t.commands.assign(60'000, t.commands[0]);
  t.commands.push_back(guest::sync_by_cons());
  t.doorbells[0].count = static_cast<std::uint16_t>(t.commands.size());
  EXPECT_EQ(play(t, kEach).ioctls, 60'000U);
}

TEST(Replay, RefusesATraceWithACommandThatIsIllegal) {
  Trace t = trace_of({"0:A.", "0:B."}, 1);
  t.commands[2] = {{0x22, 0}};  // TLBI_EL2_VA
  const auto r = replay(t, kBatch);
  ASSERT_FALSE(r);
  EXPECT_NE(r.error().message().find("command 2 of text"), std::string::npos)
      << r.error().message();
}

TEST(Replay, RefusesRangesOnlyWhereTheTraceHasNone) {
  Trace t = trace_of({"0:."}, 1);
  t.commands[0] = guest::tlbi_va_range(1, Iova{0x1000}, 8);
  EXPECT_FALSE(check_replay(t, kBatch));
  t.uses_range = true;
  EXPECT_TRUE(check_replay(t, kBatch));
}

TEST(Replay, RefusesOptionsThatMakeNoTime) {
  const Trace t = trace_of({"0:A."}, 1);
  ReplayOptions o = kBatch;
  o.loops = 0;
  EXPECT_FALSE(replay(t, o));
  o = kBatch;
  o.round = 0;
  EXPECT_FALSE(replay(t, o));
}

TEST(Replay, CountsTheSameByTheRealClock) {
  ReplayOptions o = kBatch;
  o.clock = ReplayClock::kWall;
  o.loops = 20;
  const ReplayReport r = play(trace_of({"0:AB.", "0:C."}, 1), o);
  EXPECT_EQ(r.commands, 20 * 5U);
  EXPECT_EQ(r.syncs, 40U);
  EXPECT_EQ(r.ioctls, 40U);
  EXPECT_EQ(r.operations, 60U);
  EXPECT_EQ(r.over_invalidation(), 1.0);
  EXPECT_EQ(r.missed, 0U);
  EXPECT_EQ(r.sync_latency.count(), 40U);
  EXPECT_TRUE(r.engine_ns_per_command.has_value());
}

TEST(Replay, WritesTheReportAsJson) {
  ReplayReport r = play(trace_of({"0:A.", "1:B.", "0:C."}, 2), kBatch);
  auto json = nlohmann::ordered_json::parse(to_json(r), nullptr, false);
  const auto keys = [](const nlohmann::ordered_json& object) {
    std::string all;
    for (const auto& item : object.items()) all += item.key() + " ";
    return all;
  };
  EXPECT_EQ(keys(json),
            "commands syncs ioctls operations host_syncs attaches over_invalidation "
            "mean_outstanding_syncs limit_ioctls_per_sync sync_latency_ns engine_ns_per_command "
            "seconds ");
  EXPECT_EQ(keys(json["sync_latency_ns"]), "p50 p90 p99 p999 max count ");
  EXPECT_EQ(json["commands"], 6);
  EXPECT_EQ(json["mean_outstanding_syncs"], 1.666667);
  EXPECT_EQ(json["limit_ioctls_per_sync"], 0.666667);
  EXPECT_EQ(json["sync_latency_ns"]["max"], 6300);
  EXPECT_TRUE(json["engine_ns_per_command"].is_null());
  r.engine_ns_per_command = 12.346;
  json = nlohmann::ordered_json::parse(to_json(r), nullptr, false);
  EXPECT_EQ(json["engine_ns_per_command"], 12.35);
}

class EachTrace : public testing::TestWithParam<const char*> {
 protected:
  static Trace load() {
    const char* root = std::getenv("FAULTLINE_SOURCE_ROOT");  // NOLINT(concurrency-mt-unsafe)
    auto trace = guest::read_trace(std::string(root == nullptr ? "." : root) +
                                   "/tests/data/traces/" + GetParam());
    if (!trace) {
      ADD_FAILURE() << trace.error().message();
      return trace_of({"0:A."}, 1);
    }
    return *trace;
  }
};

TEST_P(EachTrace, IsPlayedWholeByEachPolicy) {
  const Trace t = load();
  const auto count = [&](auto&& is) {
    return static_cast<std::uint64_t>(std::count_if(t.commands.begin(), t.commands.end(), is));
  };
  const auto syncs = count([](const guest::Command& c) { return c.opcode() == guest::op::kSync; });
  const auto tlbis =
      count([](const guest::Command& c) { return c.opcode() >= 0x10 && c.opcode() < 0x40; });
  for (const NamedPolicy& policy : kReplayPolicies) {
    SCOPED_TRACE(policy.name);
    const ReplayReport r = play(t, with(policy.kind));
    EXPECT_EQ(r.commands, t.commands.size());
    EXPECT_EQ(r.syncs, syncs);
    EXPECT_EQ(r.sync_latency.count(), syncs);
    EXPECT_LE(r.ioctls, tlbis) << "no policy needs more than forward-each";
    EXPECT_GE(r.mean_outstanding_syncs(), 1.0);
    EXPECT_LE(r.mean_outstanding_syncs(), t.vcpus);
    EXPECT_EQ(r.missed, 0U);
    if (policy.kind == PolicyKind::kForwardEach) {
      EXPECT_EQ(r.ioctls, tlbis);
      EXPECT_EQ(r.operations, tlbis);
      EXPECT_EQ(r.over_invalidation(), 1.0);
    }
    if (policy.kind == PolicyKind::kBatchUntilSync) {
      EXPECT_LE(r.ioctls, t.doorbells.size() + syncs);
      EXPECT_EQ(r.over_invalidation(), 1.0);
      EXPECT_EQ(r.widened, 0U);
    }
  }
}
INSTANTIATE_TEST_SUITE_P(Recorded, EachTrace,
                         testing::Values("churnfast-strict-2", "churnio-strict-4",
                                         "k61-mixed-lazy-4", "mixed-lazy-8",
                                         "mixed-strict-8-slow100", "mixed-strict-8", "nvme-lazy-4",
                                         "nvme-strict-4-noril", "nvme-strict-4", "vblk-strict-8",
                                         "vnet-lazy-4", "vnet-strict-4"));

class EachPolicy : public EachTrace {};

TEST_P(EachPolicy, ReportsTheSameEveryTime) {
  const Trace t = load();
  for (const NamedPolicy& policy : kReplayPolicies) {
    for (const SinkModel sink : {SinkModel::kArray, SinkModel::kOneOperation}) {
      ReplayOptions o = with(policy.kind, sink);
      o.think = 700;
      EXPECT_EQ(to_json(play(t, o)), to_json(play(t, o))) << policy.name;
    }
  }
}
INSTANTIATE_TEST_SUITE_P(Recorded, EachPolicy, testing::Values("k61-mixed-lazy-4", "vnet-lazy-4"));

}  // namespace
}  // namespace faultline
