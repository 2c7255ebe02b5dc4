// SPDX-License-Identifier: BSD-3-Clause
#include "kernel/soft/shared_memory.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <string>
#include <utility>

#include "kernel/base/units.h"

namespace faultline::soft {

Result<SharedMemory> SharedMemory::make(const char* name, std::size_t size) {
  SharedMemory memory;
  memory.size_ = (size + kPage4K - 1) / kPage4K * kPage4K;
  memory.fd_ = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
  if (memory.fd_ < 0) return fail(errno, "memfd_create");
  if (ftruncate(memory.fd_, static_cast<off_t>(memory.size_)) != 0) return fail(errno, "ftruncate");
  if (fcntl(memory.fd_, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0) {
    return fail(errno, "F_ADD_SEALS");
  }
  const std::string path = "/proc/self/fd/" + std::to_string(memory.fd_);
  memory.read_only_fd_ = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (memory.read_only_fd_ < 0) return fail(errno, "open " + path);
  void* at = mmap(nullptr, memory.size_, PROT_READ | PROT_WRITE, MAP_SHARED, memory.fd_, 0);
  if (at == MAP_FAILED) return fail(errno, "mmap of a memfd");
  memory.data_ = at;
  return memory;
}

SharedMemory::SharedMemory(SharedMemory&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)),
      size_(std::exchange(other.size_, 0)),
      fd_(std::exchange(other.fd_, -1)),
      read_only_fd_(std::exchange(other.read_only_fd_, -1)) {}

SharedMemory& SharedMemory::operator=(SharedMemory&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  std::swap(fd_, other.fd_);
  std::swap(read_only_fd_, other.read_only_fd_);
  return *this;
}

SharedMemory::~SharedMemory() {
  if (data_ != nullptr) munmap(data_, size_);
  if (fd_ >= 0) close(fd_);
  if (read_only_fd_ >= 0) close(read_only_fd_);
}

}  // namespace faultline::soft
