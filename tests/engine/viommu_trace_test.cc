// SPDX-License-Identifier: BSD-3-Clause
#include <gtest/gtest.h>
#include <zstd.h>

#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "engine/viommu/command.h"

namespace faultline::viommu {
namespace {

/// One recorded command: time, then the 16 bytes that the driver wrote.
struct Recorded {
  std::uint64_t t_ns = 0;
  RawCommand raw;
};

std::vector<Recorded> recorded(const std::string& name) {
  const char* root = std::getenv("FAULTLINE_SOURCE_ROOT");  // NOLINT(concurrency-mt-unsafe)
  std::ifstream file(
      (root == nullptr ? std::string(".") : root) + "/tests/data/traces/" + name + ".cmdq.zst",
      std::ios::binary);
  const std::vector<char> packed(std::istreambuf_iterator<char>(file), {});
  const auto bytes = ZSTD_getFrameContentSize(packed.data(), packed.size());
  if (bytes == ZSTD_CONTENTSIZE_ERROR || bytes == ZSTD_CONTENTSIZE_UNKNOWN) return {};
  std::vector<Recorded> out(bytes / sizeof(Recorded));
  const std::size_t got =
      ZSTD_decompress(out.data(), out.size() * sizeof(Recorded), packed.data(), packed.size());
  return ZSTD_isError(got) != 0 ? std::vector<Recorded>{} : out;
}

class ViommuTrace : public testing::TestWithParam<const char*> {};

TEST_P(ViommuTrace, IsLegalWithWhatTheDriverWasOffered) {
  Features offered;
  offered.granule_16k = offered.granule_64k = true;
  offered.msi = false;
  offered.ranges = std::string(GetParam()).find("noril") == std::string::npos;
  const std::vector<Recorded> commands = recorded(GetParam());
  ASSERT_GT(commands.size(), 1000U);
  std::size_t syncs = 0, operations = 0, ranges = 0;
  for (const Recorded& r : commands) {
    Command c;
    ASSERT_EQ(decode(r.raw, offered, c), CommandError::kNone)
        << std::hex << r.raw.word[0] << ' ' << r.raw.word[1];
    if (c.is_sync()) ++syncs;
    if (c.is_operation()) ++operations;
    if (c.pages > 1) ++ranges;
    // Linux uses WFE where it was not offered MSIs.
    if (c.is_sync()) {
      ASSERT_EQ(c.signal, SyncSignal::kEvent);
    }
  }
  EXPECT_GT(syncs, 0U);
  EXPECT_GT(operations, 0U);
  EXPECT_EQ(ranges == 0, !offered.ranges);
}

INSTANTIATE_TEST_SUITE_P(Recorded, ViommuTrace,
                         testing::Values("churnfast-strict-2", "mixed-strict-8",
                                         "nvme-strict-4-noril", "vnet-strict-4"));

}  // namespace
}  // namespace faultline::viommu
