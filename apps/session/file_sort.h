// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <cstdint>

namespace faultline::session {

/// What a descriptor is of, as far as it matters to who was passed it.
enum class FileSort : std::uint8_t {
  kMemory,           ///< a memfd, or another file in memory
  kEventfd,          ///< an eventfd
  kVfioDevice,       ///< what VFIO_GROUP_GET_DEVICE_FD gives
  kCharacterDevice,  ///< VFIO's, iommufd, or another one whose close() does not wait
  kUnknownDevice,    ///< a character device in a system without /sys
  kUnixSocket,       ///< of AF_UNIX
  kQuiet,            ///< another file of the kernel's own whose close() does not wait
  kOther,            ///< whatever else: its file system may be a program that does not answer
};

/// Never asks a file system, nor a program behind one: fstat() on a file of FUSE waits for it.
///
/// cost  at most four system calls
[[nodiscard]] FileSort sort_of(int fd) noexcept;

/// Is there a method of a session that asks for such a descriptor?
[[nodiscard]] bool may_be_passed(FileSort sort) noexcept;

}  // namespace faultline::session
