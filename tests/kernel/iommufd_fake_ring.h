// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <linux/io_uring.h>

#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <set>
#include <vector>

#include "kernel/sys.h"

namespace faultline::testing {

/// A kernel with an io_uring of multishot polls and files that become readable when a test says so.
/// Results are posted in enter() only, as with DEFER_TASKRUN; what does not fit into the completion
/// ring is kept back with its flag, and a poll of which a result was kept back ends.
class FakeRing {
 public:
  static constexpr int kRingFd = 100;

  explicit FakeRing(std::uint32_t completions = 64) : cq_entries(completions) {}

  /// A file has something: its poll is due.
  void announce(int fd) {
    readable.insert(fd);
    if (armed.count(fd) == 0) return;
    due.push_back(fd);
    word(kFlags) |= IORING_SQ_TASKRUN;
  }
  /// The kernel ends the poll of a file with its next result.
  void end(int fd) { ending.insert(fd); }

  // The calls.
  int io_uring_setup(unsigned entries, void* p) noexcept {
    if (setup_error != 0) return setup_error;
    auto& params = *static_cast<io_uring_params*>(p);
    params.sq_entries = entries;
    params.cq_entries = cq_entries;
    params.features = IORING_FEAT_SINGLE_MMAP | IORING_FEAT_NODROP;
    params.sq_off.tail = kSqTail;
    params.sq_off.flags = kFlags;
    params.sq_off.array = kArray;
    params.cq_off.head = kCqHead;
    params.cq_off.tail = kCqTail;
    params.cq_off.cqes = kCqes;
    if (spoil_params) params.sq_off.flags = 0xffff'fff0;
    sqes.resize(entries);
    return kRingFd;
  }
  int io_uring_register(int, unsigned what, void*, unsigned) noexcept {
    enabled = what == IORING_REGISTER_ENABLE_RINGS;
    return 0;
  }
  int io_uring_enter(int, unsigned submit, unsigned, unsigned) noexcept {
    ++enters;
    if (enter_error != 0) return enter_error;
    for (unsigned i = 0; i < submit; ++i) arm(sqes[(sq_head++) & (sqes.size() - 1)]);
    word(kFlags) &= ~(IORING_SQ_TASKRUN | IORING_SQ_CQ_OVERFLOW);
    while (!kept.empty() && room()) {
      post(kept.front());
      kept.pop_front();
    }
    while (!due.empty()) {
      const int fd = due.front();
      due.pop_front();
      if (readable.count(fd) == 0 || armed.count(fd) == 0) continue;
      const bool fits = kept.empty() && room();
      const bool more = fits && ending.erase(fd) == 0;
      io_uring_cqe cqe{};
      cqe.user_data = armed[fd];
      cqe.res = 1;
      cqe.flags = more ? IORING_CQE_F_MORE : 0;
      if (!more) armed.erase(fd);
      if (fits) {
        post(cqe);
      } else {
        kept.push_back(cqe);
      }
    }
    if (!kept.empty()) word(kFlags) |= IORING_SQ_CQ_OVERFLOW;
    return static_cast<int>(submit);
  }
  std::intptr_t mmap(void*, std::size_t, int, int, int, off_t at) noexcept {
    ++mapped;
    if (at == static_cast<off_t>(IORING_OFF_SQES)) {
      return reinterpret_cast<std::intptr_t>(sqes.data());
    }
    return reinterpret_cast<std::intptr_t>(rings.data());
  }
  int munmap(void*, std::size_t) noexcept {
    --mapped;
    return 0;
  }
  int close(int fd) noexcept {
    closed = closed || fd == kRingFd;
    return 0;
  }
  ssize_t read(int, void*, std::size_t) noexcept { return 0; }
  ssize_t write(int, const void*, std::size_t) noexcept { return -ENOSYS; }
  int open(const char*, int) noexcept { return -ENOENT; }
  int ioctl(int, unsigned long, void*) noexcept { return -ENOTTY; }
  ssize_t pread(int, void*, std::size_t, off_t) noexcept { return -ESPIPE; }
  ssize_t pwrite(int, const void*, std::size_t, off_t) noexcept { return -ESPIPE; }
  int eventfd(unsigned, int) noexcept { return -ENOSYS; }
  int epoll_create1(int) noexcept { return -ENOSYS; }
  int epoll_ctl(int, int, int, epoll_event*) noexcept { return -ENOSYS; }
  int epoll_wait(int, epoll_event*, int, int) noexcept { return -ENOSYS; }

  std::uint32_t cq_entries;
  int setup_error = 0;
  int enter_error = 0;
  int refuse_fd = -1;  ///< a file that cannot be polled
  bool spoil_params = false;
  bool enabled = false;
  bool closed = false;
  int enters = 0;
  int mapped = 0;
  std::map<int, std::uint64_t> armed;  ///< file → user_data
  std::set<int> readable;

 private:
  static constexpr std::uint32_t kSqTail = 0, kFlags = 4, kCqHead = 8, kCqTail = 12, kCqes = 64,
                                 kArray = 0x8000;

  std::uint32_t& word(std::uint32_t at) { return rings[at / 4]; }
  bool room() { return word(kCqTail) - word(kCqHead) < cq_entries; }
  void arm(const io_uring_sqe& sqe) {
    if (sqe.fd == refuse_fd) {
      io_uring_cqe cqe{};
      cqe.user_data = sqe.user_data;
      cqe.res = -EPERM;
      post(cqe);
      return;
    }
    armed[sqe.fd] = sqe.user_data;
    if (readable.count(sqe.fd) != 0) due.push_back(sqe.fd);
  }
  void post(const io_uring_cqe& cqe) {
    auto* cqes = reinterpret_cast<io_uring_cqe*>(rings.data() + kCqes / 4);
    cqes[word(kCqTail) & (cq_entries - 1)] = cqe;
    ++word(kCqTail);
  }

  alignas(64) std::array<std::uint32_t, 0x4000> rings{};
  std::vector<io_uring_sqe> sqes;
  std::uint32_t sq_head = 0;
  std::deque<int> due;
  std::deque<io_uring_cqe> kept;
  std::set<int> ending;
};
static_assert(RingSyscalls<FakeRing>);

}  // namespace faultline::testing
