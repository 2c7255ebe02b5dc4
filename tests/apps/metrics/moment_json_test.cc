// SPDX-License-Identifier: BSD-3-Clause
#include "apps/metrics/moment_json.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "tests/apps/metrics/full_moment.h"

namespace faultline::metrics {
namespace {

Moment full_moment() {
  return metrics::full_moment("vm \"a\"\n");
}

TEST(MomentJson, GoesThereAndBackWithEveryCounter) {
  const Moment m = full_moment();
  const std::string text = to_json(m);
  const Result<Moment> back = moment_from_json(text);
  ASSERT_TRUE(back) << back.error().message();
  EXPECT_EQ(to_json(*back), text);
  EXPECT_EQ(back->node, 3);
  EXPECT_EQ(back->backend, session::Backend::kIommufd);
  const engine::GuestSnapshot& g = back->engine.guests.at(0);
  EXPECT_EQ(g.name, "vm \"a\"\n");
  EXPECT_EQ(g.policy, engine::PolicyKind::kBatchUntilSync);
  EXPECT_EQ(g.mode, engine::RegisterMode::kTrapped);
  EXPECT_TRUE(g.paused);
  EXPECT_EQ(g.commands.late_registers, m.engine.guests[0].commands.late_registers);
  EXPECT_EQ(g.devices.at(0).vsid.value, 17U);
  EXPECT_EQ(g.devices.at(0).events.answers_stale,
            m.engine.guests[0].devices[0].events.answers_stale);
  EXPECT_EQ(g.sync_ns.count(), 4U);
  EXPECT_EQ(g.sync_ns.max(), 123'456U);
  EXPECT_EQ(g.sync_ns.percentile(0.75), m.engine.guests[0].sync_ns.percentile(0.75));
}

TEST(MomentJson, RefusesWhatItDidNotMake) {
  const auto good = nlohmann::json::parse(to_json(full_moment()));
  const auto refused = [](const nlohmann::json& j) { return !moment_from_json(j.dump()); };
  EXPECT_FALSE(refused(good));
  const auto with = [&](const char* at, nlohmann::json value) {
    nlohmann::json j = good;
    j[nlohmann::json::json_pointer(at)] = std::move(value);
    return j;
  };
  EXPECT_TRUE(refused(with("/version", 2)));
  EXPECT_TRUE(refused(with("/backend", "vt-d")));
  EXPECT_TRUE(refused(with("/node", -1)));
  EXPECT_TRUE(refused(with("/shards/0/counters/rounds", -1)));
  EXPECT_TRUE(refused(with("/shards/0/counters/rounds", 1.5)));
  EXPECT_TRUE(refused(with("/guests/0/evtq_depth", 1ULL << 32)));
  EXPECT_TRUE(refused(with("/guests/0/sync_ns/buckets/0/0", Histogram::kBuckets)));
  EXPECT_TRUE(refused(with("/guests/0/policy", 1)));
  EXPECT_TRUE(refused(with("/guests", "none")));
  for (const char* list :
       {"/guests", "/shards", "/guests/0/devices", "/guests/0/sync_ns/buckets"}) {
    EXPECT_TRUE(refused(with(list, nullptr))) << list;
    EXPECT_TRUE(refused(with(list, nlohmann::json::object()))) << list;
  }
  EXPECT_TRUE(refused(with("/guests/0/sync_ns/buckets/0", {1, 2, 3})));
  const auto error = moment_from_json(
      with("/backend", "a\nb\xff").dump(-1, ' ', false, nlohmann::json::error_handler_t::replace));
  ASSERT_FALSE(error);
  EXPECT_EQ(error.error().message().find('\n'), std::string::npos) << error.error().message();
  for (const char* text : {"", "[]", "{}", "{\"version\":1", "null"}) {
    EXPECT_FALSE(moment_from_json(text)) << text;
  }
}

TEST(MomentJson, NamesThatAreNotUtf8DoNotStopIt) {
  Moment m = full_moment();
  m.engine.guests[0].name = "\xff\xfe";
  EXPECT_TRUE(moment_from_json(to_json(m)));
}

TEST(Moment, RatesBeginAnewWhenACounterFell) {
  EXPECT_EQ(per_second(10, 30, 2'000'000'000), 10);
  EXPECT_EQ(per_second(30, 10, 1'000'000'000), 10);
  EXPECT_EQ(per_second(10, 30, 0), 0);
}

TEST(Moment, RatiosOfNothingAreZero) {
  engine::GuestSnapshot g;
  EXPECT_EQ(ioctls_per_sync(g.commands), 0);
  EXPECT_EQ(over_invalidation(g), 0);
  g.commands.ioctls = 3;
  g.commands.syncs_completed = 2;
  g.merge.entries_asked = 4;
  g.merge.entries_removed = 6;
  EXPECT_EQ(ioctls_per_sync(g.commands), 1.5);
  EXPECT_EQ(over_invalidation(g), 1.5);
  EXPECT_EQ(busy_share({}, {}), 0);
  engine::ShardCounters before;
  before.busy_cycles = 1;
  before.idle_cycles = 1;
  engine::ShardCounters after;
  after.busy_cycles = 4;
  after.idle_cycles = 2;
  EXPECT_EQ(busy_share(before, after), 0.75);
}

}  // namespace
}  // namespace faultline::metrics
