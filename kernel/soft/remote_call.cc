// SPDX-License-Identifier: BSD-3-Clause
#include "kernel/soft/remote_call.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "kernel/soft/descriptor.h"

namespace faultline::soft {

RemoteCall::RemoteCall(const MessageHeader& header, std::vector<std::byte> argument,
                       Descriptors& fds, FindFile find, Connect connect)
    : header_(header),
      argument_(std::move(argument)),
      fds_(fds),
      find_(std::move(find)),
      connect_(std::move(connect)) {}

RemoteCall::~RemoteCall() {
  if (installed_ >= 0) close(installed_);
}

int RemoteCall::copy_in(std::size_t at, void* to, std::size_t size) noexcept {
  if (at > argument_.size() || size > argument_.size() - at) return -EFAULT;
  std::memcpy(to, argument_.data() + at, size);
  return 0;
}

int RemoteCall::copy_out(std::size_t at, const void* from, std::size_t size) noexcept {
  if (at > kMaxPayload || size > kMaxPayload - at || at + size > header_.size) return -EFAULT;
  if (argument_.size() < at + size) argument_.resize(at + size);
  std::memcpy(argument_.data() + at, from, size);
  changed_ = true;
  return 0;
}

std::span<const std::byte> RemoteCall::changed() const noexcept {
  return changed_ ? std::span<const std::byte>(argument_) : std::span<const std::byte>();
}

int RemoteCall::file(int, FilePtr& file) noexcept {
  // The client's number means nothing here; what it stands for came along.
  if (fds_.get(0) < 0) return -EBADF;
  file = find_(fds_.get(0));
  return file == nullptr ? -EINVAL : 0;
}

int RemoteCall::install(const FilePtr& file) noexcept {
  const int fd = connect_(file);
  if (fd < 0) return fd;
  installed_ = fd;
  return 0;
}

int RemoteCall::eventfd(int) noexcept {
  return duplicate_eventfd(fds_.get(0));
}

int RemoteCall::pin(std::uint64_t, std::uint64_t size, bool write, UserMemory& memory) noexcept {
  const int fd = fds_.get(0);
  struct stat status {};
  if (fd < 0 || fstat(fd, &status) != 0 || !S_ISREG(status.st_mode)) return -EFAULT;
  // Memory that could be cut off later would take the whole kernel down, so it must not shrink any
  // more. Only a memfd has seals.
  const int seals = fcntl(fd, F_GET_SEALS);
  if (seals < 0) return -EFAULT;
  if ((seals & F_SEAL_SHRINK) == 0 && fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK) != 0) return -EFAULT;
  if (fstat(fd, &status) != 0) return -EFAULT;
  const auto end = static_cast<std::uint64_t>(status.st_size);
  if (size == 0 || header_.value > end || size > end - header_.value) return -EFAULT;
  const int prot = write ? PROT_READ | PROT_WRITE : PROT_READ;
  void* at = mmap(nullptr, size, prot, MAP_SHARED, fd, static_cast<off_t>(header_.value));
  if (at == MAP_FAILED) return -EFAULT;
  memory.at = at;
  memory.pin = std::shared_ptr<void>(at, [size](void* p) { munmap(p, size); });
  return 0;
}

}  // namespace faultline::soft
