// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <cstdint>
#include <span>
#include <utility>

#include "apps/session/guest_host.h"
#include "kernel/base/result.h"

namespace faultline::session {

/// A guest's request that owns its descriptors: what is still in it at the end is closed, what a
/// user takes over is set to -1.
class OwnedRequest {
 public:
  explicit OwnedRequest(GuestRequest request) noexcept : request_(std::move(request)) {}
  OwnedRequest(OwnedRequest&& other) noexcept
      : request_(std::exchange(other.request_, GuestRequest{})) {}
  OwnedRequest& operator=(OwnedRequest&&) = delete;
  OwnedRequest(const OwnedRequest&) = delete;
  OwnedRequest& operator=(const OwnedRequest&) = delete;
  ~OwnedRequest();

  GuestRequest* operator->() noexcept { return &request_; }
  GuestRequest& operator*() noexcept { return request_; }
  const GuestRequest& operator*() const noexcept { return request_; }

 private:
  GuestRequest request_;
};

/// What a file has to be before an ioctl is made on it: on another one the same number may mean
/// something else.
enum class FileKind : std::uint8_t {
  kCharacterDevice,  ///< /dev/vfio/vfio, /dev/vfio/N, /dev/iommu, /dev/vfio/devices/vfioN
  kVfioDevice,       ///< what VFIO_GROUP_GET_DEVICE_FD gives
  kSocket,           ///< a file of the soft kernel
};

/// Is every descriptor what it is said to be? A memfd has to be as long as the parts of it, and a
/// write to an eventfd must never block, since a polling core makes it; they are set so.
///
/// device    descriptors that each device has to have
/// backend   that the guest has to have
/// errors    code EINVAL and one line: which one, and what it has to be
[[nodiscard]] Result<void> check_descriptors(const GuestRequest& request,
                                             std::span<const FileKind> device,
                                             std::span<const FileKind> backend);

}  // namespace faultline::session
