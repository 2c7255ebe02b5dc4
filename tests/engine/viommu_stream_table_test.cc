// SPDX-License-Identifier: BSD-3-Clause
#include "engine/viommu/stream_table.h"

#include <gtest/gtest.h>

#include <array>
#include <vector>

#include "tests/engine/viommu_memory.h"

namespace faultline::viommu {
namespace {

using Mode = Stage1Config::Mode;
using Ste = std::array<std::uint64_t, 8>;

constexpr std::uint64_t kRam = 0x4000'0000;

// As Linux writes them for stage 1 with one context descriptor at 0x4'8123'4000: V, Config 5;
// S1DSS SSID0, inner and outer write-back, inner shareable.
constexpr std::uint64_t kSte0 = 0x0000'0004'8123'400b;
constexpr std::uint64_t kSte1 = 0x0000'0000'0000'00d6;
// T0SZ 16, TG0 4K, WB, ISH, EPD1, V, IPS 44, AA64, R, A, ASET, ASID 0x1234.
constexpr std::uint64_t kCd0 = 0x1234'e204'c000'3510;

Features with_substreams() {
  Features f;
  f.ssid_bits = 16;
  return f;
}

TEST(ViommuStreamTable, DecodesWhatLinuxWrites) {
  const StreamEntry e = decode_ste(Ste{kSte0, kSte1}, Features{});
  EXPECT_EQ(e.status, StreamStatus::kValid);
  Stage1Config want;
  want.mode = Mode::kTranslate;
  want.cd_table = 0x4'8123'4000;
  want.ste[0] = kSte0;
  want.ste[1] = kSte1;
  EXPECT_EQ(e.config, want);
}

TEST(ViommuStreamTable, DecodesSubstreams) {
  // S1Fmt 2, S1CDMax 16, S1DSS 2.
  const Ste ste{0x8000'0004'8123'402b, 2};
  const StreamEntry e = decode_ste(ste, with_substreams());
  EXPECT_EQ(e.status, StreamStatus::kValid);
  EXPECT_EQ(e.config.s1cdmax, 16U);
  EXPECT_EQ(e.config.s1fmt, 2U);
  EXPECT_EQ(e.config.s1dss, 2U);
  // Reserved values count as 0.
  const StreamEntry r = decode_ste(Ste{0x8000'0004'8123'403b, 3}, with_substreams());
  EXPECT_EQ(r.config.s1fmt, 0U);
  EXPECT_EQ(r.config.s1dss, 0U);
  // Ignored where no substreams are offered.
  const StreamEntry n = decode_ste(ste, Features{});
  EXPECT_EQ(n.status, StreamStatus::kValid);
  EXPECT_EQ(n.config.s1cdmax, 0U);
  EXPECT_EQ(n.config.s1fmt, 0U);
  EXPECT_EQ(n.config.s1dss, 0U);
}

TEST(ViommuStreamTable, TakesEveryConfigForWhatItIs) {
  for (std::uint64_t config = 0; config < 8; ++config) {
    const StreamEntry e = decode_ste(Ste{1 | config << 1, 0}, Features{});
    const bool stage2 = config >= 6;
    EXPECT_EQ(e.status, stage2 ? StreamStatus::kBadSte : StreamStatus::kValid) << config;
    EXPECT_EQ(e.config.mode, config == 4   ? Mode::kBypass
                             : config == 5 ? Mode::kTranslate
                                           : Mode::kAbort)
        << config;
    const StreamEntry invalid = decode_ste(Ste{config << 1, 0}, Features{});
    EXPECT_EQ(invalid.status, StreamStatus::kBadSte);
    EXPECT_EQ(invalid.config.mode, Mode::kAbort);
  }
}

TEST(ViommuStreamTable, AbortsStage1ThatIsBeyondWhatIsOffered) {
  const auto bad = [](std::uint64_t w0, std::uint64_t w1, const Features& f) {
    const StreamEntry e = decode_ste(Ste{w0, w1}, f);
    EXPECT_EQ(e.config.mode == Mode::kAbort, e.status == StreamStatus::kBadSte);
    return e.status == StreamStatus::kBadSte;
  };
  Features f = with_substreams();
  EXPECT_TRUE(bad(kSte0 | 17ULL << 59, kSte1, f));  // S1CDMax > SSIDSIZE
  EXPECT_FALSE(bad(kSte0 | 16ULL << 59, kSte1, f));
  f.two_level_contexts = false;
  EXPECT_TRUE(bad(kSte0 | 1ULL << 59 | 1 << 4, kSte1, f));
  EXPECT_TRUE(bad(kSte0 | 1ULL << 59 | 2 << 4, kSte1, f));
  EXPECT_FALSE(bad(kSte0 | 2 << 4, kSte1, f));  // one descriptor: S1Fmt is ignored
  EXPECT_TRUE(bad(kSte0, kSte1 | 1 << 27, f));  // S1STALLD without stalls
  f.stalls = true;
  EXPECT_FALSE(bad(kSte0, kSte1 | 1 << 27, f));
  EXPECT_FALSE(bad(kSte0, kSte1 | 2 << 28, f));  // EATS is ignored without ATS
  f.ats = true;
  EXPECT_TRUE(bad(kSte0, kSte1 | 2 << 28, f));  // split-stage ATS needs stage 2
  EXPECT_FALSE(bad(kSte0, kSte1 | 1 << 28, f));
  EXPECT_TRUE(bad(kSte0 | 1ULL << 44, kSte1, f));  // beyond 44 bits of address
}

TEST(ViommuStreamTable, ReadsALinearTable) {
  test::Memory memory{{kRam, 0x10000}};
  // 8 entries, written as if at +0x40: the architecture aligns the base to the table.
  const StreamTable table = StreamTable::latch(1ULL << 62 | (kRam + 0x40), 3, Features{});
  EXPECT_EQ(table.base, kRam);
  memory.put(kRam + 5 * 64, {kSte0, kSte1});
  EXPECT_EQ(read_stream(memory.get(), table, StreamId{5}, Features{}).config.cd_table,
            0x4'8123'4000U);
  EXPECT_EQ(read_stream(memory.get(), table, StreamId{4}, Features{}).status,
            StreamStatus::kBadSte);
  for (const std::uint32_t sid : {8U, 0x100U, 0xffff'ffffU}) {
    EXPECT_EQ(read_stream(memory.get(), table, StreamId{sid}, Features{}).status,
              StreamStatus::kBadStreamId);
  }
}

TEST(ViommuStreamTable, CapsItsSizeAtTheOfferedStreamIds) {
  Features f;
  f.sid_bits = 8;
  const StreamTable table = StreamTable::latch(kRam, 0x3f, f);
  EXPECT_EQ(table.log2size, 8U);
  EXPECT_EQ(table.base, 0U);  // aligned to the size as written
  f.sid_bits = 32;
  test::Memory memory{{kRam, 0x1000}};
  const StreamTable whole = StreamTable::latch(0, 32, f);
  EXPECT_EQ(read_stream(memory.get(), whole, StreamId{0xffff'ffff}, f).status,
            StreamStatus::kFetchAbort);
}

TEST(ViommuStreamTable, ReadsATwoLevelTableAtEverySplit) {
  for (const unsigned split : {6U, 8U, 10U}) {
    test::Memory memory{{kRam, 0x40000}};
    const std::uint32_t config = 1U << 16 | split << 6 | 16;
    const StreamTable table = StreamTable::latch(kRam, config, Features{});
    ASSERT_TRUE(table.two_level);
    const std::uint64_t leaf = kRam + 0x20000;
    const std::uint32_t sid = 3U << split | 0x25;
    memory.put(kRam + 3 * 8, {leaf | (split + 1)});
    memory.put(leaf + 0x25 * 64, {kSte0, kSte1});
    EXPECT_EQ(read_stream(memory.get(), table, StreamId{sid}, Features{}).config.mode,
              Mode::kTranslate);
    // A leaf of 32 entries ends before 0x25.
    memory.put(kRam + 3 * 8, {leaf | 6});
    EXPECT_EQ(read_stream(memory.get(), table, StreamId{sid}, Features{}).status,
              StreamStatus::kBadStreamId);
    for (const std::uint64_t span :
         {std::uint64_t{0}, std::uint64_t{12}, std::uint64_t{31}, std::uint64_t{split + 2}}) {
      memory.put(kRam + 3 * 8, {leaf | span});
      EXPECT_EQ(read_stream(memory.get(), table, StreamId{sid}, Features{}).status,
                StreamStatus::kBadStreamId)
          << span;
    }
    // A leaf or a first level outside guest memory.
    memory.put(kRam + 3 * 8, {0x7000'0000ULL | (split + 1)});
    EXPECT_EQ(read_stream(memory.get(), table, StreamId{sid}, Features{}).status,
              StreamStatus::kFetchAbort);
    const StreamTable away = StreamTable::latch(0x7000'0000, config, Features{});
    EXPECT_EQ(read_stream(memory.get(), away, StreamId{sid}, Features{}).status,
              StreamStatus::kFetchAbort);
  }
}

TEST(ViommuStreamTable, TakesReservedFormatsAsTheArchitectureSays) {
  EXPECT_FALSE(StreamTable::latch(kRam, 2U << 16 | 8, Features{}).two_level);
  EXPECT_FALSE(StreamTable::latch(kRam, 3U << 16 | 8, Features{}).two_level);
  EXPECT_EQ(StreamTable::latch(kRam, 1U << 16 | 7U << 6 | 8, Features{}).split, 6U);
  Features linear;
  linear.two_level_streams = false;
  EXPECT_FALSE(StreamTable::latch(kRam, 1U << 16 | 8, linear).two_level);
  // A first level smaller than a cache line is aligned to 64 bytes.
  EXPECT_EQ(StreamTable::latch(kRam + 0x7c0, 1U << 16 | 8U << 6 | 8, Features{}).base,
            kRam + 0x7c0);
}

TEST(ViommuStreamTable, SurvivesRandomTables) {
  auto random = test::seeded(0x57e);
  test::Memory memory{{kRam, 0x10000}};
  for (std::uint64_t at = 0; at < 0x10000; at += 8) {
    // Often pointers into the same memory and stage 1 enabled, so that walks go on.
    std::uint64_t word = random() % 2 != 0 ? random() : kRam | (random() & 0xffff);
    if (random() % 4 == 0) word = (word & ~std::uint64_t{0xf}) | 0xb;
    memory.put(kRam + at, {word});
  }
  Features f = with_substreams();
  f.sid_bits = 32;
  unsigned translating = 0;
  for (int i = 0; i < 100'000; ++i) {
    const StreamTable table =
        StreamTable::latch(kRam | (random() & 0xffff), static_cast<std::uint32_t>(random()), f);
    const auto sid = static_cast<std::uint32_t>(random()) >> random() % 32;
    const StreamEntry e = read_stream(memory.get(), table, StreamId{sid}, f);
    if (e.config.mode != Mode::kTranslate) continue;
    ++translating;
    ContextWalk walk;
    Context out[4];
    for (int call = 0; call < 4 && !walk.done; ++call) {
      ASSERT_LE(list_contexts(memory.get(), e.config, walk, out, 8), 4U);
    }
  }
  EXPECT_GT(translating, 200U);
}

// ---- context descriptors ----

Stage1Config contexts_at(std::uint64_t table, unsigned cdmax, unsigned fmt) {
  Stage1Config c;
  c.mode = Mode::kTranslate;
  c.cd_table = table;
  c.s1cdmax = static_cast<std::uint8_t>(cdmax);
  c.s1fmt = static_cast<std::uint8_t>(fmt);
  return c;
}

std::uint64_t cd_of(std::uint16_t asid) {
  return (kCd0 & 0x0000'ffff'ffff'ffff) | std::uint64_t{asid} << 48;
}

std::vector<Context> list_all(const GuestMemory& memory, const Stage1Config& config,
                              std::size_t room, std::size_t budget, std::size_t max_calls) {
  std::vector<Context> all, out(room);
  ContextWalk walk;
  for (std::size_t call = 0; call < max_calls && !walk.done; ++call) {
    const std::size_t n = list_contexts(memory, config, walk, out, budget);
    EXPECT_LE(n, room);
    all.insert(all.end(), out.begin(), out.begin() + static_cast<std::ptrdiff_t>(n));
  }
  EXPECT_TRUE(walk.done);
  return all;
}

TEST(ViommuContexts, DecodesWhatLinuxWrites) {
  Context c;
  ASSERT_TRUE(decode_cd(Ste{kCd0}, 3, c));
  EXPECT_EQ(c, (Context{3, 0x1234, 12, 0}));
  EXPECT_FALSE(decode_cd(Ste{kCd0 & ~(1ULL << 31)}, 3, c));
}

TEST(ViommuContexts, DecodesEveryGranule) {
  constexpr std::uint8_t kTg0[] = {12, 16, 14, 0};
  constexpr std::uint8_t kTg1[] = {0, 14, 12, 16};
  for (std::uint64_t tg = 0; tg < 4; ++tg) {
    Context c;
    ASSERT_TRUE(decode_cd(Ste{1ULL << 31 | tg << 6 | tg << 22}, 0, c));
    EXPECT_EQ(c.granule0_log2, kTg0[tg]);
    EXPECT_EQ(c.granule1_log2, kTg1[tg]);
    ASSERT_TRUE(decode_cd(Ste{1ULL << 31 | tg << 6 | tg << 22 | 1 << 14 | 1 << 30}, 0, c));
    EXPECT_EQ(c.granule0_log2, 0U);
    EXPECT_EQ(c.granule1_log2, 0U);
  }
}

TEST(ViommuContexts, ListsOneDescriptorOrALinearTable) {
  test::Memory memory{{kRam, 0x10000}};
  memory.put(kRam + 0x40, {cd_of(9)});
  const auto one = list_all(memory.get(), contexts_at(kRam + 0x40, 0, 0), 4, 4, 1);
  EXPECT_EQ(one, (std::vector<Context>{{0, 9, 12, 0}}));

  memory.put(kRam + 0x1000 + 64 * 2, {cd_of(20)});
  memory.put(kRam + 0x1000 + 64 * 15, {cd_of(35)});
  for (const std::size_t room : {1U, 4U}) {
    for (const std::size_t budget : {1U, 2U, 3U, 100U}) {
      const auto linear =
          list_all(memory.get(), contexts_at(kRam + 0x1000, 4, 0), room, budget, 20);
      EXPECT_EQ(linear, (std::vector<Context>{{2, 20, 12, 0}, {15, 35, 12, 0}}));
    }
  }
}

TEST(ViommuContexts, ListsTwoLevelTables) {
  for (const unsigned fmt : {1U, 2U}) {
    const unsigned leaf = fmt == 1 ? 6 : 10;
    test::Memory memory{{kRam, 0x40000}};
    const unsigned cdmax = leaf + 2;
    memory.put(kRam + 1 * 8, {(kRam + 0x10000) | 1});
    memory.put(kRam + 2 * 8, {(kRam + 0x20000)});  // not valid
    memory.put(kRam + 3 * 8, {0x7000'0000 | 1});   // not in memory
    const std::uint32_t first = 1U << leaf;
    memory.put(kRam + 0x10000, {cd_of(1)});
    memory.put(kRam + 0x10000 + 64 * ((1U << leaf) - 1), {cd_of(2)});
    const std::vector<Context> want{{first, 1, 12, 0}, {2 * first - 1, 2, 12, 0}};
    const Stage1Config config = contexts_at(kRam, cdmax, fmt);
    for (const std::size_t budget : {1U, 2U, 7U, 10'000U}) {
      EXPECT_EQ(list_all(memory.get(), config, 1, budget, 10'000), want);
    }
    Context c;
    EXPECT_TRUE(read_context(memory.get(), config, first, c));
    EXPECT_EQ(c.asid, 1U);
    EXPECT_FALSE(read_context(memory.get(), config, first + 1, c));
    EXPECT_FALSE(read_context(memory.get(), config, 0, c));
    EXPECT_FALSE(read_context(memory.get(), config, 3 * first, c));
    EXPECT_FALSE(read_context(memory.get(), config, 4 * first, c));
  }
}

TEST(ViommuContexts, WorkIsBoundedWhateverTheGuestClaims) {
  test::Memory memory{{kRam, 0x1000}};
  const Stage1Config hostile = contexts_at(0x7000'0000, 20, 0);
  ContextWalk walk;
  Context out[4];
  EXPECT_EQ(list_contexts(memory.get(), hostile, walk, out, 64), 0U);
  EXPECT_FALSE(walk.done);
  EXPECT_EQ(walk.next, 64U);
  ContextWalk beyond;
  EXPECT_EQ(list_contexts(memory.get(), contexts_at(kRam, 31, 0), beyond, out, 64), 0U);
  EXPECT_TRUE(beyond.done);
  ContextWalk none;
  EXPECT_EQ(list_contexts(memory.get(), Stage1Config{}, none, out, 64), 0U);
  EXPECT_TRUE(none.done);
}

}  // namespace
}  // namespace faultline::viommu
