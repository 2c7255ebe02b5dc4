// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "kernel/base/result.h"

namespace faultline::iommufd {

/// What the backend asks a kernel for; named in errors as strace names it.
enum class Request : std::uint8_t {
  kOpenIommu,
  kOpenDevice,
  kBind,
  kAttach,
  kDetach,
  kDestroy,
  kIoasAlloc,
  kIovaRanges,
  kMap,
  kMapFile,
  kUnmap,
  kHwInfo,
  kNestParent,
  kViommu,
  kVdevice,
  kNested,
  kVeventq,
  kFaultQueue,
  kInvalidate,
};
inline constexpr std::size_t kRequests = 19;

/// "IOMMU_VIOMMU_ALLOC" and the like.
[[nodiscard]] std::string_view name_of(Request request) noexcept;

/// The likely cause and what to do about it; empty when the errno alone says it all.
///
/// code   positive errno
[[nodiscard]] std::string_view likely_cause(Request request, int code) noexcept;

/// The one line of a refused request: where, which call, why, errno.
///
/// where  the object concerned, e.g. "0000:01:00.0"
[[nodiscard]] tl::unexpected<Error> refused(Request request, int code, const std::string& where);

/// An address as operators read it.
[[nodiscard]] std::string hex(std::uint64_t value);

}  // namespace faultline::iommufd
