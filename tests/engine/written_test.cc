// SPDX-License-Identifier: BSD-3-Clause
#include "engine/written.h"

#include <gmock/gmock.h>

#include <utility>
#include <vector>

#include "engine/journal.h"

namespace faultline::engine {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using Piece = std::pair<std::uint64_t, std::uint64_t>;

std::vector<Piece> pieces(const WrittenPages& written) {
  std::vector<Piece> out;
  written.each([&](Gpa gpa, std::uint64_t bytes) { out.emplace_back(gpa.value, bytes); });
  return out;
}

TEST(WrittenPages, RemembersEachPlaceOnceByPages) {
  std::uint64_t slots[kJournalWritten] = {};
  WrittenPages written(slots);
  EXPECT_THAT(pieces(written), IsEmpty());
  written.note(Gpa{0x5004}, 4);
  written.note(Gpa{0x5ffc}, 4);
  written.note(Gpa{0}, 4);
  written.note(Gpa{0x40000}, 0x8000);
  written.note(Gpa{0x7ff8}, 16);
  written.note(Gpa{0x10000}, 0);
  EXPECT_THAT(pieces(written), ElementsAre(Piece{0x5000, 0x1000}, Piece{0, 0x1000},
                                           Piece{0x40000, 0x8000}, Piece{0x7000, 0x2000}));
  // Three pages are four.
  written.note(Gpa{0x90000}, 0x3000);
  EXPECT_EQ(pieces(written).back(), (Piece{0x90000, 0x4000}));
  EXPECT_FALSE(written.everything());
}

TEST(WrittenPages, IsEverythingWhereThereIsNoRoom) {
  std::uint64_t slots[kJournalWritten] = {};
  WrittenPages written(slots);
  for (std::uint64_t i = 0; i < kJournalWritten; ++i) written.note(Gpa{i * 0x10000}, 4);
  EXPECT_FALSE(written.everything());
  written.note(Gpa{0x20000}, 4);
  EXPECT_FALSE(written.everything()) << "that one is there";
  written.note(Gpa{0x99000}, 4);
  EXPECT_TRUE(written.everything());
  written.note(Gpa{0xaa000}, 4);
  EXPECT_TRUE(written.everything());
}

TEST(WrittenPages, IsInTheJournalOfEachDuty) {
  auto journal = Journal::create("g", 1, 7);
  ASSERT_TRUE(journal);
  journal->event().written().note(Gpa{0x1000}, 4);
  journal->command().written().note(Gpa{0x2000}, 4);
  auto again = Journal::open(journal->memfd());
  ASSERT_TRUE(again) << again.error().message();
  EXPECT_THAT(pieces(again->event().written()), ElementsAre(Piece{0x1000, 0x1000}));
  EXPECT_THAT(pieces(again->command().written()), ElementsAre(Piece{0x2000, 0x1000}));
}

}  // namespace
}  // namespace faultline::engine
