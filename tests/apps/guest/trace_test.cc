// SPDX-License-Identifier: BSD-3-Clause
#include "apps/guest/trace.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <set>
#include <string>

namespace faultline::guest {
namespace {

namespace fs = std::filesystem;

std::string data(const std::string& name) {
  const char* root = std::getenv("FAULTLINE_SOURCE_ROOT");
  return std::string(root == nullptr ? "." : root) + "/tests/data/traces/" + name;
}

class TraceTest : public testing::Test {
 protected:
  TraceTest() {
    fs::create_directories(dir);
    put_command(0, cfgi_all());
    put_command(0, sync_by_cons());
    put_command(5, tlbi_va_range(3, Iova{0x1000}, 2));
    put_command(5, sync_by_cons());
    put_doorbell(0, 0, 2, 0);
    put_doorbell(5, 2, 2, 1);
  }
  ~TraceTest() override { fs::remove_all(dir); }

  static void put(std::string& to, std::uint64_t value, int bytes) {
    for (int i = 0; i < bytes; ++i) to.push_back(static_cast<char>(value >> 8 * i));
  }
  void put_command(std::uint64_t at, const Command& c) {
    put(commands, at, 8);
    put(commands, c.word[0], 8);
    put(commands, c.word[1], 8);
  }
  void put_doorbell(std::uint64_t at, std::uint32_t first, std::uint16_t count,
                    std::uint16_t vcpu) {
    put(doorbells, at, 8);
    put(doorbells, first, 4);
    put(doorbells, count, 2);
    put(doorbells, vcpu, 2);
  }
  Result<Trace> read() {
    std::ofstream(dir / "t.cmdq", std::ios::binary) << commands;
    std::ofstream(dir / "t.db", std::ios::binary) << doorbells;
    std::ofstream(dir / "t.json") << json;
    return read_trace((dir / "t").string());
  }
  void expect_error(const std::string& part) {
    const auto r = read();
    ASSERT_FALSE(r);
    EXPECT_NE(r.error().message().find(part), std::string::npos) << r.error().message();
    EXPECT_EQ(r.error().message().find('\n'), std::string::npos);
  }

  fs::path dir = fs::temp_directory_path() / ("faultline-trace-" + std::to_string(::getpid()));
  std::string commands;
  std::string doorbells;
  std::string json = R"({"vcpus": 2})";
};

TEST_F(TraceTest, ReadsCommandsAndDoorbells) {
  const auto r = read();
  ASSERT_TRUE(r) << r.error().message();
  EXPECT_EQ(r->name, "t");
  EXPECT_EQ(r->vcpus, 2U);
  ASSERT_EQ(r->commands.size(), 4U);
  EXPECT_EQ(r->commands[2], tlbi_va_range(3, Iova{0x1000}, 2));
  ASSERT_EQ(r->doorbells.size(), 2U);
  EXPECT_EQ(r->doorbells[1].vcpu, 1U);
  EXPECT_TRUE(r->uses_range);
  EXPECT_TRUE(r->uses_asid(3));
  EXPECT_FALSE(r->uses_asid(4));
}

TEST_F(TraceTest, TakesAnyOneOfTheFilesAsTheName) {
  ASSERT_TRUE(read());
  EXPECT_TRUE(read_trace((dir / "t.cmdq").string()));
  EXPECT_TRUE(read_trace((dir / "t.json").string()));
}

TEST_F(TraceTest, NamesAFileThatIsNotThere) {
  const auto r = read_trace((dir / "none").string());
  ASSERT_FALSE(r);
  EXPECT_NE(r.error().message().find("none.cmdq"), std::string::npos);
}

TEST_F(TraceTest, RefusesTruncatedCommands) {
  commands.pop_back();
  expect_error("t.cmdq is truncated");
}

TEST_F(TraceTest, RefusesTruncatedDoorbells) {
  doorbells.resize(16);
  expect_error("t.db is truncated");
}

TEST_F(TraceTest, RefusesAForeignCommandFile) {
  commands[8] = '\x7f';
  expect_error("t.cmdq is not a command trace");
}

TEST_F(TraceTest, RefusesDoorbellsOfAnotherTrace) {
  doorbells[16 + 12] = 3;
  expect_error("do not belong together");
}

TEST_F(TraceTest, RefusesDoorbellsWithGaps) {
  doorbells[16 + 8] = 3;
  expect_error("t.db is not a doorbell trace");
}

TEST_F(TraceTest, RefusesADescriptionWithoutVcpus) {
  json = R"({"name": "x"})";
  expect_error("\"vcpus\"");
  json = "{";
  expect_error("\"vcpus\"");
}

TEST_F(TraceTest, RefusesADamagedCompressedFile) {
  ASSERT_TRUE(read());
  fs::remove(dir / "t.cmdq");
  std::ofstream(dir / "t.cmdq.zst") << "this is no zstd frame";
  const auto r = read_trace((dir / "t").string());
  ASSERT_FALSE(r);
  EXPECT_NE(r.error().message().find("t.cmdq.zst"), std::string::npos);
}

TEST_F(TraceTest, AllocatesNothingForASizeThatItsCompressedFileCannotHave) {
  ASSERT_TRUE(read());
  fs::remove(dir / "t.cmdq");
  // A frame header alone: single segment, 1 GiB of content.
  std::ofstream(dir / "t.cmdq.zst", std::ios::binary)
      << std::string("\x28\xb5\x2f\xfd\xa0\x00\x00\x00\x40", 9);
  const auto r = read_trace((dir / "t").string());
  ASSERT_FALSE(r);
  EXPECT_NE(r.error().message().find("is not a zstd file with a known size"), std::string::npos);
}

TEST(Traces, ThatComeWithTheSourceAreWhole) {
  for (const char* name :
       {"churnfast-strict-2", "churnio-strict-4", "k61-mixed-lazy-4", "mixed-lazy-8",
        "mixed-strict-8-slow100", "mixed-strict-8", "nvme-lazy-4", "nvme-strict-4-noril",
        "nvme-strict-4", "vblk-strict-8", "vnet-lazy-4", "vnet-strict-4"}) {
    SCOPED_TRACE(name);
    const auto r = read_trace(data(name));
    ASSERT_TRUE(r) << r.error().message();
    std::ifstream in(data(name) + ".json");
    const auto said = nlohmann::json::parse(in, nullptr, false);
    EXPECT_EQ(r->commands.size(), said["commands"]);
    EXPECT_EQ(r->doorbells.size(), said["doorbells"]);
    EXPECT_EQ(r->vcpus, said["vcpus"]);
    EXPECT_EQ(std::count_if(r->commands.begin(), r->commands.end(),
                            [](const Command& c) { return c.opcode() == op::kSync; }),
              said["syncs"]);
    // Two of the lazy ones invalidate whole ASIDs only.
    const bool ranges =
        std::set<std::string>{"nvme-strict-4-noril", "k61-mixed-lazy-4", "vnet-lazy-4"}.count(
            name) == 0;
    EXPECT_EQ(r->uses_range, ranges);
    for (std::uint32_t sid : {0x208U, 0x210U, 0x218U}) EXPECT_FALSE(r->uses_sid(StreamId{sid}));
  }
}

}  // namespace
}  // namespace faultline::guest
