// SPDX-License-Identifier: BSD-3-Clause
#include "kernel/soft/client_memory.h"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

namespace faultline::soft {
namespace {

class ClientMemoryTest : public testing::Test {
 protected:
  ~ClientMemoryTest() override {
    for (const int fd : fds) close(fd);
  }
  /// Offset found, or -1; checks that it is in `file`.
  off_t find(std::uintptr_t at, std::size_t size, int file) {
    off_t offset = 0;
    const int fd = memory.find(at, size, offset);
    if (fd < 0) return -1;
    struct stat a {
    }, b{};
    EXPECT_EQ(fstat(fd, &a), 0);
    EXPECT_EQ(fstat(file, &b), 0);
    EXPECT_EQ(a.st_ino, b.st_ino);
    close(fd);
    return offset;
  }

  ClientMemory memory;
  int fds[2] = {memfd_create("a", MFD_CLOEXEC), memfd_create("b", MFD_CLOEXEC)};
};

TEST_F(ClientMemoryTest, FindsWhereARangeLies) {
  memory.add(0x10000, 0x4000, fds[0], 0x1000);
  EXPECT_EQ(find(0x10000, 0x4000, fds[0]), 0x1000);
  EXPECT_EQ(find(0x12000, 0x1000, fds[0]), 0x3000);
  EXPECT_EQ(find(0x12000, 0x3000, fds[0]), -1);
  EXPECT_EQ(find(0xf000, 0x1000, fds[0]), -1);
  EXPECT_EQ(find(0x14000, 0x1000, fds[0]), -1);
  EXPECT_EQ(find(0x12000, ~std::size_t{0}, fds[0]), -1);
}

TEST_F(ClientMemoryTest, KeepsWhatIsLeftAroundAHole) {
  memory.add(0x10000, 0x4000, fds[0], 0);
  memory.remove(0x11000, 0x1000);
  EXPECT_EQ(find(0x10000, 0x1000, fds[0]), 0);
  EXPECT_EQ(find(0x11000, 0x1000, fds[0]), -1);
  EXPECT_EQ(find(0x12000, 0x2000, fds[0]), 0x2000);
  EXPECT_EQ(find(0x10000, 0x2000, fds[0]), -1);
}

TEST_F(ClientMemoryTest, ANewMappingReplacesWhatWasThere) {
  memory.add(0x10000, 0x4000, fds[0], 0);
  memory.add(0x12000, 0x4000, fds[1], 0x5000);
  EXPECT_EQ(find(0x10000, 0x2000, fds[0]), 0);
  EXPECT_EQ(find(0x12000, 0x4000, fds[1]), 0x5000);
  memory.remove(0, 0x100000);
  EXPECT_EQ(find(0x10000, 0x1000, fds[0]), -1);
}

TEST_F(ClientMemoryTest, SurvivesTheClosingOfTheDescriptorItWasMadeWith) {
  const int fd = dup(fds[0]);
  memory.add(0x10000, 0x1000, fd, 0);
  close(fd);
  EXPECT_EQ(find(0x10000, 0x1000, fds[0]), 0);
}

}  // namespace
}  // namespace faultline::soft
