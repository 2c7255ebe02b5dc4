// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <sys/epoll.h>
#include <sys/types.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "kernel/sys.h"

namespace faultline::testing {

/// The calls of the seam, for faults and counting.
enum class Call {
  kOpen,
  kClose,
  kIoctl,
  kMmap,
  kMunmap,
  kPread,
  kPwrite,
  kRead,
  kWrite,
  kEventfd,
  kEpollCreate,
  kEpollCtl,
  kEpollWait,
};

/// A kernel made of handlers, in which any call can be made to fail.
///
/// What the kernel is, a test (or vfio_fake.h) says with on_…; descriptors, eventfds and epoll work
/// by themselves. Every call is counted, every descriptor and mapping accounted for.
/// thread   one
class ScriptedSys {
 public:
  std::function<int(const std::string& path)> on_open = [](const auto&) { return -ENOENT; };
  std::function<int(int fd, unsigned long request, void* argument)> on_ioctl =
      [](int, unsigned long, void*) { return -ENOTTY; };
  std::function<std::intptr_t(int fd, std::size_t size, int prot, std::uint64_t at)> on_mmap =
      [](int, std::size_t, int, std::uint64_t) { return -ENODEV; };
  std::function<ssize_t(int fd, void* out, std::size_t size, std::uint64_t at)> on_pread =
      [](int, void*, std::size_t, std::uint64_t) { return -EINVAL; };
  std::function<ssize_t(int fd, const void* in, std::size_t size, std::uint64_t at)> on_pwrite =
      [](int, const void*, std::size_t, std::uint64_t) { return -EINVAL; };

  /// Make the nth of the calls of this kind from now on return `result` instead of being done
  /// (1: the next one). For kIoctl those of one request only, when it is given.
  void inject(Call call, int nth, long result, unsigned long request = 0) {
    faults_.push_back({call, nth, result, request});
  }
  void forget_injected() { faults_.clear(); }
  [[nodiscard]] bool all_injected() const { return faults_.empty(); }

  [[nodiscard]] int count(Call call) const {
    const auto at = counts_.find(call);
    return at == counts_.end() ? 0 : at->second;
  }
  [[nodiscard]] int count(unsigned long request) const {
    const auto at = requests_.find(request);
    return at == requests_.end() ? 0 : at->second;
  }
  void forget_counts() {
    counts_.clear();
    requests_.clear();
  }

  /// A descriptor as the kernel hands one out.
  int new_fd() {
    open_fds_.insert(next_fd_);
    return next_fd_++;
  }
  [[nodiscard]] bool is_open(int fd) const { return open_fds_.count(fd) != 0; }
  /// Descriptors and mappings that are still there, and closes of what was not.
  [[nodiscard]] std::size_t leaks() const { return open_fds_.size() + mapped_.size(); }
  [[nodiscard]] int bad_closes() const { return bad_closes_; }
  void forget_bad_closes() { bad_closes_ = 0; }

  /// The kernel signals an eventfd.
  void signal(int eventfd) {
    if (watched_.count(eventfd) == 0) return;
    if (std::find(ready_.begin(), ready_.end(), eventfd) == ready_.end()) ready_.push_back(eventfd);
  }

  // ---- the seam ---------------------------------------------------------------------------------

  int open(const char* path, int /*flags*/) noexcept {
    if (long r = 0; faulted(Call::kOpen, r)) return static_cast<int>(r);
    return on_open(path);
  }
  int close(int fd) noexcept {
    ++counts_[Call::kClose];
    if (open_fds_.erase(fd) == 0) {
      ++bad_closes_;
      return -EBADF;
    }
    watched_.erase(fd);
    std::erase(ready_, fd);
    return 0;
  }
  int ioctl(int fd, unsigned long request, void* argument) noexcept {
    ++requests_[request];
    if (long r = 0; faulted(Call::kIoctl, r, request)) return static_cast<int>(r);
    return is_open(fd) ? on_ioctl(fd, request, argument) : -EBADF;
  }
  std::intptr_t mmap(void* /*hint*/, std::size_t size, int prot, int /*flags*/, int fd,
                     off_t at) noexcept {
    if (long r = 0; faulted(Call::kMmap, r)) return r;
    const std::intptr_t p = on_mmap(fd, size, prot, static_cast<std::uint64_t>(at));
    if (!mmap_failed(p)) mapped_.insert(p);
    return p;
  }
  int munmap(void* at, std::size_t /*size*/) noexcept {
    ++counts_[Call::kMunmap];
    const auto p = mapped_.find(reinterpret_cast<std::intptr_t>(at));
    if (p == mapped_.end()) {
      ++bad_closes_;
      return -EINVAL;
    }
    mapped_.erase(p);
    return 0;
  }
  ssize_t pread(int fd, void* out, std::size_t size, off_t at) noexcept {
    if (long r = 0; faulted(Call::kPread, r)) return r;
    return is_open(fd) ? on_pread(fd, out, size, static_cast<std::uint64_t>(at)) : -EBADF;
  }
  ssize_t pwrite(int fd, const void* in, std::size_t size, off_t at) noexcept {
    if (long r = 0; faulted(Call::kPwrite, r)) return r;
    return is_open(fd) ? on_pwrite(fd, in, size, static_cast<std::uint64_t>(at)) : -EBADF;
  }
  ssize_t read(int /*fd*/, void* /*out*/, std::size_t /*size*/) noexcept {
    if (long r = 0; faulted(Call::kRead, r)) return r;
    return -EINVAL;
  }
  ssize_t write(int /*fd*/, const void* /*in*/, std::size_t /*size*/) noexcept {
    if (long r = 0; faulted(Call::kWrite, r)) return r;
    return -EINVAL;
  }
  int eventfd(unsigned /*initial*/, int /*flags*/) noexcept {
    if (long r = 0; faulted(Call::kEventfd, r)) return static_cast<int>(r);
    return new_fd();
  }
  int epoll_create1(int /*flags*/) noexcept {
    if (long r = 0; faulted(Call::kEpollCreate, r)) return static_cast<int>(r);
    return new_fd();
  }
  int epoll_ctl(int /*epfd*/, int op, int fd, epoll_event* event) noexcept {
    if (long r = 0; faulted(Call::kEpollCtl, r)) return static_cast<int>(r);
    // Only what the backends use: edges.
    if (op != EPOLL_CTL_ADD || (event->events & EPOLLET) == 0 || !is_open(fd)) return -EINVAL;
    watched_[fd] = *event;
    return 0;
  }
  int epoll_wait(int /*epfd*/, epoll_event* events, int max, int /*timeout_ms*/) noexcept {
    if (long r = 0; faulted(Call::kEpollWait, r)) return static_cast<int>(r);
    int n = 0;
    while (n < max && !ready_.empty()) {
      events[n] = watched_[ready_.front()];
      events[n++].events = EPOLLIN;
      ready_.erase(ready_.begin());
    }
    return n;
  }

 private:
  struct Fault {
    Call call;
    int nth;
    long result;
    unsigned long request;
  };

  bool faulted(Call call, long& result, unsigned long request = 0) {
    ++counts_[call];
    for (std::size_t i = 0; i < faults_.size(); ++i) {
      Fault& f = faults_[i];
      if (f.call != call || (f.request != 0 && f.request != request)) continue;
      if (--f.nth > 0) continue;
      result = f.result;
      faults_.erase(faults_.begin() + static_cast<std::ptrdiff_t>(i));
      return true;
    }
    return false;
  }

  std::vector<Fault> faults_;
  std::map<Call, int> counts_;
  std::map<unsigned long, int> requests_;
  std::set<int> open_fds_;
  std::multiset<std::intptr_t> mapped_;
  std::map<int, epoll_event> watched_;
  std::vector<int> ready_;
  int next_fd_ = 100;
  int bad_closes_ = 0;
};
static_assert(Syscalls<ScriptedSys>);

}  // namespace faultline::testing
