// SPDX-License-Identifier: BSD-3-Clause
// hot path: an io_uring that does nothing but multishot polls.
#pragma once

#include <linux/io_uring.h>
#include <poll.h>
#include <sys/mman.h>

#include <bit>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <utility>

#include "kernel/base/result.h"
#include "kernel/base/shared.h"
#include "kernel/base/unique_fd.h"
#include "kernel/sys.h"

namespace faultline::iommufd {

/// One poll result.
struct PollResult {
  std::uint64_t slot = 0;  ///< as given to arm(); the kernel's, not checked
  int error = 0;           ///< negative: the file cannot be polled
  bool more = false;       ///< the poll goes on; false: arm it again
};

/// The ring, through raw system calls.
///
/// It is made with DEFER_TASKRUN: the kernel posts results only inside enter(), and sets TASKRUN in
/// the mapped flag word when there are some to post. Spinning on the completion ring of an ordinary
/// ring instead would cost an interrupt for each event; COOP_TASKRUN without an enter() would wait
/// for the next tick.
///
/// thread   enable() makes the calling thread the only one that may enter()
/// source   Linux 6.1 or later, io_uring/io_uring.c, io_uring/poll.c
template <Syscalls Sys>
class PollRing {
 public:
  PollRing() = default;
  PollRing(PollRing&& other) noexcept { swap(other); }
  PollRing& operator=(PollRing&& other) noexcept {
    if (this != &other) {
      close();
      swap(other);
    }
    return *this;
  }
  PollRing(const PollRing&) = delete;
  PollRing& operator=(const PollRing&) = delete;
  ~PollRing() { close(); }

  /// A ring with room for a poll of each of `files` files.
  ///
  /// errors  a kernel without io_uring, or where it is switched off; with what to do about it
  static Result<PollRing> open(Sys& sys, std::size_t files) {
    if constexpr (!RingSyscalls<Sys>) {
      return fail(0, "this kernel has no io_uring");
    } else {
      io_uring_params params{};
      params.flags = IORING_SETUP_R_DISABLED | IORING_SETUP_SINGLE_ISSUER |
                     IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_TASKRUN_FLAG;
      const auto entries = static_cast<unsigned>(std::bit_ceil(files + 1));
      const int fd = sys.io_uring_setup(entries, &params);
      if (fd < 0) return fail(-fd, "io_uring_setup" + advice(-fd));
      PollRing ring;
      ring.sys_ = &sys;
      ring.fd_ = UniqueFd<Sys>(sys, fd);
      if ((params.features & IORING_FEAT_SINGLE_MMAP) == 0 ||
          (params.features & IORING_FEAT_NODROP) == 0) {
        return fail(0, "io_uring of a kernel before 5.5");
      }
      if (auto ok = ring.map(params); !ok) return tl::unexpected(std::move(ok.error()));
      return ring;
    }
  }

  [[nodiscard]] explicit operator bool() const noexcept { return static_cast<bool>(fd_); }

  /// Nothing came.
  [[nodiscard]] bool quiet() const noexcept {
    return (load_relaxed(*sq_flags_) & (IORING_SQ_TASKRUN | IORING_SQ_CQ_OVERFLOW)) == 0 &&
           unsubmitted_ == 0;
  }
  [[nodiscard]] const std::uint32_t* flag_word() const noexcept { return sq_flags_; }
  [[nodiscard]] bool overflowed() const noexcept {
    return (load_relaxed(*sq_flags_) & IORING_SQ_CQ_OVERFLOW) != 0;
  }
  [[nodiscard]] bool unsubmitted() const noexcept { return unsubmitted_ != 0; }

  /// returns  0 or -errno
  int enable() noexcept {
    if constexpr (RingSyscalls<Sys>) {
      const int rc = sys_->io_uring_register(fd_.get(), IORING_REGISTER_ENABLE_RINGS, nullptr, 0);
      return rc < 0 ? rc : 0;
    } else {
      return -ENOSYS;
    }
  }

  /// Queue a multishot poll for input of a file; the next enter() submits it. There is always room:
  /// each file has one poll.
  void arm(int fd, std::uint64_t slot) noexcept {
    io_uring_sqe sqe{};
    sqe.opcode = IORING_OP_POLL_ADD;
    sqe.fd = fd;
    sqe.len = IORING_POLL_ADD_MULTI;
    sqe.user_data = slot;
    sqe.poll32_events = POLLIN;
    if constexpr (std::endian::native == std::endian::big) sqe.poll32_events <<= 16U;
    const std::uint32_t at = sq_tail_ & sq_mask_;
    std::memcpy(&sqes_[at], &sqe, sizeof sqe);
    sq_array_[at] = at;
    ++sq_tail_;
    ++unsubmitted_;
    store_release(*sq_tail_shared_, sq_tail_);  // pairs with the kernel's acquire of tail
  }

  /// Submit what is queued and have the kernel post what it has.
  /// returns  0 or -errno
  int enter() noexcept {
    if constexpr (RingSyscalls<Sys>) {
      const int rc = sys_->io_uring_enter(fd_.get(), unsubmitted_, 0, IORING_ENTER_GETEVENTS);
      if (rc < 0) return rc;
      const auto taken = static_cast<std::uint32_t>(rc);
      unsubmitted_ -= taken < unsubmitted_ ? taken : unsubmitted_;
      return 0;
    } else {
      return -ENOSYS;
    }
  }

  /// Take one result. returns  false: there is none
  bool next(PollResult& out) noexcept {
    // Acquire: the result is written before tail (pairs with the kernel's release).
    if (cq_head_ == load_acquire(*cq_tail_)) return false;
    const io_uring_cqe& cqe = cqes_[cq_head_ & cq_mask_];
    out.slot = load_relaxed(cqe.user_data);
    out.error = load_relaxed(cqe.res);
    out.more = (load_relaxed(cqe.flags) & IORING_CQE_F_MORE) != 0;
    ++cq_head_;
    store_release(*cq_head_shared_, cq_head_);  // pairs with the kernel's acquire of head
    return true;
  }

  void close() noexcept {
    if (rings_ != nullptr) sys_->munmap(std::exchange(rings_, nullptr), rings_bytes_);
    if (sqes_ != nullptr) sys_->munmap(std::exchange(sqes_, nullptr), sqes_bytes_);
    fd_.reset();
  }

 private:
  static std::string advice(int error) {
    switch (error) {
      case ENOSYS:
        return ": a kernel built without CONFIG_IO_URING";
      case EPERM:
        return ": not allowed here (sysctl kernel.io_uring_disabled=0, or the container's seccomp "
               "profile)";
      case EINVAL:
        return ": a kernel before 6.1";
      case ENOMEM:
        return ": no memory for it (ulimit -l)";
      default:
        return "";
    }
  }

  /// Where the kernel says that its words are: checked, it must not lead us outside of the mapping.
  Result<void> map(const io_uring_params& p) {
    if (!std::has_single_bit(p.sq_entries) || !std::has_single_bit(p.cq_entries)) {
      return fail(0, "io_uring_setup gave rings whose sizes are no powers of two");
    }
    const std::size_t sq = std::size_t{p.sq_off.array} + p.sq_entries * sizeof(std::uint32_t);
    const std::size_t cq = std::size_t{p.cq_off.cqes} + p.cq_entries * sizeof(io_uring_cqe);
    rings_bytes_ = sq > cq ? sq : cq;
    sqes_bytes_ = p.sq_entries * sizeof(io_uring_sqe);
    for (const std::uint32_t at : {p.sq_off.tail, p.sq_off.flags, p.cq_off.head, p.cq_off.tail}) {
      if (at % 4 != 0 || at + std::size_t{4} > rings_bytes_) {
        return fail(0, "io_uring_setup gave an offset outside of the ring");
      }
    }
    if (p.sq_off.array % 4 != 0 || p.cq_off.cqes % 8 != 0) {
      return fail(0, "io_uring_setup gave an offset that is not aligned");
    }
    void* rings = nullptr;
    if (auto ok = map_one(rings_bytes_, IORING_OFF_SQ_RING, rings); !ok) return ok;
    rings_ = static_cast<unsigned char*>(rings);
    void* sqes = nullptr;
    if (auto ok = map_one(sqes_bytes_, IORING_OFF_SQES, sqes); !ok) return ok;
    sqes_ = static_cast<io_uring_sqe*>(sqes);
    const auto word = [this](std::uint32_t at) {
      return reinterpret_cast<std::uint32_t*>(rings_ + at);
    };
    sq_tail_shared_ = word(p.sq_off.tail);
    sq_flags_ = word(p.sq_off.flags);
    sq_array_ = word(p.sq_off.array);
    cq_head_shared_ = word(p.cq_off.head);
    cq_tail_ = word(p.cq_off.tail);
    cqes_ = reinterpret_cast<io_uring_cqe*>(rings_ + p.cq_off.cqes);
    sq_mask_ = p.sq_entries - 1;
    cq_mask_ = p.cq_entries - 1;
    sq_tail_ = load_relaxed(*sq_tail_shared_);
    cq_head_ = load_relaxed(*cq_head_shared_);
    return {};
  }

  Result<void> map_one(std::size_t bytes, std::uint64_t at, void*& out) {
    const std::intptr_t mapped =
        sys_->mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd_.get(),
                   static_cast<off_t>(at));
    if (mmap_failed(mapped)) return fail(static_cast<int>(-mapped), "io_uring: mmap of the ring");
    out = reinterpret_cast<void*>(mapped);
    return {};
  }

  void swap(PollRing& other) noexcept {
    std::swap(sys_, other.sys_);
    std::swap(fd_, other.fd_);
    std::swap(rings_, other.rings_);
    std::swap(sqes_, other.sqes_);
    std::swap(rings_bytes_, other.rings_bytes_);
    std::swap(sqes_bytes_, other.sqes_bytes_);
    std::swap(sq_flags_, other.sq_flags_);
    std::swap(sq_tail_shared_, other.sq_tail_shared_);
    std::swap(sq_array_, other.sq_array_);
    std::swap(cq_head_shared_, other.cq_head_shared_);
    std::swap(cq_tail_, other.cq_tail_);
    std::swap(cqes_, other.cqes_);
    std::swap(sq_mask_, other.sq_mask_);
    std::swap(cq_mask_, other.cq_mask_);
    std::swap(sq_tail_, other.sq_tail_);
    std::swap(cq_head_, other.cq_head_);
    std::swap(unsubmitted_, other.unsubmitted_);
  }

  const std::uint32_t* sq_flags_ = nullptr;  ///< all that an idle look loads
  std::uint32_t unsubmitted_ = 0;
  std::uint32_t sq_tail_ = 0;
  std::uint32_t sq_mask_ = 0;
  std::uint32_t cq_head_ = 0;
  std::uint32_t cq_mask_ = 0;
  std::uint32_t* sq_tail_shared_ = nullptr;
  std::uint32_t* sq_array_ = nullptr;
  std::uint32_t* cq_head_shared_ = nullptr;
  const std::uint32_t* cq_tail_ = nullptr;
  const io_uring_cqe* cqes_ = nullptr;
  io_uring_sqe* sqes_ = nullptr;
  unsigned char* rings_ = nullptr;
  std::size_t rings_bytes_ = 0;
  std::size_t sqes_bytes_ = 0;
  Sys* sys_ = nullptr;
  UniqueFd<Sys> fd_;
};

}  // namespace faultline::iommufd
