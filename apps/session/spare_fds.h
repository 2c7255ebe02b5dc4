// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <string>
#include <utility>
#include <vector>

#include "apps/session/fd.h"
#include "kernel/base/result.h"

namespace faultline::session {

/// Descriptors that are had before what cannot be undone, so that none is missing after it.
class SpareFds {
 public:
  /// errors  no more descriptors to be had
  static Result<SpareFds> make(std::size_t n) {
    SpareFds spare;
    Fd any(::open("/dev/null", O_RDONLY | O_CLOEXEC));
    while (any && spare.fds_.size() + 1 < n) {
      auto copy = any.duplicate();
      if (!copy) return tl::unexpected(std::move(copy.error()));
      spare.fds_.push_back(std::move(*copy));
    }
    if (!any) return fail(errno, "a descriptor (raise the service's LimitNOFILE)");
    spare.fds_.push_back(std::move(any));
    return spare;
  }

  /// A duplicate: in the place of one of these while there are some.
  Result<Fd> duplicate(int fd) {
    if (fds_.empty()) {
      Fd copy(::fcntl(fd, F_DUPFD_CLOEXEC, 3));
      if (!copy) return fail(errno, "duplicate a descriptor (raise the service's LimitNOFILE)");
      return copy;
    }
    if (::dup3(fd, fds_.back().get(), O_CLOEXEC) < 0) return fail(errno, "duplicate a descriptor");
    Fd copy = std::move(fds_.back());
    fds_.pop_back();
    return copy;
  }
  /// Make room for a descriptor that is opened next.
  void give_up_one() {
    if (!fds_.empty()) fds_.pop_back();
  }

 private:
  std::vector<Fd> fds_;
};

}  // namespace faultline::session
