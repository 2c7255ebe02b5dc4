// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>

#include <vector>

namespace faultline::test_support {

/// While it lives, this process gets no more descriptors than it leaves free.
class FullDescriptors {
 public:
  explicit FullDescriptors(std::size_t free = 0) {
    EXPECT_EQ(::getrlimit(RLIMIT_NOFILE, &before_), 0);
    const rlimit few{kFew, before_.rlim_max};
    EXPECT_EQ(::setrlimit(RLIMIT_NOFILE, &few), 0);
    for (int fd = 0; (fd = ::open("/dev/null", O_RDONLY | O_CLOEXEC)) >= 0;) taken_.push_back(fd);
    EXPECT_GT(taken_.size(), free);
    for (; free > 0 && !taken_.empty(); --free) {
      ::close(taken_.back());
      taken_.pop_back();
    }
  }
  ~FullDescriptors() {
    for (const int fd : taken_) ::close(fd);
    EXPECT_EQ(::setrlimit(RLIMIT_NOFILE, &before_), 0);
  }
  FullDescriptors(const FullDescriptors&) = delete;
  FullDescriptors& operator=(const FullDescriptors&) = delete;

 private:
  static constexpr rlim_t kFew = 512;
  rlimit before_{};
  std::vector<int> taken_;
};

}  // namespace faultline::test_support
