// SPDX-License-Identifier: BSD-3-Clause
// `faultline replay` as a program: its options, its files and what it says when they are wrong.
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <string>

#include "tests/apps/faultline/program.h"

namespace faultline {
namespace {

namespace fs = std::filesystem;
using Arguments = std::vector<std::string>;

std::string traces() {
  const char* root = std::getenv("FAULTLINE_SOURCE_ROOT");  // NOLINT(concurrency-mt-unsafe)
  return std::string(root == nullptr ? "." : root) + "/tests/data/traces/";
}

Finished replay(const Arguments& arguments) {
  Arguments all = {"replay"};
  all.insert(all.end(), arguments.begin(), arguments.end());
  return run_program(all);
}

void expect_one_line(const Finished& f, int status) {
  EXPECT_EQ(f.status, status) << f.out;
  EXPECT_EQ(f.out.substr(0, 11), "faultline: ");
  EXPECT_EQ(f.out.find('\n'), f.out.size() - 1) << "one line: " << f.out;
}

std::string text_of(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

/// A folder that is gone afterwards.
class ReplayTest : public testing::Test {
 protected:
  ReplayTest() : folder(fs::path(testing::TempDir()) / ("replay-" + std::to_string(getpid()))) {
    fs::create_directories(folder);
  }
  ~ReplayTest() override {
    std::error_code ignored;
    fs::remove_all(folder, ignored);
  }
  void write(const std::string& name, const std::string& bytes) const {
    std::ofstream(folder / name, std::ios::binary) << bytes;
  }
  [[nodiscard]] std::string at(const std::string& name) const { return (folder / name).string(); }

  fs::path folder;
};

TEST_F(ReplayTest, WritesTheSameJsonTwice) {
  for (const char* policy : {"forward-each", "batch-until-sync"}) {
    for (const char* name : {"a.json", "b.json"}) {
      const Finished f = replay({traces() + "vnet-lazy-4.cmdq.zst", "--policy", policy, "--loops",
                                 "2", "--json", at(name)});
      ASSERT_EQ(f.status, 0) << f.out;
      EXPECT_NE(f.out.find("per CMD_SYNC (limit "), std::string::npos) << f.out;
    }
    const std::string first = text_of(at("a.json"));
    EXPECT_EQ(first, text_of(at("b.json")));
    const auto json = nlohmann::json::parse(first, nullptr, false);
    ASSERT_TRUE(json.is_object());
    EXPECT_EQ(json["syncs"], json["sync_latency_ns"]["count"]);
    EXPECT_GT(json["ioctls"], 0);
  }
  EXPECT_EQ(std::distance(fs::directory_iterator(folder), fs::directory_iterator()), 2)
      << "nothing but the two files is left";
}

TEST_F(ReplayTest, RunsByTheRealClockToo) {
  const Finished f = replay({traces() + "vnet-lazy-4", "--clock", "wall", "--sink", "one-operation",
                             "--ioctl-ns", "100", "--host-sync-ns", "100", "--json", at("a.json")});
  ASSERT_EQ(f.status, 0) << f.out;
  const auto json = nlohmann::json::parse(text_of(at("a.json")), nullptr, false);
  ASSERT_TRUE(json.is_object());
  EXPECT_TRUE(json["engine_ns_per_command"].is_number());
  EXPECT_EQ(json["ioctls"], json["operations"]);
}

TEST_F(ReplayTest, TakesItsOptionsFromAFileToo) {
  write("good.toml", "[replay]\npolicy = \"merge\"\nmerge-cap = 1\nmerge-linger = \"off\"\n");
  const Arguments trace = {traces() + "nvme-strict-4-noril"};
  const auto json_of = [&](const Arguments& more) {
    Arguments all = trace;
    all.insert(all.end(), more.begin(), more.end());
    all.insert(all.end(), {"--json", at("out.json")});
    const Finished f = replay(all);
    EXPECT_EQ(f.status, 0) << f.out;
    return text_of(at("out.json"));
  };
  const std::string exact = json_of({"--merge-cap", "1", "--merge-linger", "off"});
  EXPECT_EQ(json_of({"--config", at("good.toml")}), exact);
  EXPECT_NE(json_of({}), exact) << "the options make no difference";
  EXPECT_EQ(json_of({"--config", at("good.toml"), "--policy", "forward-each"}),
            json_of({"--policy", "forward-each"}))
      << "the command line wins";

  write("unknown.toml", "[replay]\nmerge-kap = 1\n");
  write("range.toml", "[replay]\nmerge-cap = 0.5\n");
  write("broken.toml", "[replay\nmerge-cap = = 1\n");
  for (const char* name : {"unknown.toml", "range.toml", "broken.toml", "none.toml"}) {
    expect_one_line(replay({trace[0], "--config", at(name)}), 2);
  }
}

TEST_F(ReplayTest, WritesTheLatencyForPlotters) {
  const Finished f =
      replay({traces() + "vnet-lazy-4", "--hgrm", at("sync.hgrm"), "--json", at("sync.json")});
  ASSERT_EQ(f.status, 0) << f.out;
  const std::string text = text_of(at("sync.hgrm"));
  EXPECT_NE(text.find("Percentile TotalCount"), std::string::npos) << text;
  const auto json = nlohmann::json::parse(text_of(at("sync.json")), nullptr, false);
  const std::string count = std::to_string(json["sync_latency_ns"]["count"].get<unsigned>());
  EXPECT_NE(text.find(count + "]"), std::string::npos) << text;
  expect_one_line(replay({traces() + "vnet-lazy-4", "--hgrm", "/dev/full"}), 1);
  expect_one_line(replay({traces() + "vnet-lazy-4", "--hgrm", at("no/where")}), 2);
}

TEST_F(ReplayTest, SaysInOneLineThatTheDiskIsFull) {
  const Finished f = replay({traces() + "vnet-lazy-4", "--json", "/dev/full"});
  expect_one_line(f, 1);
  EXPECT_NE(f.out.find("No space left"), std::string::npos) << f.out;
  EXPECT_TRUE(fs::is_character_file("/dev/full"));
}

TEST_F(ReplayTest, LeavesTheOldFileWhereTheReplayFails) {
  write("old.json", "old");
  expect_one_line(replay({at("none"), "--json", at("old.json")}), 2);
  EXPECT_EQ(text_of(at("old.json")), "old");
}

TEST_F(ReplayTest, KeepsALinkAndReplacesWhatItPointsTo) {
  write("real.json", "old");
  fs::create_symlink(at("real.json"), at("link.json"));
  ASSERT_EQ(replay({traces() + "vnet-lazy-4", "--json", at("link.json")}).status, 0);
  EXPECT_TRUE(fs::is_symlink(at("link.json")));
  EXPECT_EQ(text_of(at("real.json")).front(), '{');
}

TEST_F(ReplayTest, SaysInOneLineWhatIsWrongWithATrace) {
  const std::string command(24, '\x46');  // one record; its opcode is 0x46, a CMD_SYNC
  const std::string doorbell("\0\0\0\0\0\0\0\0\0\0\0\0\x01\0\0\0", 16);
  const auto make = [&](const std::string& name, const std::string& cmdq, const std::string& db,
                        const std::string& json) {
    write(name + ".cmdq", cmdq);
    write(name + ".db", db);
    write(name + ".json", json);
    return replay({at(name)});
  };
  const std::string vcpus = R"({"vcpus": 1})";
  expect_one_line(make("truncated", command.substr(1), doorbell, vcpus), 2);
  expect_one_line(make("short", command + command, doorbell, vcpus), 2);
  expect_one_line(make("foreign", std::string(48, 'x'), doorbell, vcpus), 2);
  expect_one_line(make("doorless", command, doorbell.substr(1), vcpus), 2);
  expect_one_line(make("nameless", command, doorbell, "{}"), 2);
  expect_one_line(
      make("illegal", std::string(8, '\0') + std::string(1, '\x22') + std::string(15, '\0'),
           doorbell, vcpus),
      2);
  write("packed.cmdq.zst", "no zstd");
  expect_one_line(replay({at("packed.cmdq.zst")}), 2);
  fs::create_directory(folder / "folder.cmdq");
  expect_one_line(replay({at("folder")}), 2);
}

class WrongReplay : public testing::TestWithParam<Arguments> {};

TEST_P(WrongReplay, GetsOneLineAndStatus2) {
  Arguments all = GetParam();
  if (!all.empty() && all[0].empty()) all[0] = traces() + "vnet-lazy-4";
  expect_one_line(replay(all), 2);
}
INSTANTIATE_TEST_SUITE_P(
    Options, WrongReplay,
    testing::Values(Arguments{}, Arguments{"/there/is/none"}, Arguments{"", "--policy", "best"},
                    Arguments{"", "--policy"}, Arguments{"", "--sink", "two"},
                    Arguments{"", "--clock", "sun"}, Arguments{"", "--loops", "0"},
                    Arguments{"", "--loops", "many"}, Arguments{"", "--ioctl-ns", "-1"},
                    Arguments{"", "--round-ns", "0"}, Arguments{"", "--think-ns", "9999999999"},
                    Arguments{"", "--nothing"}, Arguments{"", "one-more"},
                    Arguments{"", "--json", "/there/is/none"}, Arguments{"", "--json", "/tmp"}));

TEST(ReplayProgram, SaysWhatItCanDo) {
  const Finished help = replay({"--help"});
  EXPECT_EQ(help.status, 0);
  EXPECT_NE(help.out.find("--host-sync-ns"), std::string::npos);
}

}  // namespace
}  // namespace faultline
