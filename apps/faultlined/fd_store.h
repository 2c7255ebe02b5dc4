// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "apps/faultlined/notify.h"
#include "apps/session/keeper.h"

namespace faultline::daemon {

/// What the manager passed at the start. The receiver owns all descriptors.
struct Passed {
  std::vector<int> sockets;             ///< of the socket unit, listening
  std::vector<session::KeptFd> stored;  ///< of the fd store, by the store's names
};

/// Take over LISTEN_FDS; everything is close-on-exec from then on. Once, before there are threads.
Passed take_passed();

/// FileDescriptorStoreMax of config/systemd.
inline constexpr std::size_t kStoreMax = 8192;

/// systemd's fd store as the keeper of descriptors: it holds them while the service is down, and
/// hands them to its next life.
///
/// The store drops a file that it already has under another name, and all names together have to
/// fit in one environment variable of 128 KiB. So names are short slots here, one for each file,
/// and an index (a memfd, kept in the store, too) says which names stand for which slot. It is
/// appended to, so that a kill at any point leaves it readable.
///
/// notify   outlives the store
/// thread   one
class FdStore : public session::Keeper {
 public:
  using Log = std::function<void(const std::string& line)>;

  /// limit   kStoreMax, but in tests
  FdStore(Notify& notify, std::size_t limit, Log log);
  ~FdStore() override;
  FdStore(const FdStore&) = delete;
  FdStore& operator=(const FdStore&) = delete;

  /// Go on with what an earlier life stored: take_passed().stored. Owns those descriptors; what is
  /// damaged or without a name is dropped with a line in the log. Before the first keep().
  ///
  /// returns  every kept name with a descriptor of its own
  std::vector<session::KeptFd> restore(std::vector<session::KeptFd> stored);

  /// Beyond `limit` the descriptor is not kept, with a line in the log.
  void keep(const std::string& name, int fd) override;
  void forget(const std::string& name) override;

  [[nodiscard]] std::size_t names() const noexcept { return names_.size(); }
  [[nodiscard]] std::size_t slots() const noexcept { return slots_.size(); }

 private:
  /// Orders descriptors by the file they stand for, with kcmp(2).
  struct ByFile {
    bool operator()(int a, int b) const;
  };
  struct Slot {
    int fd = -1;
    unsigned names = 0;
  };

  /// The slot that has this file, or a new one.
  std::optional<std::uint32_t> slot_of(const std::string& name, int fd);
  void let_go(std::uint32_t slot);
  void append(const std::string& line);
  void renew_index();

  Notify* notify_;
  std::size_t limit_;
  Log log_;
  int index_ = -1;
  std::uint32_t generation_ = 0;
  std::size_t lines_ = 0;
  std::uint32_t last_slot_ = 0;
  std::map<std::uint32_t, Slot> slots_;
  std::map<int, std::uint32_t, ByFile> by_file_;
  std::map<std::string, std::uint32_t> names_;
};

}  // namespace faultline::daemon
