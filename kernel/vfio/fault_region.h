// SPDX-License-Identifier: BSD-3-Clause
// hot path: one fault region, whichever ABI was agreed on.
#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <utility>
#include <variant>

#include "kernel/vfio/fault_region1.h"
#include "kernel/vfio/fault_region2.h"

namespace faultline::vfio {

/// The ABI is fixed when the region is opened, so the branch here always goes the same way.
template <Syscalls Sys>
class FaultRegion {
 public:
  FaultRegion(Sys& sys, FaultQueue<Sys> queue, const FaultOptions& options,
              std::optional<SourcePosition> position)
      : region_(make(sys, std::move(queue), options, position)) {}

  std::size_t poll(std::span<FaultRecord> out) noexcept {
    return visit([out](auto& r) { return r.poll(out); });
  }
  [[nodiscard]] SourcePosition position() noexcept {
    return visit([](auto& r) { return r.position(); });
  }
  int commit() noexcept {
    return visit([](auto& r) { return r.commit(); });
  }
  SourceLoss take_loss() noexcept {
    return visit([](auto& r) { return r.take_loss(); });
  }
  [[nodiscard]] const FaultStats& stats() noexcept {
    return visit([](auto& r) -> const FaultStats& { return r.stats(); });
  }
  [[nodiscard]] const FaultQueue<Sys>& queue() noexcept {
    return visit([](auto& r) -> const FaultQueue<Sys>& { return r.queue(); });
  }
  /// The ABI 1 region, or null.
  [[nodiscard]] FaultRegion1<Sys>* slot_watched() noexcept {
    return std::get_if<FaultRegion1<Sys>>(&region_);
  }
  /// The ABI 2 region, or null.
  [[nodiscard]] FaultRegion2<Sys>* prod_watched() noexcept {
    return std::get_if<FaultRegion2<Sys>>(&region_);
  }

 private:
  using Either = std::variant<FaultRegion1<Sys>, FaultRegion2<Sys>>;

  static Either make(Sys& sys, FaultQueue<Sys> queue, const FaultOptions& options,
                     std::optional<SourcePosition> position) {
    if (queue.geometry.abi == 2) {
      return Either(std::in_place_index<1>, sys, std::move(queue), options, position);
    }
    return Either(std::in_place_index<0>, sys, std::move(queue), options, position);
  }

  // std::visit may throw and calls through a table; this is one branch.
  template <class F>
  decltype(auto) visit(F f) noexcept {
    if (auto* second = std::get_if<1>(&region_)) return f(*second);
    return f(*std::get_if<0>(&region_));
  }

  Either region_;
};

}  // namespace faultline::vfio
