// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <span>
#include <string>

#include "apps/session/guest_host.h"
#include "kernel/base/result.h"
#include "kernel/iommufd/guest_iommu.h"

namespace faultline::session {

/// The ids of a guest's objects in /dev/iommu, as JSON, and the files of its event and fault queue.
/// The descriptors stay those of `parts`.
[[nodiscard]] KeptObjects objects_of(const iommufd::Parts& parts);

/// Fill in what objects_of() of an earlier life said: for the devices of `parts`, in their order.
///
/// fds      the files, in the order of objects_of()
/// errors   code EINVAL: not such a record, of other devices, files that are missing. Nothing of
///          `parts` has changed
[[nodiscard]] Result<void> take_objects(const std::string& record, std::span<const int> fds,
                                        iommufd::Parts& parts);

}  // namespace faultline::session
