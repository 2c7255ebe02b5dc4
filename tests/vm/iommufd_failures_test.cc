// SPDX-License-Identifier: BSD-3-Clause
// Every system call of the control path fails once, by the seam, over the real kernel: nothing of
// what was made before it stays, and the next attempt works.
#include <gtest/gtest.h>

#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "kernel/iommufd/guest_iommu.h"
#include "kernel/iommufd/sink.h"
#include "tests/vm/vm_host.h"

namespace faultline::vm {
namespace {

/// The real kernel, but one call is refused before it gets there. Closing and destroying is what
/// cleaning up does, and works.
class FailingSys : public LinuxSys {
 public:
  int open(const char* path, int flags) noexcept {
    return refuse() ? -EMFILE : LinuxSys::open(path, flags);
  }
  int ioctl(int fd, unsigned long request, void* argument) noexcept {
    const bool exempt =
        request == uapi::kIommuDestroy || request == uapi::kVfioDeviceDetachIommufdPt;
    return !exempt && refuse() ? -ENOMEM : LinuxSys::ioctl(fd, request, argument);
  }
  unsigned left = 0;  ///< calls until the one that fails; 0: none does
  bool failed = false;

 private:
  bool refuse() noexcept {
    if (left == 0 || --left != 0) return false;
    failed = true;
    return true;
  }
};

std::size_t open_files() {
  std::size_t n = 0;
  for ([[maybe_unused]] const auto& e : std::filesystem::directory_iterator("/proc/self/fd")) ++n;
  return n;
}

TEST(IommufdFailures, OfAnyCallLeaveNothingBehind) {
  FailingSys sys;
  std::unique_ptr<void, void (*)(void*)> memory(std::aligned_alloc(4096, 1U << 20U), std::free);
  const iommufd::GuestRange range{Gpa{0x4000'0000}, 1U << 20U, memory.get(), -1, 0};
  const std::size_t before = open_files();
  unsigned nth = 1;
  for (;; ++nth) {
    ASSERT_LT(nth, 500U);
    iommufd::Parts parts;
    for (std::size_t i = 0; i < kDevices; ++i) {
      parts.devices.push_back({.name = Host<LinuxSys>::pci_name(i),
                               .vsid = StreamId{static_cast<std::uint32_t>(i + 1)}});
    }
    sys.left = nth;
    sys.failed = false;
    {
      auto made = iommufd::GuestIommu<FailingSys>::make(sys, std::move(parts), {&range, 1});
      if (made) {
        EXPECT_FALSE(sys.failed) << "a failure went unnoticed: " << nth;
        break;
      }
      ASSERT_TRUE(sys.failed) << made.error().message();
      EXPECT_EQ(made.error().message().find('\n'), std::string::npos) << "one line";
      EXPECT_NE(made.error().message().find("errno"), std::string::npos) << made.error().message();
    }
    EXPECT_EQ(open_files(), before) << "after failure " << nth;
  }
  EXPECT_EQ(open_files(), before);
  // Each device is opened, bound, asked and made virtual; six objects are shared.
  EXPECT_GE(nth, 4 * kDevices + 6);
  std::printf("| %u calls failed one by one, nothing stayed\n", nth - 1);
}

}  // namespace
}  // namespace faultline::vm
