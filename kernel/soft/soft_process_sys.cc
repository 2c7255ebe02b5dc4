// SPDX-License-Identifier: BSD-3-Clause
#include "kernel/soft/soft_process_sys.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string_view>

#include "kernel/base/units.h"
#include "kernel/soft/client.h"
#include "kernel/soft/client_argument.h"
#include "kernel/soft/client_memory.h"
#include "kernel/uapi/vfio_nested.h"

namespace faultline::soft {
namespace {

/// A descriptor of this process, closed at the end.
struct Held {
  ~Held() {
    if (fd >= 0) ::close(fd);
  }
  int fd = -1;
};

}  // namespace

struct SoftProcessSys::State {
  explicit State(int root) : client(root) {}
  Client client;
  ClientMemory memory;
};

SoftProcessSys::SoftProcessSys(int socket) : state_(std::make_unique<State>(socket)) {}
SoftProcessSys::~SoftProcessSys() = default;

int SoftProcessSys::open(const char* path, int flags) noexcept {
  const std::string_view name(path);
  if (name.substr(0, 10) != "/dev/vfio/") return linux_.open(path, flags);
  if (name.size() > kPage4K) return -ENAMETOOLONG;
  MessageHeader header;
  header.kind = MessageKind::kOpen;
  const Reply reply = state_->client.call(state_->client.root(), header,
                                          std::as_bytes(std::span(name.data(), name.size())), {});
  return reply.result != 0 ? static_cast<int>(reply.result) : reply.fd;
}

int SoftProcessSys::close(int fd) noexcept {
  const bool file = Client::is_file(fd);
  state_->client.forget(fd);
  const int result = linux_.close(fd);
  if (file && result == 0) {
    // A kernel has closed the file when close() returns; ours is told by the connection's end.
    MessageHeader header;
    header.kind = MessageKind::kSettle;
    state_->client.call(state_->client.root(), header, {}, {});
  }
  return result;
}

int SoftProcessSys::ioctl(int fd, unsigned long request, void* argument) noexcept {
  if (!Client::is_file(fd)) return linux_.ioctl(fd, request, argument);
  const ArgumentShape shape = shape_of(request, argument);
  MessageHeader header;
  header.kind = MessageKind::kIoctl;
  header.number = request;
  header.size = shape.out;
  std::span<const std::byte> payload;
  int passed = -1;
  Held memory;
  if (shape.number) {
    header.value = reinterpret_cast<std::uintptr_t>(argument);
  } else {
    payload = {static_cast<const std::byte*>(argument), shape.in};
  }
  if (shape.fd_at != ArgumentShape::kNone) {
    std::int32_t number = -1;
    std::memcpy(&number, payload.data() + shape.fd_at, sizeof number);
    passed = number;
  }
  if (shape.memory) {
    uapi::vfio_iommu_type1_dma_map map{};
    std::memcpy(&map, argument, sizeof map);
    off_t offset = 0;
    memory.fd = state_->memory.find(map.vaddr, map.size, offset);
    passed = memory.fd;  // none: the kernel says what is wrong, EFAULT at last
    header.value = static_cast<std::uint64_t>(offset);
  }
  Reply reply = state_->client.call(fd, header, payload,
                                    std::span<const int>(&passed, passed >= 0 ? 1U : 0U));
  if (!shape.number && !reply.bytes.empty()) {
    std::memcpy(argument, reply.bytes.data(), std::min(reply.bytes.size(), shape.out));
  }
  return reply.fd >= 0 ? reply.fd : static_cast<int>(reply.result);
}

std::intptr_t SoftProcessSys::mmap(void* hint, std::size_t size, int prot, int flags, int fd,
                                   off_t at) noexcept {
  if ((flags & MAP_ANONYMOUS) != 0) {
    // The kernel can reach only what has a descriptor.
    const unsigned huge =
        (flags & MAP_HUGETLB) != 0 ? MFD_HUGETLB | (static_cast<unsigned>(flags) & ~0x3ffffffU) : 0;
    Held file{memfd_create("faultline-anonymous", MFD_CLOEXEC | MFD_ALLOW_SEALING | huge)};
    if (file.fd < 0 || ftruncate(file.fd, static_cast<off_t>(size)) != 0) return -ENOMEM;
    const int shared = (flags & ~(MAP_ANONYMOUS | MAP_PRIVATE | MAP_HUGETLB)) | MAP_SHARED;
    const std::intptr_t p = linux_.mmap(hint, size, prot, shared & 0x3ffffff, file.fd, 0);
    if (!mmap_failed(p)) state_->memory.add(static_cast<std::uintptr_t>(p), size, file.fd, 0);
    return p;
  }
  if (!Client::is_file(fd)) {
    const std::intptr_t p = linux_.mmap(hint, size, prot, flags, fd, at);
    if (!mmap_failed(p) && (flags & MAP_SHARED) != 0) {
      state_->memory.add(static_cast<std::uintptr_t>(p), size, fd, at);
    }
    return p;
  }
  MessageHeader header;
  header.kind = MessageKind::kMmap;
  header.size = size;
  header.at = at;
  header.prot = prot;
  header.flags = flags;
  const Reply reply = state_->client.call(fd, header, {}, {});
  const Held region{reply.fd};
  if (reply.result != 0) return static_cast<std::intptr_t>(reply.result);
  return linux_.mmap(hint, size, prot, flags, region.fd, static_cast<off_t>(reply.value));
}

int SoftProcessSys::munmap(void* at, std::size_t size) noexcept {
  state_->memory.remove(reinterpret_cast<std::uintptr_t>(at), size);
  return linux_.munmap(at, size);
}

ssize_t SoftProcessSys::pread(int fd, void* out, std::size_t size, off_t at) noexcept {
  if (!Client::is_file(fd)) return linux_.pread(fd, out, size, at);
  std::size_t done = 0;
  for (;;) {
    MessageHeader header;
    header.kind = MessageKind::kPread;
    header.size = std::min(size - done, kMaxPayload);
    header.at = at + static_cast<off_t>(done);
    const Reply reply = state_->client.call(fd, header, {}, {});
    if (reply.result < 0) return done > 0 ? static_cast<ssize_t>(done) : reply.result;
    const std::size_t n = std::min(reply.bytes.size(), static_cast<std::size_t>(header.size));
    if (n > 0) std::memcpy(static_cast<std::byte*>(out) + done, reply.bytes.data(), n);
    done += n;
    if (n < header.size || done == size) return static_cast<ssize_t>(done);
  }
}

ssize_t SoftProcessSys::pwrite(int fd, const void* in, std::size_t size, off_t at) noexcept {
  if (!Client::is_file(fd)) return linux_.pwrite(fd, in, size, at);
  MessageHeader header;
  header.kind = MessageKind::kPwrite;
  header.at = at;
  // A short write, as any file may make.
  const std::span payload(static_cast<const std::byte*>(in), std::min(size, kMaxPayload));
  return state_->client.call(fd, header, payload, {}).result;
}

ssize_t SoftProcessSys::read(int fd, void* out, std::size_t size) noexcept {
  return Client::is_file(fd) ? -EINVAL : linux_.read(fd, out, size);
}

ssize_t SoftProcessSys::write(int fd, const void* in, std::size_t size) noexcept {
  return Client::is_file(fd) ? -EINVAL : linux_.write(fd, in, size);
}

int SoftProcessSys::eventfd(unsigned initial, int flags) noexcept {
  return linux_.eventfd(initial, flags);
}

int SoftProcessSys::epoll_create1(int flags) noexcept {
  return linux_.epoll_create1(flags);
}

int SoftProcessSys::epoll_ctl(int epfd, int op, int fd, epoll_event* event) noexcept {
  return linux_.epoll_ctl(epfd, op, fd, event);
}

int SoftProcessSys::epoll_wait(int epfd, epoll_event* events, int max, int timeout_ms) noexcept {
  return linux_.epoll_wait(epfd, events, max, timeout_ms);
}

}  // namespace faultline::soft
