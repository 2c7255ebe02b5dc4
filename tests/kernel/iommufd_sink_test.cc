// SPDX-License-Identifier: BSD-3-Clause
#include "kernel/iommufd/sink.h"

#include <gmock/gmock.h>

#include <random>
#include <utility>

#include "kernel/iommufd/vtd_sink.h"
#include "tests/kernel/iommufd_fixture.h"

namespace faultline::testing {
namespace {

using ::testing::ElementsAre;

struct SinkFixture : IommufdFixture {
  using Sink = iommufd::Sink<ScriptedSys>;

  Sink sink() {
    EXPECT_EQ(open(2), "");
    return Sink(*guest);
  }
  static Operation op(OperationKind kind, std::uint16_t asid = 0, std::uint64_t addr = 0,
                      std::uint64_t pages = 0) {
    Operation o;
    o.kind = kind;
    o.asid = asid;
    o.addr = addr;
    o.pages = pages;
    return o;
  }
  static Operation stream(OperationKind kind, std::uint32_t sid) {
    Operation o;
    o.kind = kind;
    o.sid = sid;
    return o;
  }
  std::vector<std::pair<std::uint64_t, std::uint64_t>> issued() const {
    std::vector<std::pair<std::uint64_t, std::uint64_t>> out;
    for (const auto& c : kernel.issued) out.emplace_back(c.cmd[0], c.cmd[1]);
    return out;
  }
  /// The pages that issued commands by address remove, of one granule.
  std::set<std::uint64_t> pages_removed(unsigned granule) const {
    std::set<std::uint64_t> pages;
    for (const auto& c : kernel.issued) {
      const std::uint64_t tg = c.cmd[1] >> 10 & 3;
      const std::uint64_t n = tg == 0 ? 1 : ((c.cmd[0] >> 12 & 31) + 1) << (c.cmd[0] >> 20 & 31);
      for (std::uint64_t i = 0; i < n; ++i) pages.insert((c.cmd[1] >> granule) + i);
    }
    return pages;
  }
};

using K = OperationKind;

TEST_F(SinkFixture, EachOperationIsTheCommandOfTheArchitecture) {
  kernel.idr[0] |= 1U << 10;  // ATS
  Sink s = sink();
  Operation cd = stream(K::kCfgCd, 0x18);
  cd.ssid = 5;
  cd.leaf = true;
  Operation atc = stream(K::kAtcInv, 0x10);
  atc.addr = 0x200000;
  atc.pages = 512;
  atc.ssid = 7;
  atc.ssid_valid = true;
  Operation all = stream(K::kAtcInv, 0x10);
  Operation leaf = op(K::kTlbVa, 3, 0x7000, 1);
  leaf.leaf = true;
  const std::vector<Operation> ops = {op(K::kTlbAll),
                                      op(K::kTlbAsid, 0x1234),
                                      leaf,
                                      op(K::kTlbVaa, 9, 0x9000, 1),
                                      cd,
                                      stream(K::kCfgCdAll, 0x10),
                                      atc,
                                      all};
  const SubmitResult r = s.submit(ops);
  EXPECT_EQ(r.error, 0);
  EXPECT_EQ(r.calls, 1U);
  EXPECT_EQ(r.host_syncs, 1U);
  EXPECT_THAT(
      issued(),
      ElementsAre(std::pair(0x10ULL, 0ULL), std::pair(0x1234000000000011ULL, 0ULL),
                  std::pair(0x0003000000000012ULL, 0x7001ULL), std::pair(0x13ULL, 0x9000ULL),
                  std::pair(0x0000001800005005ULL, 1ULL), std::pair(0x1000000006ULL, 0ULL),
                  std::pair(0x0000001000007840ULL, 0x200009ULL),
                  std::pair(0x1000000040ULL, 52ULL)));
}

TEST_F(SinkFixture, RangesCoverExactlyWhatWasAskedAndNeverUseAReservedEncoding) {
  std::mt19937_64 random(20261125);
  Sink s = sink();
  for (int i = 0; i < 500; ++i) {
    const unsigned granule = 12 + 2 * (random() % 3);
    Operation o = op(K::kTlbVa, 1, (random() % 100000) << granule, 1 + random() % 3000);
    o.granule_log2 = static_cast<std::uint8_t>(granule);
    o.ttl = static_cast<std::uint8_t>(random() % 4);
    o.leaf = random() % 2 != 0;
    kernel.issued.clear();
    ASSERT_EQ(s.submit({&o, 1}).error, 0);
    ASSERT_LE(kernel.issued.size(), 2U) << "one range, or two that overlap";
    const std::set<std::uint64_t> removed = pages_removed(granule);
    ASSERT_EQ(removed.size(), o.pages) << o.pages << " pages of 2^" << granule;
    ASSERT_EQ(*removed.begin(), o.addr >> granule);
    ASSERT_EQ(*removed.rbegin(), (o.addr >> granule) + o.pages - 1);
    for (const auto& c : kernel.issued) {
      const std::uint64_t tg = c.cmd[1] >> 10 & 3;
      const std::uint64_t ttl = c.cmd[1] >> 8 & 3;
      ASSERT_EQ(c.cmd[1] & 1, o.leaf ? 1U : 0U);
      if (tg == 0) {
        ASSERT_EQ(c.cmd[0] & 0x1f1f000, 0U);
        ASSERT_EQ(ttl, 0U);
        continue;
      }
      ASSERT_EQ(tg, (granule - 10) / 2);
      ASSERT_FALSE((c.cmd[0] & 0x1f1f000) == 0 && ttl == 0) << "reserved";
      ASSERT_FALSE(granule == 14 && ttl == 1) << "reserved";
      ASSERT_TRUE(ttl == 0 || ttl == o.ttl);
      ASSERT_TRUE(ttl == 0 || kernel.issued.size() == 1U) << "a hint must hold for the whole";
    }
  }
}

TEST_F(SinkFixture, WithoutRangesPagesGoOneByOneAndManyBecomeEverything) {
  kernel.idr[3] = 0;
  Sink s = sink();
  EXPECT_FALSE(s.caps().range);
  EXPECT_EQ(s.caps().max_pages, 512U);
  Operation o = op(K::kTlbVa, 1, 0x10000, 200);
  SubmitResult r = s.submit({&o, 1});
  EXPECT_EQ(r.error, 0);
  EXPECT_EQ(r.calls, 4U);
  EXPECT_EQ(pages_removed(12).size(), 200U);
  EXPECT_THAT(kernel.array_sizes, ElementsAre(63U, 63U, 63U, 11U));
  kernel.issued.clear();
  o.pages = 513;
  r = s.submit({&o, 1});
  EXPECT_EQ(r.calls, 1U);
  EXPECT_THAT(issued(), ElementsAre(std::pair(0x10ULL, 0ULL)));
}

TEST_F(SinkFixture, AnArrayHasAtMostWhatTheHostDoesWithOneSync) {
  Sink s = sink();
  EXPECT_EQ(s.caps().max_batch, 63U);
  const std::vector<Operation> ops(150, op(K::kTlbAsid, 1));
  const SubmitResult r = s.submit(ops);
  EXPECT_EQ(r.error, 0);
  EXPECT_EQ(r.calls, 3U);
  EXPECT_EQ(r.host_syncs, kernel.host_syncs);
  EXPECT_THAT(kernel.array_sizes, ElementsAre(63U, 63U, 24U));
  EXPECT_EQ(kernel.issued.size(), 150U);
  EXPECT_EQ(s.submit({}).calls, 0U) << "an empty array is refused by the kernel: none is sent";
}

TEST_F(SinkFixture, StreamsThatTheGuestDoesNotHaveSucceedWithoutACall) {
  kernel.idr[0] |= 1U << 10;
  Sink s = sink();
  const std::vector<Operation> ops = {stream(K::kCfgCd, 0x99), stream(K::kCfgCdAll, 0x99),
                                      stream(K::kAtcInv, 0x99)};
  const SubmitResult r = s.submit(ops);
  EXPECT_EQ(r.error, 0);
  EXPECT_EQ(r.calls, 0U);
  const std::vector<Operation> mixed = {op(K::kTlbAsid, 1), stream(K::kCfgCd, 0x99),
                                        op(K::kTlbAsid, 2)};
  EXPECT_EQ(s.submit(mixed).error, 0);
  EXPECT_EQ(kernel.issued.size(), 2U);
}

TEST_F(SinkFixture, WithoutAtsNothingIsSaidAboutTheDevicesCaches) {
  Sink s = sink();
  EXPECT_FALSE(s.caps().atc);
  const Operation atc = stream(K::kAtcInv, 0x10);
  EXPECT_EQ(s.submit({&atc, 1}).calls, 0U);
}

TEST_F(SinkFixture, AFailedArrayEndsTheSubmissionAndItsCountIsNotBelieved) {
  kernel.refused_commands = {0x13};
  Sink s = sink();
  std::vector<Operation> ops(70, op(K::kTlbAsid, 1));
  ops.push_back(op(K::kTlbVaa, 0, 0x1000, 1));  // in the second array, behind seven
  ops.insert(ops.end(), 100, op(K::kTlbAsid, 2));
  const SubmitResult r = s.submit(ops);
  EXPECT_EQ(r.error, EIO);
  EXPECT_EQ(r.calls, 2U) << "nothing is sent again from where the kernel says it stopped";
  EXPECT_FALSE(r.atc_timeout);
  EXPECT_EQ(kernel.issued.size(), 63U) << "seven were counted and not carried out";
}

TEST_F(SinkFixture, AnOperationThatNoCommandCanSayIsRefusedAndSendsNothingWrong) {
  Sink s = sink();
  Operation o = op(K::kTlbVa, 1, 0x1000, 0);
  EXPECT_EQ(s.submit({&o, 1}).error, EINVAL);
  o.pages = 1;
  o.granule_log2 = 13;
  EXPECT_EQ(s.submit({&o, 1}).error, EINVAL);
  EXPECT_TRUE(kernel.issued.empty());
}

TEST_F(SinkFixture, AnAtcRangeThatIsNoBlockBecomesEverything) {
  kernel.idr[0] |= 1U << 10;
  Sink s = sink();
  Operation atc = stream(K::kAtcInv, 0x10);
  atc.addr = 0x3000;
  atc.pages = 3;
  ASSERT_EQ(s.submit({&atc, 1}).error, 0);
  atc.pages = 2;  // a power of two, but not aligned to it
  ASSERT_EQ(s.submit({&atc, 1}).error, 0);
  EXPECT_THAT(issued(),
              ElementsAre(std::pair(0x1000000040ULL, 52ULL), std::pair(0x1000000040ULL, 52ULL)));
}

TEST_F(SinkFixture, ASignalIsNoFailure) {
  Sink s = sink();
  const std::vector<Operation> ops(3, op(K::kTlbAll));
  sys.on_ioctl = [inner = sys.on_ioctl, first = true](int fd, unsigned long request,
                                                      void* argument) mutable {
    if (request == uapi::kIommuHwptInvalidate && std::exchange(first, false)) {
      static_cast<uapi::iommu_hwpt_invalidate*>(argument)->entry_num = 1;  // done before it came
      return -EINTR;
    }
    return inner(fd, request, argument);
  };
  const SubmitResult r = s.submit(ops);
  EXPECT_EQ(r.error, 0);
  EXPECT_EQ(kernel.issued.size(), 3U) << "all of them, not as many as were done";
}

TEST_F(SinkFixture, VtdTablesGetEntriesOrAreFlushedWhole) {
  kernel.vtd_tables = {0x70, 0x71};
  const int fd = sys.open("/dev/iommu", 0);
  {
    iommufd::VtdSink<ScriptedSys> s(sys, fd, {0x70, 0x71});
    Operation leaf = op(K::kTlbVa, 1, 0x7f0000, 2);
    leaf.granule_log2 = 16;
    leaf.leaf = true;
    const std::vector<Operation> ops = {leaf, op(K::kTlbAsid, 1), stream(K::kCfgCdAll, 1)};
    const SubmitResult r = s.submit(ops);
    EXPECT_EQ(r.error, 0);
    EXPECT_EQ(r.calls, 2U) << "one for each table";
    ASSERT_EQ(kernel.vtd_issued.size(), 4U);
    EXPECT_EQ(kernel.vtd_issued[0].addr, 0x7f0000U);
    EXPECT_EQ(kernel.vtd_issued[0].npages, 32U);
    EXPECT_EQ(kernel.vtd_issued[0].flags, 1U);
    EXPECT_EQ(kernel.vtd_issued[1].addr, 0U);
    EXPECT_EQ(kernel.vtd_issued[1].npages, ~std::uint64_t{0});
    EXPECT_EQ(s.set_stage1(0, {}).error, EOPNOTSUPP);
    sys.inject(Call::kIoctl, 2, -ETIMEDOUT, uapi::kIommuHwptInvalidate);
    EXPECT_EQ(s.submit(ops).error, ETIMEDOUT);
    sys.inject(Call::kIoctl, 1, -EINTR, uapi::kIommuHwptInvalidate);
    EXPECT_EQ(s.submit(ops).error, 0) << "a signal";
    const std::vector<Operation> many(64, op(K::kTlbAll));
    EXPECT_EQ(s.submit(many).calls, 4U);
  }
  sys.close(fd);
}

}  // namespace
}  // namespace faultline::testing
