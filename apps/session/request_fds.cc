// SPDX-License-Identifier: BSD-3-Clause
#include "apps/session/request_fds.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <string_view>

namespace faultline::session {
namespace {

void close_one(int fd) noexcept {
  if (fd >= 0) ::close(fd);
}

bool is_eventfd(int fd) {
  std::array<char, 64> target{};
  const std::string link = fmt::format("/proc/self/fd/{}", fd);
  const ssize_t n = ::readlink(link.c_str(), target.data(), target.size());
  return n > 0 &&
         std::string_view(target.data(), static_cast<std::size_t>(n)) == "anon_inode:[eventfd]";
}

Result<void> check_eventfd(const std::string& guest, const char* what, int fd) {
  if (fd < 0) return {};
  if (!is_eventfd(fd)) {
    return fail(EINVAL, fmt::format("guest {}: {} is not an eventfd", guest, what));
  }
  const int flags = ::fcntl(fd, F_GETFL);
  if (flags < 0 || ::fcntl(fd, F_SETFL, flags | O_NONBLOCK) != 0) {
    return fail(errno, fmt::format("guest {}: {}: cannot be made non-blocking", guest, what));
  }
  return {};
}

Result<void> check_part(const std::string& guest, const MemoryPart& part) {
  struct stat file {};
  if (part.memfd < 0 || ::fstat(part.memfd, &file) != 0 || !S_ISREG(file.st_mode)) {
    return fail(EINVAL, fmt::format("guest {}: the memory at {:#x} is not a memfd: pass one that "
                                    "is sealed with F_SEAL_SHRINK",
                                    guest, part.gpa.value));
  }
  const auto size = static_cast<std::uint64_t>(file.st_size);
  if (part.bytes == 0 || part.offset > size || part.bytes > size - part.offset) {
    return fail(EINVAL, fmt::format("guest {}: the memory at {:#x} is {} bytes from {} of a memfd "
                                    "that has {}",
                                    guest, part.gpa.value, part.bytes, part.offset, size));
  }
  return {};
}

}  // namespace

OwnedRequest::~OwnedRequest() {
  // Several parts may lie in one memfd that came once.
  std::vector<int> memfds;
  for (const MemoryPart& part : request_.memory) memfds.push_back(part.memfd);
  std::sort(memfds.begin(), memfds.end());
  memfds.erase(std::unique(memfds.begin(), memfds.end()), memfds.end());
  for (const int fd : memfds) close_one(fd);
  for (const DeviceRequest& device : request_.devices) {
    for (const int fd : device.fds) close_one(fd);
  }
  for (const int fd : request_.backend_fds) close_one(fd);
  for (const int fd : {request_.evtq_eventfd, request_.gerror_eventfd, request_.sync_eventfd,
                       request_.doorbell_eventfd, request_.arm_eventfd, request_.armed_eventfd,
                       request_.journal}) {
    close_one(fd);
  }
  for (const engine::MsiRoute& route : request_.routes) close_one(route.eventfd);
}

Result<void> check_descriptors(const GuestRequest& request, std::size_t device_fds,
                               std::size_t backend_fds) {
  for (const MemoryPart& part : request.memory) {
    if (auto ok = check_part(request.name, part); !ok) return ok;
  }
  for (const DeviceRequest& device : request.devices) {
    if (device.fds.size() == device_fds) continue;
    return fail(EINVAL,
                fmt::format("guest {}: device {} came with {} descriptors; here it needs {}",
                            request.name, device.name, device.fds.size(), device_fds));
  }
  if (request.backend_fds.size() != backend_fds) {
    return fail(EINVAL, fmt::format("guest {} came with {} descriptors of its backend; here it "
                                    "needs {}",
                                    request.name, request.backend_fds.size(), backend_fds));
  }
  const std::pair<const char*, int> eventfds[] = {
      {"the event queue's eventfd", request.evtq_eventfd},
      {"GERROR's eventfd", request.gerror_eventfd},
      {"CMD_SYNC's eventfd", request.sync_eventfd},
      {"the doorbell", request.doorbell_eventfd},
      {"the eventfd to arm", request.arm_eventfd},
      {"the eventfd that says armed", request.armed_eventfd}};
  for (const auto& [what, fd] : eventfds) {
    if (auto ok = check_eventfd(request.name, what, fd); !ok) return ok;
  }
  for (const engine::MsiRoute& route : request.routes) {
    if (auto ok = check_eventfd(request.name, "the eventfd of an MSI", route.eventfd); !ok) {
      return ok;
    }
  }
  return {};
}

}  // namespace faultline::session
