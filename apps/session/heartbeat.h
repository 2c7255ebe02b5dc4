// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <cstddef>
#include <cstdint>

#include "apps/session/fd.h"
#include "kernel/base/clock.h"
#include "kernel/base/result.h"

namespace faultline::session {

/// One page that every VMM may look at: when the slowest polling core was last seen alive. Written
/// by the session thread, so it stands still when any of the two does.
class Heartbeat {
 public:
  static constexpr std::size_t kBytes = 4096;

  static Result<Heartbeat> make();
  Heartbeat(Heartbeat&& other) noexcept;
  Heartbeat& operator=(Heartbeat&&) = delete;
  ~Heartbeat();

  /// oldest   ns, CLOCK_MONOTONIC
  void beat(Nanos oldest) noexcept;

  /// For a peer: it can be mapped to be read, and never to be written.
  [[nodiscard]] Result<Fd> share() const { return memfd_.duplicate(); }

 private:
  Heartbeat(Fd memfd, std::uint64_t* at) noexcept : memfd_(std::move(memfd)), at_(at) {}

  Fd memfd_;
  std::uint64_t* at_;
};

}  // namespace faultline::session
