// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <string>

namespace faultline::session {

/// Who outlives the engine and holds duplicates of what a guest cannot lose: descriptors of its
/// devices, memory and journal. systemd's fd store in the daemon, a map in tests.
///
/// thread   the session thread
class Keeper {
 public:
  virtual ~Keeper() = default;
  /// Hold a duplicate under this name until forget(). A name is used once at a time; at most 200
  /// bytes of [A-Za-z0-9._/-].
  virtual void keep(const std::string& name, int fd) = 0;
  virtual void forget(const std::string& name) = 0;
};

/// What a keeper hands to the next life. The receiver owns the descriptor.
struct KeptFd {
  std::string name;
  int fd = -1;
};

}  // namespace faultline::session
