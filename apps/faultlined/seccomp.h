// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <span>
#include <string_view>

#include "kernel/base/result.h"

namespace faultline::daemon {

/// One request that ioctl() may still carry.
struct AllowedIoctl {
  std::string_view name;  ///< as in the kernel's headers
  unsigned long request = 0;
};

/// Every ioctl of the kernel interfaces behind the engine, and nothing else.
std::span<const AllowedIoctl> allowed_ioctls() noexcept;

struct SeccompOptions {
  /// io_uring watches event files of iommufd; its operations pass this filter by, so it is refused
  /// where nothing needs it.
  bool io_uring = false;
};

/// From now on this process, all its threads, may make only the system calls of the service.
///
/// What is on the list works as before; ioctl only by the list above, mmap and mprotect without
/// PROT_EXEC, clone for threads, sockets of the UNIX and IP families. What no part of the service
/// has a use for and an intruder has (execve, ptrace, bpf, mount, …) kills the process; everything
/// else fails with EPERM. doc/operation.md has the table.
///
/// errors   what libseccomp says; ENOSYS, EINVAL: this kernel has no filters
/// thread   any; sets no_new_privs on all
/// cost     a BPF program at each system call from then on; polling makes none but its backend's
Result<void> allow_only_listed_calls(const SeccompOptions& options);

}  // namespace faultline::daemon
