// SPDX-License-Identifier: BSD-3-Clause
#include "apps/session/file_sort.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <string_view>

namespace faultline::session {
namespace {

/// Where a symbolic link leads, in `out`. Only of /proc and /sys: other file systems may wait.
std::string_view target_of(const char* link, std::array<char, 256>& out) noexcept {
  const ssize_t n = ::readlink(link, out.data(), out.size());
  return {out.data(), n > 0 ? static_cast<std::size_t>(n) : 0};
}

bool begins(std::string_view text, std::string_view with) noexcept {
  return text.substr(0, with.size()) == with;
}

/// Files without a name of their own are told apart by what the kernel calls them.
FileSort sort_of_anonymous(std::string_view name) noexcept {
  if (name == "[eventfd]") return FileSort::kEventfd;
  if (name == "[vfio-device]") return FileSort::kVfioDevice;
  // The last reference to others may take a virtual machine or a mount with it.
  for (const std::string_view quiet : {"[eventpoll]", "[signalfd]", "[iommufd"}) {
    if (begins(name, quiet)) return FileSort::kQuiet;
  }
  return FileSort::kOther;
}

/// A terminal waits at its end for what was written, CUSE for its program; so those are chosen that
/// are known not to. By /sys: the name that the device was opened by is the peer's choice.
FileSort sort_of_device(unsigned major, unsigned minor) noexcept {
  std::array<char, 64> link{};
  std::snprintf(link.data(), link.size(), "/sys/dev/char/%u:%u", major, minor);
  std::array<char, 256> buffer{};
  const std::string_view device = target_of(link.data(), buffer);
  if (device.empty()) return FileSort::kUnknownDevice;
  for (const std::string_view kind : {"/vfio/", "/vfio-dev/", "/misc/", "/mem/"}) {
    if (device.find(kind) != std::string_view::npos) return FileSort::kCharacterDevice;
  }
  return FileSort::kOther;
}

}  // namespace

FileSort sort_of(int fd) noexcept {
  // Only files in memory answer.
  if (::fcntl(fd, F_GET_SEALS) >= 0) return FileSort::kMemory;
  std::array<char, 64> link{};
  std::snprintf(link.data(), link.size(), "/proc/self/fd/%d", fd);
  std::array<char, 256> buffer{};
  const std::string_view name = target_of(link.data(), buffer);
  // What has a path begins with a slash, or with "(unreachable)".
  constexpr std::string_view kAnonymous = "anon_inode:";
  if (begins(name, kAnonymous)) return sort_of_anonymous(name.substr(kAnonymous.size()));
  if (begins(name, "pipe:")) return FileSort::kQuiet;
  if (begins(name, "socket:")) {
    int domain = -1;
    socklen_t bytes = sizeof domain;
    const bool known = ::getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &bytes) == 0;
    return known && domain == AF_UNIX ? FileSort::kUnixSocket : FileSort::kOther;
  }
  struct statx file {};
  if (::statx(fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, STATX_TYPE, &file) != 0 ||
      !S_ISCHR(file.stx_mode)) {
    return FileSort::kOther;
  }
  // A descriptor that cannot do anything is no device.
  if ((::fcntl(fd, F_GETFL) & O_PATH) != 0) return FileSort::kOther;
  return sort_of_device(file.stx_rdev_major, file.stx_rdev_minor);
}

bool may_be_passed(FileSort sort) noexcept {
  return sort != FileSort::kQuiet && sort != FileSort::kOther;
}

}  // namespace faultline::session
