// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <cstdint>
#include <memory>

#include "kernel/base/clock.h"
#include "kernel/base/result.h"

namespace faultline::engine {

enum class Woken : std::uint8_t {
  kBySignal,  ///< a watched descriptor is readable, or wake() was called
  kByTime,
};

/// What a shard sleeps on: an epoll of all that may bring it work, and a descriptor of its own by
/// which the control thread wakes it.
///
/// thread  sleep(): the shard; everything else: any
class Sleeper {
 public:
  /// errors  no descriptors left
  static Result<std::unique_ptr<Sleeper>> make();
  Sleeper(const Sleeper&) = delete;
  Sleeper& operator=(const Sleeper&) = delete;
  ~Sleeper();

  /// Watch a descriptor for being readable; -1 is none. returns  false: the kernel refused it
  bool watch(int fd) noexcept;
  /// Harmless for what is not watched.
  void unwatch(int fd) noexcept;

  void wake() noexcept;

  /// Sleep until something is readable that is watched, wake() was called, or `limit` ns passed.
  ///
  /// cost  two system calls
  Woken sleep(Nanos limit) noexcept;

 private:
  Sleeper(int epoll, int own) noexcept : epoll_(epoll), own_(own) {}

  int epoll_;
  int own_;  ///< eventfd
};

}  // namespace faultline::engine
