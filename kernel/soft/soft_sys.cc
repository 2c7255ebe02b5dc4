// SPDX-License-Identifier: BSD-3-Clause
#include "kernel/soft/soft_sys.h"

#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string_view>
#include <utility>

#include "kernel/soft/descriptor.h"

namespace faultline::soft {
namespace {

/// A call from the same process: pointers are pointers.
class DirectCall : public UserCall {
 public:
  DirectCall(SoftSys& sys, void* argument) noexcept : sys_(sys), argument_(argument) {}

  [[nodiscard]] unsigned long value() const noexcept override {
    return reinterpret_cast<unsigned long>(argument_);
  }
  int copy_in(std::size_t at, void* to, std::size_t size) noexcept override {
    if (argument_ == nullptr) return -EFAULT;
    std::memcpy(to, static_cast<const std::byte*>(argument_) + at, size);
    return 0;
  }
  int copy_out(std::size_t at, const void* from, std::size_t size) noexcept override {
    if (argument_ == nullptr) return -EFAULT;
    std::memcpy(static_cast<std::byte*>(argument_) + at, from, size);
    return 0;
  }
  int file(int fd, FilePtr& file) noexcept override {
    file = sys_.file(fd);
    if (file != nullptr) return 0;
    return fd < SoftSys::kFirstFd && fcntl(fd, F_GETFD) >= 0 ? -EINVAL : -EBADF;
  }
  int install(const FilePtr& file) noexcept override { return sys_.install(file); }
  int eventfd(int fd) noexcept override { return duplicate_eventfd(fd); }
  int pin(std::uint64_t vaddr, std::uint64_t size, bool, UserMemory& memory) noexcept override {
    void* at = reinterpret_cast<void*>(vaddr);
    // The cheapest question that fails where nothing is mapped.
    if (at == nullptr || ::msync(at, size, MS_ASYNC) != 0) return -EFAULT;
    memory.at = at;
    return 0;
  }

 private:
  SoftSys& sys_;
  void* argument_;
};

}  // namespace

FilePtr SoftSys::file(int fd) noexcept {
  const std::lock_guard lock(mutex_);
  const auto i = static_cast<std::size_t>(fd - kFirstFd);
  return fd >= kFirstFd && i < files_.size() ? files_[i] : nullptr;
}

int SoftSys::install(const FilePtr& file) noexcept {
  const std::lock_guard lock(mutex_);
  auto slot = std::find(files_.begin(), files_.end(), nullptr);
  if (slot == files_.end()) slot = files_.insert(slot, nullptr);
  *slot = file;
  return kFirstFd + static_cast<int>(slot - files_.begin());
}

int SoftSys::open(const char* path, int flags) noexcept {
  if (std::string_view(path).substr(0, 10) != "/dev/vfio/") return linux_.open(path, flags);
  FilePtr file;
  const int error = kernel_.open(path, file);
  return error != 0 ? error : install(file);
}

int SoftSys::close(int fd) noexcept {
  if (fd < kFirstFd) return linux_.close(fd);
  FilePtr last;  // closes the file after the lock is released
  const std::lock_guard lock(mutex_);
  const auto i = static_cast<std::size_t>(fd - kFirstFd);
  if (i >= files_.size() || files_[i] == nullptr) return -EBADF;
  last = std::exchange(files_[i], nullptr);
  return 0;
}

int SoftSys::ioctl(int fd, unsigned long request, void* argument) noexcept {
  if (fd < kFirstFd) return linux_.ioctl(fd, request, argument);
  const FilePtr f = file(fd);
  if (f == nullptr) return -EBADF;
  DirectCall call(*this, argument);
  return kernel_.ioctl(f, request, call);
}

std::intptr_t SoftSys::mmap(void* hint, std::size_t size, int prot, int flags, int fd,
                            off_t at) noexcept {
  if (fd < kFirstFd) return linux_.mmap(hint, size, prot, flags, fd, at);
  const FilePtr f = file(fd);
  if (f == nullptr) return -EBADF;
  RegionMapping mapping;
  if (const int error = kernel_.mmap(f, size, prot, flags, at, mapping); error != 0) return error;
  return linux_.mmap(hint, size, prot, flags, mapping.fd, mapping.at);
}

int SoftSys::munmap(void* at, std::size_t size) noexcept {
  return linux_.munmap(at, size);
}

ssize_t SoftSys::pread(int fd, void* out, std::size_t size, off_t at) noexcept {
  if (fd < kFirstFd) return linux_.pread(fd, out, size, at);
  const FilePtr f = file(fd);
  return f == nullptr ? -EBADF : kernel_.pread(f, out, size, at);
}

ssize_t SoftSys::pwrite(int fd, const void* in, std::size_t size, off_t at) noexcept {
  if (fd < kFirstFd) return linux_.pwrite(fd, in, size, at);
  const FilePtr f = file(fd);
  return f == nullptr ? -EBADF : kernel_.pwrite(f, in, size, at);
}

ssize_t SoftSys::read(int fd, void* out, std::size_t size) noexcept {
  return fd < kFirstFd ? linux_.read(fd, out, size) : -EINVAL;
}

ssize_t SoftSys::write(int fd, const void* in, std::size_t size) noexcept {
  return fd < kFirstFd ? linux_.write(fd, in, size) : -EINVAL;
}

int SoftSys::eventfd(unsigned initial, int flags) noexcept {
  return linux_.eventfd(initial, flags);
}

int SoftSys::epoll_create1(int flags) noexcept {
  return linux_.epoll_create1(flags);
}

int SoftSys::epoll_ctl(int epfd, int op, int fd, epoll_event* event) noexcept {
  return fd < kFirstFd ? linux_.epoll_ctl(epfd, op, fd, event) : -EPERM;
}

int SoftSys::epoll_wait(int epfd, epoll_event* events, int max, int timeout_ms) noexcept {
  return linux_.epoll_wait(epfd, events, max, timeout_ms);
}

}  // namespace faultline::soft
