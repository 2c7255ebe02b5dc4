// SPDX-License-Identifier: BSD-3-Clause
// Whole runs of the program, short ones. Nothing here depends on how fast this machine is.
#include <gtest/gtest.h>

#include <cstdio>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>

#include "engine/monitor.h"
#include "tests/apps/faultline/program.h"

namespace faultline {
namespace {

using Arguments = std::vector<std::string>;

Finished run(Arguments arguments) {
  Arguments all = {"run", "--seconds", "2"};
  all.insert(all.end(), arguments.begin(), arguments.end());
  return run_program(all);
}

void expect_clean(const Arguments& arguments) {
  const Finished f = run(arguments);
  EXPECT_EQ(f.status, 0) << f.out;
  EXPECT_NE(f.out.find("audit: clean"), std::string::npos) << f.out;
}

TEST(Run, IsCleanAtTheDefaults) {
  expect_clean({});
}

TEST(Run, IsCleanWithEightGuestsOfFourDevices) {
  expect_clean({"--guests", "8", "--devices", "4"});
}

TEST(Run, IsCleanWithFaultAbi1) {
  expect_clean({"--abi", "1"});
}

TEST(Run, IsCleanWithFaultAbi2) {
  expect_clean({"--abi", "2"});
}

TEST(Run, IsCleanWithTheKernelInItsOwnProcess) {
  expect_clean({"--kernel", "soft-process", "--guests", "2"});
}

TEST(Run, IsCleanWithTheQuirksOfV7) {
  expect_clean({"--quirks", "v7"});
}

TEST(Run, IsCleanForwardingEach) {
  expect_clean({"--policy", "forward-each"});
}

TEST(Run, IsCleanWhileItsDutiesMoveBetweenShards) {
  const Finished f = run({"--shards", "2", "--rebalance", "20", "--guests", "2"});
  EXPECT_EQ(f.status, 0) << f.out;
  EXPECT_NE(f.out.find("audit: clean"), std::string::npos) << f.out;
  EXPECT_NE(f.out.find(" moves of a duty to another shard"), std::string::npos) << f.out;
}

TEST(Run, MonitorsWhereTheCpuCanAndSaysWhatToTakeWhereNot) {
  if (const auto able = engine::check_idle(engine::IdlePolicy::kMonitor); able) {
    expect_clean({"--idle", "monitor"});
  } else {
    const Finished f = run({"--idle", "monitor"});
    EXPECT_EQ(f.status, 2) << f.out;
    EXPECT_NE(f.out.find("--idle monitor: " + able.error().what + "\n"), std::string::npos)
        << f.out;
    EXPECT_NE(f.out.find("take pause"), std::string::npos) << f.out;
  }
}

TEST(Run, IsCleanWhileItsShardsSleep) {
  expect_clean({"--idle", "sleep", "--sleep-after", "20", "--rate", "recorded"});
  expect_clean({"--idle", "sleep", "--abi", "1", "--shards", "2", "--guests", "2"});
}

TEST(Run, NeedsTwoShardsToMoveDutiesBetween) {
  const Finished f = run({"--shards", "1", "--rebalance", "20"});
  EXPECT_EQ(f.status, 2) << f.out;
  EXPECT_NE(f.out.find("use --shards 2"), std::string::npos) << f.out;
}

// Guests unmap, SYNC and do DMA at once: a stale use would be found.
class EachPolicy : public testing::TestWithParam<const char*> {};

TEST_P(EachPolicy, HasNoStaleUseWhileInvalidationsFail) {
  // Not clean: where the resync fails, too, the devices are made to abort and the guest is told a
  // command queue error, and the audit knows of neither.
  const Finished f = run({"--policy", GetParam(), "--guests", "2", "--fail-invalidations", "97"});
  EXPECT_NE(f.out.find("; 0 stale, "), std::string::npos) << f.out;
  EXPECT_NE(f.out.find(" 0 lost in silence"), std::string::npos) << f.out;
  EXPECT_EQ(f.out.find("a translation that a completed CMD_SYNC had removed"), std::string::npos)
      << f.out;
}
TEST_P(EachPolicy, IsCleanWithoutFailures) {
  expect_clean({"--policy", GetParam(), "--guests", "2"});
}
INSTANTIATE_TEST_SUITE_P(Policies, EachPolicy,
                         testing::Values("forward-each", "batch-until-sync", "merge"),
                         [](const auto& info) {
                           std::string name = info.param;
                           for (char& c : name) c = c == '-' ? '_' : c;
                           return name;
                         });

TEST(Run, IsCleanAtTheRecordedRate) {
  expect_clean({"--rate", "recorded"});
}

TEST(Run, IsCleanWithTheDutiesOfAGuestOnTwoShards) {
  expect_clean({"--shards", "2", "--guests", "2"});
}

// Which trace comes with the source; the paths are relative to its root.
class EachTrace : public testing::TestWithParam<const char*> {};

TEST_P(EachTrace, IsCleanToo) {
  const char* root = std::getenv("FAULTLINE_SOURCE_ROOT");
  ASSERT_NE(root, nullptr);
  expect_clean({"--trace", std::string(root) + "/tests/data/traces/" + GetParam()});
}
INSTANTIATE_TEST_SUITE_P(Traces, EachTrace,
                         testing::Values("nvme-strict-4-noril", "churnfast-strict-2",
                                         "mixed-strict-8"));

TEST(Run, ReportsEveryLossOfAnOverrunKernelQueue) {
  const Finished f = run({"--abi", "1", "--storms", "200"});
  EXPECT_EQ(f.status, 0) << f.out;
  // 480 faults at once do not fit into 85 slots.
  EXPECT_EQ(f.out.find(" + 0 lost and reported"), std::string::npos) << f.out;
  EXPECT_NE(f.out.find(" 0 lost in silence"), std::string::npos) << f.out;
}

struct Planted {
  const char* error;
  const char* finding;
};
class EachPlant : public testing::TestWithParam<Planted> {};

TEST_P(EachPlant, IsFoundByTheAudit) {
  for (const char* abi : {"1", "2"}) {
    const Finished f = run({"--plant", GetParam().error, "--abi", abi});
    EXPECT_EQ(f.status, 1) << f.out;
    EXPECT_NE(f.out.find(GetParam().finding), std::string::npos) << f.out;
    EXPECT_NE(f.out.find("audit: FAILED"), std::string::npos) << f.out;
  }
}
INSTANTIATE_TEST_SUITE_P(
    Plants, EachPlant,
    testing::Values(Planted{"drop-tlbi", "a translation that a completed CMD_SYNC had removed"},
                    Planted{"early-sync", "a translation that a completed CMD_SYNC had removed"},
                    Planted{"lose-record", "faults were lost in silence"},
                    Planted{"duplicate-record", "faults were delivered twice"}),
    [](const auto& info) {
      std::string name = info.param.error;
      for (char& c : name) c = c == '-' ? '_' : c;
      return name;
    });

TEST(Run, WritesTheResultAsJson) {
  const std::string path = testing::TempDir() + "/faultline-run.json";
  const Finished f = run({"--guests", "2", "--devices", "1", "--abi", "1", "--json", path});
  ASSERT_EQ(f.status, 0) << f.out;
  std::ifstream in(path);
  const auto json = nlohmann::ordered_json::parse(in, nullptr, false);
  ASSERT_TRUE(json.is_object());
  const auto keys = [](const nlohmann::ordered_json& object) {
    std::string all;
    for (const auto& item : object.items()) all += item.key() + " ";
    return all;
  };
  EXPECT_EQ(keys(json),
            "seconds policy abi guests devices shards duties_moved faults commands syncs "
            "syncs_completed ioctls "
            "ioctls_per_sync merge budgets stale_dma latency_ns ");
  EXPECT_EQ(keys(json["budgets"]),
            "commands_cut records_cut command_foreign_waits fault_foreign_waits ");
  EXPECT_GT(json["merge"]["operations"], 0);
  EXPECT_GE(json["merge"]["operations"], json["merge"]["planned"]);
  EXPECT_EQ(keys(json["faults"]),
            "produced delivered lost_reported lost_silent misdelivered duplicated ");
  EXPECT_EQ(keys(json["latency_ns"]), "fault sync ");
  for (const char* which : {"fault", "sync"}) {
    EXPECT_EQ(keys(json["latency_ns"][which]), "p50 p90 p99 p999 max count ");
    for (const auto& number : json["latency_ns"][which]) EXPECT_TRUE(number.is_number_unsigned());
    EXPECT_GT(json["latency_ns"][which]["count"], 0);
  }
  EXPECT_EQ(json["policy"], "merge");
  EXPECT_EQ(json["abi"], 1);
  EXPECT_EQ(json["guests"], 2);
  EXPECT_EQ(json["devices"], 1);
  EXPECT_GE(json["shards"], 1);
  EXPECT_GT(json["faults"]["produced"], 0);
  EXPECT_GT(json["commands"], 0);
  EXPECT_EQ(json["syncs"], json["syncs_completed"]);
  EXPECT_GT(json["ioctls"], 0);
  EXPECT_GT(json["ioctls_per_sync"], 0);
  EXPECT_EQ(json["stale_dma"], 0);
  EXPECT_TRUE(json["seconds"].is_number());
  std::remove(path.c_str());
}

TEST(Run, SaysThatTheDiskIsFull) {
  const Finished f = run({"--json", "/dev/full"});
  EXPECT_EQ(f.status, 1) << f.out;
  EXPECT_NE(f.out.find("faultline: cannot write /dev/full: No space left"), std::string::npos)
      << f.out;
}

TEST(Run, EndsWithItsAuditWhenInterrupted) {
  const Finished f = run_program({"run", "--seconds", "3600"}, 120, "1 guest x");
  EXPECT_EQ(f.status, 0) << f.out;
  EXPECT_NE(f.out.find("audit: clean"), std::string::npos) << f.out;
}

class WrongUse : public testing::TestWithParam<Arguments> {};

TEST_P(WrongUse, GetsOneLineAndStatus2) {
  Arguments all = {"run"};
  all.insert(all.end(), GetParam().begin(), GetParam().end());
  const Finished f = run_program(all);
  EXPECT_EQ(f.status, 2) << f.out;
  EXPECT_EQ(f.out.substr(0, 11), "faultline: ");
  EXPECT_EQ(f.out.find('\n'), f.out.size() - 1) << "one line: " << f.out;
}
INSTANTIATE_TEST_SUITE_P(Options, WrongUse,
                         testing::Values(Arguments{"--abi", "3"}, Arguments{"--guests", "0"},
                                         Arguments{"--seconds", "soon"}, Arguments{"--nothing"},
                                         Arguments{"--policy"}, Arguments{"--plant", "nothing"},
                                         Arguments{"--trace", "/there/is/none"},
                                         Arguments{"--json", "/there/is/none"},
                                         Arguments{"--quirks", "v7", "--abi", "2"},
                                         Arguments{"--shards", "64", "--strict-cores"}));

TEST(Program, SaysWhatItCanDo) {
  const Finished help = run_program({"run", "--help"});
  EXPECT_EQ(help.status, 0);
  EXPECT_NE(help.out.find("--policy"), std::string::npos);
  EXPECT_EQ(run_program({}).status, 2);
  EXPECT_EQ(run_program({"fly"}).status, 2);
  EXPECT_EQ(run_program({"--version"}).status, 0);
}

}  // namespace
}  // namespace faultline
