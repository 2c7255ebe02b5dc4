// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <unordered_map>

#include "kernel/base/clock.h"

namespace faultline::daemon {

struct PeerLogOptions {
  unsigned lines_per_second = 2;         ///< of one name
  unsigned burst = 10;                   ///< of one name after a silence
  unsigned total_lines_per_second = 50;  ///< of all names together; a burst is twice that
  std::size_t names = 256;               ///< told apart; those beyond share one allowance
  std::size_t line_bytes = 400;          ///< longer ones are cut
};

/// Log lines that guests and peers can cause. Each name has an allowance of lines (a token bucket);
/// what goes beyond it is counted, and said in one line once there is room again. What a name or a
/// line brings along is made harmless: one line, printable ASCII.
///
/// cost     bounded in memory and time per line, however many names there are
/// thread   one
class PeerLog {
 public:
  using Sink = std::function<void(const std::string& line)>;
  PeerLog(PeerLogOptions options, Sink sink);

  /// name   of a guest or peer, however hostile
  /// now    CLOCK_MONOTONIC
  void log(std::string_view name, std::string_view line, Nanos now);

  /// Say what was suppressed where there is room again; about once a second.
  void tick(Nanos now);

  /// Of all names, since the beginning.
  [[nodiscard]] std::uint64_t suppressed() const noexcept { return suppressed_; }
  /// Names that have an allowance of their own now.
  [[nodiscard]] std::size_t names() const noexcept { return buckets_.size(); }

 private:
  struct Bucket {
    Nanos credit = 0;  ///< time saved up; a line costs 1 s / lines_per_second
    Nanos at = 0;
    std::uint64_t suppressed = 0;
  };
  struct Rate {
    Nanos cost = 0;  ///< of a line
    Nanos full = 0;
  };

  static void fill(Bucket& bucket, const Rate& rate, Nanos now);
  Bucket& bucket_of(const std::string& name, Nanos now);
  /// Pays for one line from both allowances, or from none.
  bool pay(Bucket& bucket, Nanos now);
  void say_suppressed(const std::string& name, Bucket& bucket);

  PeerLogOptions options_;
  Sink sink_;
  Rate own_, total_rate_;
  Bucket total_, others_;
  Nanos swept_ = 0;
  std::unordered_map<std::string, Bucket> buckets_;
  std::uint64_t suppressed_ = 0;
};

}  // namespace faultline::daemon
