// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <utility>

#include "kernel/soft/soft_process.h"
#include "kernel/soft/soft_process_sys.h"
#include "tests/kernel/soft_rig.h"

namespace faultline::soft {

/// A soft kernel in a process of its own.
struct OwnProcess {
  using Sys = SoftProcessSys;
  static constexpr int kForeignDescriptor = -EINVAL;

  explicit OwnProcess(SoftKernelConfig config)
      : process(SoftProcess::start(std::move(config)).value()),
        sys(std::make_unique<SoftProcessSys>(process->socket())) {}
  ~OwnProcess() {
    sys.reset();  // its sessions
    const Result<void> ended = process->stop();
    EXPECT_TRUE(ended.has_value()) << ended.error().message();
  }
  OwnProcess(const OwnProcess&) = delete;
  OwnProcess& operator=(const OwnProcess&) = delete;
  [[nodiscard]] SoftKernel& view() const { return process->view(); }

  std::unique_ptr<SoftProcess> process;
  std::unique_ptr<SoftProcessSys> sys;
};

/// Every test of the interface runs on both ways of reaching the kernel.
using Worlds = testing::Types<InProcess, OwnProcess>;

}  // namespace faultline::soft
