// SPDX-License-Identifier: BSD-3-Clause
#include <gtest/gtest.h>

#include "apps/guest/page_table.h"
#include "apps/guest/stream_table.h"
#include "tests/apps/guest/fake_smmu.h"

namespace faultline::guest {
namespace {

constexpr std::uint64_t kAddress = 0x0000'ffff'ffff'f000ULL;

// A walk written out by hand: each level takes nine bits.
std::uint64_t walk(FakeSmmu& s, Gpa root, std::uint64_t iova, unsigned shift) {
  Gpa table = root;
  for (; shift > 12; shift -= 9) {
    const std::uint64_t entry = s.memory.word(table + 8 * (iova >> shift & 0x1ff));
    if ((entry & 3) != 3) return 0;
    table = Gpa{entry & kAddress};
  }
  return s.memory.word(table + 8 * (iova >> 12 & 0x1ff));
}

TEST(PageTable, MapsThroughFourLevels) {
  FakeSmmu s;
  PageTable table(s.memory, 48);
  const Gpa page = s.memory.allocate(kPage4K);
  table.map(Iova{0x8123'4567'8000}, page, Leaf::kReadWrite);
  // Valid page, unprivileged, inner shareable, accessed, not global, never executed.
  EXPECT_EQ(walk(s, table.root(), 0x8123'4567'8000, 39), page.value | 0x0060000000000f43);
  EXPECT_EQ(table.descriptor(Iova{0x8123'4567'8000}), page.value | 0x0060000000000f43);
  EXPECT_EQ(walk(s, table.root(), 0x8123'4567'9000, 39), 0U);
  EXPECT_EQ(table.descriptor(Iova{0x1000}), 0U);
}

TEST(PageTable, StartsOneLevelLowerWith39Bits) {
  FakeSmmu s;
  PageTable table(s.memory, 39);
  const Gpa page = s.memory.allocate(kPage4K);
  table.map(Iova{0x7f'ffff'f000}, page, Leaf::kReadOnly);
  EXPECT_EQ(walk(s, table.root(), 0x7f'ffff'f000, 30), page.value | 0x0060000000000fc3);
}

TEST(PageTable, UnmapClearsTheLeafOnly) {
  FakeSmmu s;
  PageTable table(s.memory, 48);
  const Gpa page = s.memory.allocate(kPage4K);
  table.map(Iova{0x1000}, page, Leaf::kReadWrite);
  table.map(Iova{0x2000}, page, Leaf::kReadWrite);
  table.unmap(Iova{0x1000});
  table.unmap(Iova{0x40'0000'0000});
  EXPECT_EQ(table.descriptor(Iova{0x1000}), 0U);
  EXPECT_NE(table.descriptor(Iova{0x2000}), 0U);
}

TEST(PageTable, FaultyLeavesLackWhatTheirFaultNeeds) {
  FakeSmmu s;
  PageTable table(s.memory, 48);
  const Gpa page = s.memory.allocate(kPage4K);
  table.map(Iova{0x1000}, page, Leaf::kNotAccessed);
  table.map(Iova{0x2000}, page, Leaf::kTooFar);
  EXPECT_EQ(table.descriptor(Iova{0x1000}) & 1U << 10, 0U);
  EXPECT_GE(table.descriptor(Iova{0x2000}) & kAddress, 1ULL << 40);
}

TEST(StreamTable, WritesLinearEntries) {
  FakeSmmu s;
  StreamTable table(s.memory, StreamTable::Format::kLinear, 10);
  EXPECT_EQ(table.config_register(), 10U);
  const Gpa base{table.base_register() & kAddress};
  EXPECT_EQ(base.value % (64U << 10), 0U);
  table.translate(StreamId{0x208}, Gpa{0x4000'0040});
  EXPECT_EQ(s.memory.word(base + 64 * 0x208), 0x4000'004bU);
  EXPECT_EQ(s.memory.word(base + 64 * 0x208 + 8), 0x00001000000000d6U);
  table.abort(StreamId{0x208});
  EXPECT_EQ(s.memory.word(base + 64 * 0x208), 1U);
}

TEST(StreamTable, WritesTwoLevelEntries) {
  FakeSmmu s;
  StreamTable table(s.memory, StreamTable::Format::kTwoLevel, 12);
  EXPECT_EQ(table.config_register(), 1U << 16 | 8U << 6 | 12U);
  table.translate(StreamId{0x208}, Gpa{0x4000'0080});
  const Gpa base{table.base_register() & kAddress};
  const std::uint64_t level1 = s.memory.word(base + 8 * 2);
  EXPECT_EQ(level1 & 31, 9U);
  EXPECT_EQ(s.memory.word(Gpa{level1 & ~std::uint64_t{31}} + 64 * 8), 0x4000'008bU);
  EXPECT_EQ(s.memory.word(base), 0U) << "a level that nobody needs is not there";
  EXPECT_EQ(table.ste_word(StreamId{0x18}, 0), 0U);
}

TEST(StreamTable, WritesTheContextDescriptorThatLinuxWrites) {
  FakeSmmu s;
  PageTable table(s.memory, 48);
  const Gpa cd = s.memory.allocate(64, 64);
  write_context_descriptor(s.memory, cd, table, 0x123);
  // T0SZ 16, cacheable, EPD1, V, IPS 40 bits, AA64, R, A, ASET.
  EXPECT_EQ(s.memory.word(cd), 0x0123e202c0003510U);
  EXPECT_EQ(s.memory.word(cd + 8), table.root().value);
}

}  // namespace
}  // namespace faultline::guest
