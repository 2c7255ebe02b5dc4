// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <sys/mman.h>

#include <utility>
#include <vector>

#include "apps/session/guest_host.h"
#include "engine/guest_spec.h"
#include "kernel/base/result.h"
#include "kernel/sys.h"
#include "kernel/vfio/mapping.h"

namespace faultline::session {

/// A guest's memory as the service has it mapped. Nothing of it is populated: a page that its VMM
/// never gave is not asked for.
///
/// Sys   must outlive this object
template <Syscalls Sys>
class GuestMapping {
 public:
  GuestMapping() = default;

  static Result<GuestMapping> map(Sys& sys, const std::vector<MemoryPart>& memory) {
    GuestMapping mapping;
    for (const MemoryPart& part : memory) {
      auto piece = vfio::Mapping<Sys>::map(sys, part.memfd, part.offset, part.bytes,
                                           PROT_READ | PROT_WRITE, "its memory");
      if (!piece) return tl::unexpected(std::move(piece.error()));
      mapping.regions_.push_back({part.gpa, part.bytes, piece->data(), part.memfd});
      mapping.pieces_.push_back(std::move(*piece));
    }
    return mapping;
  }

  [[nodiscard]] const std::vector<engine::MemoryRegion>& regions() const noexcept {
    return regions_;
  }

 private:
  std::vector<engine::MemoryRegion> regions_;
  std::vector<vfio::Mapping<Sys>> pieces_;
};

}  // namespace faultline::session
