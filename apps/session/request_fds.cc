// SPDX-License-Identifier: BSD-3-Clause
#include "apps/session/request_fds.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>

#include "apps/session/close.h"
#include "apps/session/file_sort.h"

namespace faultline::session {
namespace {

const char* wrong_kind(FileKind kind, int fd) {
  const FileSort sort = sort_of(fd);
  switch (kind) {
    case FileKind::kCharacterDevice:
      return sort == FileSort::kCharacterDevice || sort == FileSort::kUnknownDevice
                 ? nullptr
                 : "is no character device";
    case FileKind::kVfioDevice:
      return sort == FileSort::kVfioDevice ? nullptr : "is no device of a VFIO group";
    case FileKind::kSocket:
      return sort == FileSort::kUnixSocket ? nullptr : "is no file of the soft kernel";
  }
  return "is of no kind";
}

/// who   of the guest: whose descriptors they are
Result<void> check_kinds(const std::string& who, const std::vector<int>& fds,
                         std::span<const FileKind> kinds) {
  for (std::size_t i = 0; i < kinds.size(); ++i) {
    if (const char* wrong = wrong_kind(kinds[i], fds[i])) {
      return fail(EINVAL, fmt::format("{}: its descriptor {} {}", who, i, wrong));
    }
  }
  return {};
}

Result<void> check_eventfd(const std::string& guest, const char* what, int fd) {
  if (fd < 0) return {};
  if (sort_of(fd) != FileSort::kEventfd) {
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
  // Only of a file in memory is fstat() sure to come back.
  if (sort_of(part.memfd) != FileSort::kMemory || ::fstat(part.memfd, &file) != 0) {
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
  for (const int fd : memfds) close_passed(fd);
  for (const DeviceRequest& device : request_.devices) {
    for (const int fd : device.fds) close_passed(fd);
  }
  for (const int fd : request_.backend_fds) close_passed(fd);
  for (const int fd : request_.object_fds) close_passed(fd);
  for (const int fd : {request_.evtq_eventfd, request_.gerror_eventfd, request_.sync_eventfd,
                       request_.doorbell_eventfd, request_.arm_eventfd, request_.armed_eventfd,
                       request_.journal}) {
    close_passed(fd);
  }
  for (const engine::MsiRoute& route : request_.routes) close_passed(route.eventfd);
}

Result<void> check_descriptors(const GuestRequest& request, std::span<const FileKind> device_fds,
                               std::span<const FileKind> backend_fds) {
  for (const MemoryPart& part : request.memory) {
    if (auto ok = check_part(request.name, part); !ok) return ok;
  }
  const std::string guest = "guest " + request.name;
  for (const DeviceRequest& device : request.devices) {
    if (device.fds.size() != device_fds.size()) {
      return fail(EINVAL, fmt::format("{}: device {} came with {} descriptors; here it needs {}",
                                      guest, device.name, device.fds.size(), device_fds.size()));
    }
    auto ok = check_kinds(guest + ": device " + device.name, device.fds, device_fds);
    if (!ok) return ok;
  }
  if (request.backend_fds.size() != backend_fds.size()) {
    return fail(EINVAL, fmt::format("{} came with {} descriptors of its backend; here it needs {}",
                                    guest, request.backend_fds.size(), backend_fds.size()));
  }
  if (auto ok = check_kinds(guest + ": its backend", request.backend_fds, backend_fds); !ok) {
    return ok;
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
