// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <optional>

#include "apps/faultline/options.h"
#include "apps/faultline/result_file.h"
#include "apps/guest/trace.h"
#include "kernel/base/result.h"

namespace faultline {

/// Whether the other options make sense on real devices.
Result<void> check_iommufd(const RunOptions& options);

/// One guest on this host's own kernel, IOMMU and devices.
///
/// The devices named are bound and get a virtual SMMU; the guest's driver gives each of them a
/// stage 1 of its own and then leaves it alone: no DMA is asked of a device that nobody has a
/// driver for. The guest plays the trace, and its invalidations go to the real IOMMU. Judged is
/// what can be without DMA: that every CMD_SYNC completes, that no queue errs, that no event comes
/// that nobody caused, and what --audit-merge recomputes.
///
/// errors   one line: what this host lacks and how to get it
Result<int> run_iommufd(const RunOptions& options, const guest::Trace& trace,
                        std::optional<ResultFile>& json);

}  // namespace faultline
