// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <sys/types.h>

#include <memory>

#include "apps/faultline/description.h"
#include "kernel/base/result.h"

namespace faultline {

/// One life of an engine in a process of its own, from spare to killed. The supervisor's view.
///
/// thread   one
class EngineProcess {
 public:
  /// Start this program again as an engine. It prepares itself and waits for go().
  ///
  /// description   go and status are filled in here
  static Result<std::unique_ptr<EngineProcess>> spawn(Description description);
  /// Kills it, if it still runs.
  ~EngineProcess();
  EngineProcess(const EngineProcess&) = delete;
  EngineProcess& operator=(const EngineProcess&) = delete;

  /// Whether it has prepared all that takes long.
  [[nodiscard]] bool spare() const noexcept;
  [[nodiscard]] bool running() const noexcept;
  void go() noexcept;

  /// Take it off its cores, and let it go on. A paused engine beats no more.
  void pause() noexcept;
  void resume() noexcept;

  /// SIGKILL, and wait until it is gone.
  void kill() noexcept;
  /// Ask it to stop and wait, at most limit ns. returns  whether it ended well
  bool stop(Nanos limit) noexcept;
  /// Whether it has ended by itself; then signal() tells of what (0: it returned).
  [[nodiscard]] bool ended() noexcept;
  [[nodiscard]] int signal() const noexcept { return signal_; }

  [[nodiscard]] const EngineStatus& status() const noexcept { return *status_; }

 private:
  EngineProcess() = default;
  pid_t pid_ = -1;
  int go_ = -1;
  int exit_ = 0;
  int signal_ = 0;
  EngineStatus* status_ = nullptr;
};

}  // namespace faultline
