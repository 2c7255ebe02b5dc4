// SPDX-License-Identifier: BSD-3-Clause
#include "kernel/model/fl_region.h"

#include <gtest/gtest.h>

#include <array>
#include <cstring>
#include <memory>

#include "kernel/uapi/fault_abi2.h"
#include "kernel/uapi/vfio_nested.h"

namespace faultline::test {
namespace {

constexpr std::uint64_t kPage = 4096;

class ModelRegion : public ::testing::Test {
 protected:
  void open(std::uint32_t max_abi, std::uint32_t quirks = 0) {
    prod_size = max_abi == 1 ? 2 * kPage : 17 * kPage;
    const fl_region_memory mem{
        .prod = prod.data(), .prod_size = prod_size, .cons = cons.data(), .page_size = kPage};
    prod.fill(std::byte{0xee});
    cons.fill(std::byte{0xee});
    ASSERT_EQ(0, fl_region_init(&region, &mem, max_abi, quirks));
  }

  std::int64_t write(std::uint64_t pos, std::initializer_list<std::uint32_t> words) {
    return fl_region_write_cons(&region, pos, words.begin(), 4 * words.size());
  }
  uapi::vfio_region_fault_prod header() {
    uapi::vfio_region_fault_prod h{};
    EXPECT_EQ(20, fl_region_read_prod(&region, 0, &h, sizeof h));
    return h;
  }
  fl_produced fault() {
    const fl_event e{{0x10, 1ULL << 35U | 2ULL << 40U, ++faults, 0}};
    return fl_region_produce(&region, &e, 55);
  }

  alignas(4096) std::array<std::byte, 17 * kPage> prod;
  alignas(4096) std::array<std::byte, kPage> cons;
  std::uint64_t prod_size = 0, faults = 0;
  fl_region region{};
};

TEST_F(ModelRegion, IsUnreadableUntilTheAbiIsChosen) {
  open(1);
  std::array<std::uint8_t, 20> buf{};
  EXPECT_EQ(-FL_EINVAL, fl_region_read_prod(&region, 0, buf.data(), buf.size()));
  std::uint32_t word = 0;
  std::memcpy(&word, prod.data(), 4);
  EXPECT_EQ(FL_REGION_VERSION_UNSET, word);
  std::memcpy(&word, prod.data() + 4, 4);
  EXPECT_EQ(0U, word) << "no geometry yet";
  std::memcpy(&word, prod.data() + 12, 4);
  EXPECT_EQ(kPage, word);
  EXPECT_EQ(FL_NO_ABI, fault());
  EXPECT_EQ(4, write(0, {1}));
  const auto h = header();
  EXPECT_EQ(0xffffffffU, h.version) << "v7 never updates it";
  EXPECT_EQ(85U, h.nb_entries);
  EXPECT_EQ(48U, h.entry_size);
  EXPECT_EQ(kPage, h.offset);
  EXPECT_EQ(0U, h.prod);
}

TEST_F(ModelRegion, AbiIsFixedOnceSet) {
  open(2);
  EXPECT_EQ(-FL_EINVAL, write(0, {0}));
  EXPECT_EQ(-FL_EINVAL, write(0, {3}));
  EXPECT_EQ(-FL_EINVAL, write(4, {0})) << "no version yet";
  EXPECT_EQ(0U, region.abi);
  EXPECT_EQ(4, write(0, {1}));
  EXPECT_EQ(4, write(0, {1}));
  EXPECT_EQ(-FL_EINVAL, write(0, {2}));
  EXPECT_EQ(-FL_EINVAL, write(0, {0}));
  EXPECT_EQ(1U, region.abi);
}

TEST_F(ModelRegion, VersionTwoIsRefusedWhereOnlyOneIsOffered) {
  open(1);
  EXPECT_EQ(-FL_EINVAL, write(0, {2}));
  EXPECT_EQ(4, write(0, {1}));
}

TEST_F(ModelRegion, BadConsumerIndexIsRefusedAndTheOldOneKept) {
  open(1);
  ASSERT_EQ(8, write(0, {1, 0}));
  EXPECT_EQ(4, write(4, {84}));
  EXPECT_EQ(84U, region.cons);
  for (const std::uint32_t bad : {85U, 86U, 0x80000000U, 0xffffffffU}) {
    EXPECT_EQ(-FL_EINVAL, write(4, {bad}));
    EXPECT_EQ(-FL_EINVAL, write(0, {1, bad}));
    EXPECT_EQ(84U, region.cons);
  }
  EXPECT_EQ(4, write(4, {0}));
}

TEST_F(ModelRegion, TheChoosingWriteMayCarryABadIndexOnlyInV7) {
  open(1);
  EXPECT_EQ(-FL_EINVAL, write(0, {1, 200}));
  EXPECT_EQ(0U, region.abi);
  open(1, FL_QUIRKS_V7);
  EXPECT_EQ(8, write(0, {1, 200}));
  EXPECT_EQ(200U, region.cons);
  EXPECT_EQ(-FL_EINVAL, write(0, {1})) << "the whole header is checked";
  EXPECT_EQ(4, write(4, {3}));
}

TEST_F(ModelRegion, WritesAreCutAtTheHeadersEnd) {
  open(1);
  EXPECT_EQ(8, write(0, {1, 5, 77}));
  EXPECT_EQ(4, write(4, {6, 77}));
  EXPECT_EQ(-FL_EINVAL, write(8, {1}));
  const std::uint8_t byte = 9;
  EXPECT_EQ(1, fl_region_write_cons(&region, 4, &byte, 1));
  EXPECT_EQ(9U, region.cons);
}

TEST_F(ModelRegion, ReadsAreCutAtTheRegionsEnd) {
  open(1);
  ASSERT_EQ(4, write(0, {1}));
  std::array<std::uint8_t, 64> buf{};
  EXPECT_EQ(-FL_EINVAL, fl_region_read_prod(&region, 2 * kPage, buf.data(), 1));
  EXPECT_EQ(8, fl_region_read_prod(&region, 2 * kPage - 8, buf.data(), buf.size()));
}

TEST_F(ModelRegion, DropsSilentlyWhenFullAndGoesOnAfterConsumption) {
  for (const std::uint32_t quirks : {0U, static_cast<std::uint32_t>(FL_QUIRKS_V7)}) {
    open(1, quirks);
    faults = 0;
    ASSERT_EQ(4, write(0, {1}));
    for (unsigned i = 0; i < 84; ++i) ASSERT_EQ(FL_PRODUCED, fault());
    EXPECT_EQ(84U, header().prod);
    EXPECT_EQ(FL_DROPPED_FULL, fault());
    EXPECT_EQ(84U, header().prod);
    ASSERT_EQ(4, write(4, {84}));
    // From index 84 the masked rule takes fewer: 84 + 1 + 41 is where it stops first.
    unsigned taken = 0;
    while (fault() == FL_PRODUCED) ++taken;
    EXPECT_EQ(quirks == 0 ? 84U : taken, taken);
    EXPECT_TRUE(quirks == 0 || taken < 84) << taken;
    std::uint64_t addr = 0;
    ASSERT_EQ(8, fl_region_read_prod(&region, kPage + 24, &addr, 8));
    EXPECT_EQ(87U, addr) << "slot 0 of the second lap: 84 taken, one dropped, one at slot 84";
  }
}

TEST_F(ModelRegion, AbiTwoHasItsOwnGeometryAndMappedIndices) {
  open(2);
  ASSERT_EQ(4, write(0, {2}));
  const auto h = header();
  EXPECT_EQ(2U, h.version);
  EXPECT_EQ(1024U, h.nb_entries);
  EXPECT_EQ(64U, h.entry_size);
  EXPECT_EQ(kPage, h.offset);
  EXPECT_EQ(-FL_EINVAL, write(4, {1})) << "the index lives in the mapping";
  EXPECT_EQ(8, write(0, {2, 0}));
  for (unsigned i = 0; i < 1024; ++i) ASSERT_EQ(FL_PRODUCED, fault());
  EXPECT_EQ(FL_DROPPED_FULL, fault());
  auto* head = reinterpret_cast<uapi::vfio_region_fault_prod2*>(prod.data());
  auto* tail = reinterpret_cast<uapi::vfio_region_fault_cons2*>(cons.data());
  EXPECT_EQ(1024U, head->prod);
  EXPECT_EQ(1U, head->lost);
  EXPECT_EQ(0U, head->prod32);
  EXPECT_EQ(2U, tail->version);
  tail->version = 77;  // userspace has the page mapped: nothing in it but cons is believed
  tail->cons = 1;
  ASSERT_EQ(FL_PRODUCED, fault());
  EXPECT_EQ(4, write(0, {2}));
  const auto* record = reinterpret_cast<uapi::vfio_fault_record2*>(prod.data() + kPage);
  EXPECT_EQ(1025U, record->sequence);
  EXPECT_EQ(1026U, record->event[2]);
  EXPECT_EQ(55U, record->timestamp_ns);
}

TEST_F(ModelRegion, AbiOneStaysAvailableBesideTwo) {
  open(2);
  ASSERT_EQ(4, write(0, {1}));
  EXPECT_EQ(85U, header().nb_entries);
  EXPECT_EQ(FL_PRODUCED, fault());
  EXPECT_EQ(1U, header().prod);
}

TEST_F(ModelRegion, EventsThatAreOnlyLoggedTouchNothing) {
  open(2);
  ASSERT_EQ(4, write(0, {2}));
  const fl_event stage2{{0x10, 1ULL << 39U, 0, 0}};
  const fl_event bad_ste{{0x04, 0, 0, 0}};
  EXPECT_EQ(FL_NOT_DUE, fl_region_produce(&region, &stage2, 0));
  EXPECT_EQ(FL_NOT_DUE, fl_region_produce(&region, &bad_ste, 0));
  EXPECT_EQ(0U, region.ring2.next);
}

TEST_F(ModelRegion, RefusesSizesThatDoNotFit) {
  fl_region_memory mem{
      .prod = prod.data(), .prod_size = 2 * kPage, .cons = cons.data(), .page_size = kPage};
  EXPECT_EQ(0, fl_region_init(&region, &mem, 2, 0)) << "one page is 64 records";
  EXPECT_EQ(-FL_EINVAL, fl_region_init(&region, &mem, 0, 0));
  EXPECT_EQ(-FL_EINVAL, fl_region_init(&region, &mem, 3, 0));
  mem.prod_size = 4 * kPage;
  EXPECT_EQ(-FL_EINVAL, fl_region_init(&region, &mem, 2, 0)) << "not a power of two";
  EXPECT_EQ(0, fl_region_init(&region, &mem, 1, 0));
  mem.prod_size = kPage;
  EXPECT_EQ(-FL_EINVAL, fl_region_init(&region, &mem, 1, 0));
  mem.page_size = 1000;
  EXPECT_EQ(-FL_EINVAL, fl_region_init(&region, &mem, 1, 0));
}

}  // namespace
}  // namespace faultline::test
