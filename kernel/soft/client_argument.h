// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <cstddef>
#include <cstdint>

namespace faultline::soft {

/// How the argument of one ioctl crosses to another process.
struct ArgumentShape {
  bool number = true;         ///< a number (or nothing), no memory
  std::size_t in = 0;         ///< bytes the kernel reads
  std::size_t out = 0;        ///< bytes the kernel may write
  bool memory = false;        ///< MAP_DMA: vaddr is to be resolved
  std::size_t fd_at = kNone;  ///< where an int32 descriptor lies that goes along when >= 0

  static constexpr std::size_t kNone = ~std::size_t{0};
};

/// The shape of `argument` for that request, as far as its argsz says.
ArgumentShape shape_of(unsigned long request, const void* argument) noexcept;

}  // namespace faultline::soft
