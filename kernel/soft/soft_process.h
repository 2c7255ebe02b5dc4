// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <sys/types.h>

#include <memory>

#include "kernel/base/result.h"
#include "kernel/soft/soft_kernel.h"

namespace faultline::soft {

/// The soft kernel in a process of its own. Userspace talks to it through SoftProcessSys.
///
/// The kernel process lives as long as anybody holds socket() or an open soft file; it ignores
/// SIGINT, so that a Ctrl-C of the whole group leaves it serving until its users are done.
class SoftProcess {
 public:
  /// Create the kernel, fork, and serve in the child. To be called before the caller has threads.
  ///
  /// errors   as SoftKernel::create(); what socketpair and fork say
  static Result<std::unique_ptr<SoftProcess>> start(SoftKernelConfig config);

  /// As stop().
  ~SoftProcess();
  SoftProcess(const SoftProcess&) = delete;
  SoftProcess& operator=(const SoftProcess&) = delete;

  /// What SoftProcessSys is made of; also in another process that inherited it (set it so with
  /// fcntl: it is close-on-exec).
  [[nodiscard]] int socket() const noexcept { return socket_; }
  [[nodiscard]] pid_t pid() const noexcept { return pid_; }

  /// This process's view of the shared memory: ledger(), bar(), msi() and stats() are live,
  /// everything else of it is not to be used.
  [[nodiscard]] SoftKernel& view() noexcept { return *kernel_; }

  /// Close socket(), wait up to 5 s for the kernel to end (open files keep it), then kill it.
  ///
  /// errors   ETIMEDOUT it had to be killed; 0 it had crashed, how in words
  Result<void> stop();

  /// Whether the kernel process still runs.
  [[nodiscard]] bool alive() const noexcept;

 private:
  SoftProcess(std::unique_ptr<SoftKernel> kernel, int socket, pid_t pid) noexcept;
  std::unique_ptr<SoftKernel> kernel_;
  int socket_;
  pid_t pid_;
};

}  // namespace faultline::soft
