// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "apps/faultline/doctor_device.h"
#include "kernel/probe.h"

namespace faultline {

/// What `faultline doctor` asks of the machine. Tests answer for recorded hosts.
struct Host {
  /// A small file's text; none where it cannot be read.
  std::function<std::optional<std::string>(const std::string& path)> read;
  /// Names in a folder, sorted; none where there is no such folder.
  std::function<std::optional<std::vector<std::string>>(const std::string& path)> list;
  /// 0, or the errno of opening it for reading and writing.
  std::function<int(const std::string& path)> open;
  /// The running kernel's build options, as text; none where it does not tell.
  std::function<std::optional<std::string>()> kernel_options;
  /// VFIO's and iommufd's own answers.
  std::function<KernelReport()> kernel;
  /// 0, or the errno of making the ring that watches event files.
  std::function<int()> ring;
  std::function<DeviceAnswer(const std::string& device)> device;
  std::string release;        ///< uname -r
  std::string machine;        ///< uname -m
  std::uint64_t memlock = 0;  ///< bytes that may be locked; UINT64_MAX: no limit
};

/// This machine.
[[nodiscard]] Host this_host();

}  // namespace faultline
