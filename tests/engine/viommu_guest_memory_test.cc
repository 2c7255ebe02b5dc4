// SPDX-License-Identifier: BSD-3-Clause
#include "engine/viommu/guest_memory.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <thread>

#include "tests/engine/viommu_memory.h"

namespace faultline::viommu {
namespace {

constexpr std::uint64_t kPage = 4096;

/// A memfd mapped here, which the test may truncate.
struct Memfd {
  Memfd(std::size_t pages, int seals)
      : fd(memfd_create("guest", MFD_ALLOW_SEALING)), bytes(pages * kPage) {
    if (fd < 0 || ftruncate(fd, static_cast<off_t>(bytes)) != 0) std::abort();
    if (seals != 0 && fcntl(fd, F_ADD_SEALS, seals) != 0) std::abort();
    host = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (host == MAP_FAILED) std::abort();
  }
  ~Memfd() {
    munmap(host, bytes);
    close(fd);
  }
  Memfd(const Memfd&) = delete;
  Memfd& operator=(const Memfd&) = delete;

  engine::MemoryRegion region(std::uint64_t gpa, bool give_fd) const {
    return {Gpa{gpa}, bytes, host, give_fd ? fd : -1};
  }

  int fd;
  std::size_t bytes;
  void* host = nullptr;
};

std::string why(std::initializer_list<engine::MemoryRegion> regions) {
  auto made = GuestMemory::make(std::vector<engine::MemoryRegion>(regions));
  return made ? "" : made.error().message();
}

TEST(ViommuGuestMemory, SaysWhatIsWrongWithARegion) {
  void* const host = reinterpret_cast<void*>(0x10'0000);
  EXPECT_NE(why({}).find("without memory"), std::string::npos);
  EXPECT_NE(why({{Gpa{0}, 0, host, -1}}).find("empty"), std::string::npos);
  EXPECT_NE(why({{Gpa{0}, kPage, nullptr, -1}}).find("not mapped"), std::string::npos);
  EXPECT_NE(why({{Gpa{0x800}, kPage, host, -1}}).find("4 KiB"), std::string::npos);
  EXPECT_NE(why({{Gpa{0}, kPage + 8, host, -1}}).find("4 KiB"), std::string::npos);
  EXPECT_NE(why({{Gpa{0}, kPage, reinterpret_cast<void*>(0x10'0010), -1}}).find("4 KiB"),
            std::string::npos);
  EXPECT_NE(why({{Gpa{~std::uint64_t{0xfff}}, 2 * kPage, host, -1}}).find("past the end"),
            std::string::npos);
  EXPECT_NE(why({{Gpa{kPage}, 2 * kPage, host, -1}, {Gpa{0}, 2 * kPage, host, -1}}).find("overlap"),
            std::string::npos);
  EXPECT_EQ(why({{Gpa{~std::uint64_t{0xfff}}, kPage, host, -1}, {Gpa{0}, kPage, host, -1}}), "");
}

TEST(ViommuGuestMemory, TakesOnlyAMemfdThatCannotShrink) {
  Memfd open(1, 0), sealed(1, F_SEAL_SHRINK);
  EXPECT_NE(why({open.region(0, true)}).find("F_SEAL_SHRINK"), std::string::npos);
  EXPECT_EQ(why({sealed.region(0, true)}), "");
  EXPECT_EQ(why({open.region(0, false)}), "");
  int ends[2];
  ASSERT_EQ(pipe(ends), 0);
  engine::MemoryRegion r = sealed.region(0, false);
  r.memfd = ends[0];
  EXPECT_NE(why({r}).find("memfd"), std::string::npos);
  close(ends[0]);
  close(ends[1]);
}

TEST(ViommuGuestMemory, FindsExactlyWhatIsInside) {
  // Two adjacent regions, a gap, one at the very top.
  constexpr std::uint64_t kTop = 0xffff'ffff'ffff'e000;
  test::Memory memory{{0x3000, kPage}, {0x1000, 2 * kPage}, {0x8000, kPage}, {kTop, 2 * kPage}};
  const GuestMemory& m = memory.get();
  EXPECT_EQ(m.regions(), 4U);
  const auto inside = [&](std::uint64_t at, std::uint64_t bytes) {
    return m.pointer(Gpa{at}, bytes) != nullptr;
  };
  EXPECT_TRUE(inside(0x1000, 0x2000));
  EXPECT_FALSE(inside(0x1000, 0x2001));  // adjacent, but another mapping
  EXPECT_FALSE(inside(0xfff, 1));
  EXPECT_TRUE(inside(0x2fff, 1));
  EXPECT_TRUE(inside(0x3000, 0x1000));
  EXPECT_FALSE(inside(0x4000, 1));
  EXPECT_FALSE(inside(0x7fff, 2));
  EXPECT_TRUE(inside(0x8fff, 1));
  EXPECT_FALSE(inside(0x1000, 0));
  EXPECT_FALSE(inside(0x1000, ~std::uint64_t{0}));
  EXPECT_TRUE(inside(kTop, 0x2000));
  EXPECT_FALSE(inside(kTop, 0x2001));
  EXPECT_TRUE(inside(0xffff'ffff'ffff'ffff, 1));
  EXPECT_FALSE(inside(0xffff'ffff'ffff'ffff, 2));
  EXPECT_FALSE(inside(0, 1));
}

TEST(ViommuGuestMemory, ReadsAndWritesAlignedWords) {
  test::Memory memory{{0x1000, kPage}};
  const GuestMemory& m = memory.get();
  EXPECT_TRUE(m.write64(Gpa{0x1008}, 0x1122'3344'5566'7788));
  EXPECT_TRUE(m.write32(Gpa{0x100c}, 0xaabb'ccdd));
  std::uint64_t w64 = 0;
  std::uint32_t w32 = 0;
  EXPECT_TRUE(m.read64(Gpa{0x1008}, w64));
  EXPECT_EQ(w64, 0xaabb'ccdd'5566'7788U);
  EXPECT_TRUE(m.read32(Gpa{0x1008}, w32));
  EXPECT_EQ(w32, 0x5566'7788U);
  for (const std::uint64_t at : {0x1004U, 0x1001U, 0x2000U, 0xff8U}) {
    EXPECT_FALSE(m.read64(Gpa{at}, w64));
    EXPECT_FALSE(m.write64(Gpa{at}, 0));
  }
  EXPECT_FALSE(m.write32(Gpa{0x1002}, 0));
  EXPECT_FALSE(m.read32(Gpa{0xffff'ffff'ffff'fffc}, w32));
}

TEST(ViommuGuestMemory, CopiesAcrossAdjacentRegionsButNotIntoGaps) {
  test::Memory memory{{0x1000, kPage}, {0x2000, kPage}, {0xffff'ffff'ffff'f000, kPage}, {0, kPage}};
  memory.put(0x1ff0, {1, 2});
  memory.put(0x2000, {3, 4});
  std::uint64_t out[4] = {};
  EXPECT_TRUE(memory.get().copy_in(Gpa{0x1ff0}, out));
  EXPECT_EQ(out[1], 2U);
  EXPECT_EQ(out[2], 3U);
  EXPECT_FALSE(memory.get().copy_in(Gpa{0x2ff0}, out));
  EXPECT_FALSE(memory.get().copy_in(Gpa{0x1ff4}, out));
  EXPECT_FALSE(memory.get().copy_in(Gpa{0xffff'ffff'ffff'fff0}, out));  // no wrap to 0
}

TEST(ViommuGuestMemory, DetachesOnlyTheGuestWhoseMemoryIsGone) {
  Memfd gone(2, 0), fine(2, 0);
  auto victim = GuestMemory::make(std::vector{gone.region(0x1000, false)});
  auto other = GuestMemory::make(std::vector{fine.region(0x1000, false)});
  ASSERT_TRUE(victim && other);
  EXPECT_TRUE(victim->write64(Gpa{0x1000}, 7));
  ASSERT_EQ(ftruncate(gone.fd, kPage), 0);

  std::uint64_t value = 1;
  EXPECT_TRUE(victim->read64(Gpa{0x1000}, value));  // what is left can still be read
  EXPECT_EQ(value, 7U);
  EXPECT_FALSE(victim->poisoned());
  EXPECT_TRUE(victim->read64(Gpa{0x2008}, value));
  EXPECT_EQ(value, 0U);
  EXPECT_TRUE(victim->poisoned());
  EXPECT_TRUE(victim->write64(Gpa{0x2008}, 5));  // goes to the page put in its place
  EXPECT_FALSE(other->poisoned());

  GuestMemory moved = std::move(*victim);
  EXPECT_TRUE(moved.poisoned());
}

TEST(ViommuGuestMemory, SurvivesAHoleInEveryThreadAtOnce) {
  constexpr std::size_t kPages = 32;
  Memfd gone(kPages, 0);
  auto guest = GuestMemory::make(std::vector{gone.region(0, false)});
  ASSERT_TRUE(guest);
  ASSERT_EQ(ftruncate(gone.fd, 0), 0);
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (std::uint64_t page = 0; page < kPages; ++page) {
        std::uint64_t value = 1;
        EXPECT_TRUE(guest->read64(Gpa{page * kPage}, value));
        EXPECT_EQ(value, 0U);
      }
    });
  }
  for (auto& t : threads) t.join();
  EXPECT_TRUE(guest->poisoned());
}

TEST(ViommuGuestMemory, ForgetsAGuestThatIsGone) {
  // More guests than the table holds, one after the other; none starts poisoned.
  for (int i = 0; i < 600; ++i) {
    Memfd file(1, 0);
    auto guest = GuestMemory::make(std::vector{file.region(0, false)});
    ASSERT_TRUE(guest) << guest.error().message();
    ASSERT_FALSE(guest->poisoned());
    ASSERT_EQ(ftruncate(file.fd, 0), 0);
    std::uint64_t value = 0;
    ASSERT_TRUE(guest->read64(Gpa{0}, value));
    ASSERT_TRUE(guest->poisoned());
  }
}

TEST(ViommuGuestMemory, RefusesMoreGuestsThanTheTableHolds) {
  Memfd file(1, 0);
  std::vector<GuestMemory> guests;
  std::string error;
  for (int i = 0; i < 300 && error.empty(); ++i) {
    auto made = GuestMemory::make(std::vector{file.region(0, false)});
    if (made) {
      guests.push_back(std::move(*made));
    } else {
      error = made.error().message();
    }
  }
  EXPECT_NE(error.find("guests"), std::string::npos);
}

// Death tests run in a fresh process (threadsafe), so that the order of handlers is known.

void touch_missing_page() {
  Memfd file(1, 0);
  if (ftruncate(file.fd, 0) != 0) _exit(1);
  *static_cast<volatile char*>(file.host) = 1;
}

TEST(ViommuGuestMemoryDeathTest, LeavesAForeignSigbusToTheHandlerBefore) {
  if (std::getenv("MESON_EXE_WRAPPER") != nullptr) {
    GTEST_SKIP() << "a death test starts this program anew, which the emulator does not do";
  }
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_EXIT(
      {
        struct sigaction action {};
        action.sa_handler = [](int) { _exit(42); };
        sigaction(SIGBUS, &action, nullptr);
        test::Memory guarded({{0, kPage}});
        touch_missing_page();
      },
      testing::ExitedWithCode(42), "");
}

TEST(ViommuGuestMemoryDeathTest, LeavesAForeignSigbusToTheDefaultAction) {
  if (std::getenv("MESON_EXE_WRAPPER") != nullptr) {
    GTEST_SKIP() << "a death test starts this program anew, which the emulator does not do";
  }
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_EXIT(
      {
        signal(SIGBUS, SIG_DFL);
        test::Memory guarded({{0, kPage}});
        touch_missing_page();
      },
      testing::KilledBySignal(SIGBUS), "");
  EXPECT_EXIT(
      {
        signal(SIGBUS, SIG_DFL);
        test::Memory guarded({{0, kPage}});
        raise(SIGBUS);
      },
      testing::KilledBySignal(SIGBUS), "");
}

}  // namespace
}  // namespace faultline::viommu
