// SPDX-License-Identifier: BSD-3-Clause
// The consumer against the rings of kernel/model, which is what the software kernel and the kernel
// module are made of: nothing lost, doubled or reordered but what the loss reports cover.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <deque>
#include <random>
#include <vector>

#include "kernel/model/fl_region.h"
#include "tests/kernel/vfio_fixture.h"
#include "tests/kernel/vfio_model_kernel.h"

namespace faultline::testing {
namespace {

/// What the consumer must come to know: every event that was due, in order; lost ones marked.
struct Truth {
  std::deque<std::uint64_t> tags;     ///< produced, from the first one not delivered for good
  std::deque<std::uint64_t> lost_at;  ///< number of the record behind each drop
  std::uint64_t produced = 0;
};

/// A consumer that may be killed: what it has done counts only once it is journalled.
struct Reader {
  std::uint64_t delivered = 0;             ///< records journalled as delivered
  std::vector<std::uint64_t> reported_at;  ///< losses told, by the number of the record behind
  std::uint64_t exact = 0;                 ///< ABI 2: sum of exact losses told
  SourcePosition journal;
};

class Property : public VfioFixture, public ::testing::WithParamInterface<std::uint32_t> {
 protected:
  void run(std::uint32_t abi, std::uint32_t quirks, int steps, std::uint64_t seed, bool restarts) {
    SCOPED_TRACE("seed " + std::to_string(seed) + " abi " + std::to_string(abi) + " quirks " +
                 std::to_string(quirks));
    kernel.max_abi = abi;
    ModelKernel model(sys, kernel, quirks);
    ASSERT_EQ(open_regions(), "");
    ASSERT_EQ(regions->abi(0), abi);
    std::mt19937_64 random(seed);
    Truth truth;
    Reader reader;
    Nanos now = 0;
    std::uint64_t tag = 0;
    // Bursts from far below the threshold of fullness to far beyond the ring.
    std::uint64_t pressure = 1;
    for (int step = 0; step < steps; ++step) {
      if (step % 512 == 0) pressure = 1 + random() % (abi == 1 ? 60 : 200);
      switch (random() % 8) {
        case 0:
        case 1:
        case 2:
          for (std::uint64_t n = random() % pressure; n > 0; --n) {
            // Now and then a record equal to the last one.
            tag += random() % 4 == 0 ? 0 : 1;
            if (model.produce(tag)) {
              truth.tags.push_back(tag);
              ++truth.produced;
            } else if (truth.lost_at.empty() || truth.lost_at.back() != truth.produced) {
              truth.lost_at.push_back(truth.produced);
            }
          }
          break;
        case 3:
          regions->housekeeping(now += 200'000);
          break;
        case 4:
          if (restarts && random() % 64 == 0) {
            ASSERT_EQ(reopen_regions({reader.journal}), "");
            if (random() % 2 == 0) regions->commit(0);
            break;
          }
          [[fallthrough]];
        default:
          if (abi == 1 && random() % 64 == 0) sys.inject(Call::kPwrite, 1, -EINTR);
          if (abi == 1 && random() % 64 == 0) sys.inject(Call::kPread, 1, -EINTR);
          consume(random, truth, reader, restarts);
          break;
      }
      if (HasFatalFailure()) return;
    }
    // Let it come to rest: everything must be known then.
    for (int i = 0; i < 100; ++i) {
      regions->housekeeping(now += 200'000);
      consume(random, truth, reader, false);
      if (HasFatalFailure()) return;
    }
    EXPECT_EQ(reader.delivered, truth.produced);
    check_losses(truth, reader);
    if (!truth.lost_at.empty()) {  // behind the last record
      EXPECT_EQ(truth.lost_at.front(), truth.produced);
      EXPECT_EQ(reader.reported_at.back(), truth.produced);
    }
    if (abi == 2) {
      EXPECT_EQ(reader.exact, model.dropped());
    }
  }

  /// One round of an EventDuty: losses, records, journal, commit; killed between two of them when
  /// `kills`.
  void consume(std::mt19937_64& random, Truth& truth, Reader& reader, bool kills) {
    const SourceLoss loss = regions->take_loss(0);
    std::vector<std::uint64_t> told;
    std::uint64_t exact = loss.exact;
    if (loss.exact + loss.possible > 0) told.push_back(reader.delivered);
    const auto records = poll(1 + random() % 40);
    if (records.empty()) {
      if (kills && random() % 128 == 0) {  // before the loss is journalled
        ASSERT_EQ(reopen_regions({reader.journal}), "");
        return;
      }
    }
    for (std::size_t i = 0; i < records.size(); ++i) {
      const FaultRecord& r = records[i];
      ASSERT_LT(i, truth.tags.size()) << "a record that was not produced";
      ASSERT_EQ(r.form == FaultRecord::Form::kRawEvent ? r.event[2] : r.addr, truth.tags[i]);
      if (r.lost_before > 0) told.push_back(reader.delivered + i);
      if (!r.lost_before_is_guess) exact += r.lost_before;
    }
    if (kills && random() % 128 == 0) {  // before the intent: nothing was visible
      ASSERT_EQ(reopen_regions({reader.journal}), "");
      return;
    }
    if (!records.empty() || !told.empty()) reader.journal = regions->position(0);
    reader.delivered += records.size();
    reader.exact += exact;
    reader.reported_at.insert(reader.reported_at.end(), told.begin(), told.end());
    truth.tags.erase(truth.tags.begin(),
                     truth.tags.begin() + static_cast<std::ptrdiff_t>(records.size()));
    if (!records.empty()) check_losses(truth, reader);
    if (kills && random() % 128 == 0) {  // before the commit
      ASSERT_EQ(reopen_regions({reader.journal}), "");
      return;
    }
    if (random() % 4 != 0) regions->commit(0);
  }

  /// Every drop right before a record that was delivered must have been told at that place.
  void check_losses(Truth& truth, const Reader& reader) {
    while (!truth.lost_at.empty() && truth.lost_at.front() < reader.delivered) {
      const std::uint64_t at = truth.lost_at.front();
      ASSERT_TRUE(std::binary_search(reader.reported_at.begin(), reader.reported_at.end(), at))
          << "a drop before record " << at << " was not told";
      truth.lost_at.pop_front();
    }
  }
};

TEST_P(Property, NothingIsLostInSilenceInVersion1AsDocumented) {
  run(1, 0, 40'000, GetParam(), false);
}
TEST_P(Property, NothingIsLostInSilenceInVersion1OfV7) {
  run(1, FL_QUIRK_MASKED_SPACE, 40'000, GetParam() + 100, false);
}
TEST_P(Property, NothingIsLostInSilenceInVersion1OverRestarts) {
  run(1, FL_QUIRK_MASKED_SPACE, 40'000, GetParam() + 200, true);
}
TEST_P(Property, EveryLossIsCountedInVersion2) {
  run(2, 0, 40'000, GetParam() + 300, false);
}
TEST_P(Property, EveryLossIsCountedInVersion2OverRestarts) {
  run(2, 0, 40'000, GetParam() + 400, true);
}

INSTANTIATE_TEST_SUITE_P(Seeds, Property, ::testing::Values(1U, 2U, 3U));

}  // namespace
}  // namespace faultline::testing
