// SPDX-License-Identifier: BSD-3-Clause
#include "apps/faultline/host.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <limits>
#include <memory>

#include "kernel/iommufd/poll_ring.h"
#include "kernel/sys.h"

namespace faultline {
namespace {

std::string drain(std::FILE* from) {
  std::string text;
  std::array<char, 4096> part;
  for (std::size_t n = 0; (n = std::fread(part.data(), 1, part.size(), from)) > 0;) {
    text.append(part.data(), n);
  }
  return text;
}

std::optional<std::string> read_file(const std::string& path) {
  std::FILE* file = std::fopen(path.c_str(), "re");
  if (file == nullptr) return std::nullopt;
  std::string text = drain(file);
  std::fclose(file);
  return text;
}

std::optional<std::vector<std::string>> list_folder(const std::string& path) {
  const std::unique_ptr<DIR, int (*)(DIR*)> folder(opendir(path.c_str()), closedir);
  if (folder == nullptr) return std::nullopt;
  std::vector<std::string> names;
  while (const dirent* entry = readdir(folder.get())) {
    if (entry->d_name[0] != '.') names.emplace_back(entry->d_name);
  }
  std::sort(names.begin(), names.end());
  return names;
}

int open_error(const std::string& path) {
  const int fd = open(path.c_str(), O_RDWR | O_CLOEXEC);
  if (fd < 0) return errno;
  close(fd);
  return 0;
}

std::optional<std::string> read_kernel_options(const std::string& release) {
  if (auto text = read_file("/boot/config-" + release)) return text;
  if (access("/proc/config.gz", R_OK) != 0) return std::nullopt;
  std::FILE* pipe = popen("gzip -dc /proc/config.gz 2>/dev/null", "re");
  if (pipe == nullptr) return std::nullopt;
  std::string text = drain(pipe);
  if (pclose(pipe) != 0 || text.empty()) return std::nullopt;
  return text;
}

int ring_error() {
  LinuxSys sys;
  const auto ring = iommufd::PollRing<LinuxSys>::open(sys, 1);
  if (ring) return 0;
  return ring.error().code != 0 ? ring.error().code : ENOSYS;
}

}  // namespace

Host this_host() {
  Host host;
  host.read = read_file;
  host.list = list_folder;
  host.open = open_error;
  utsname name{};
  if (uname(&name) == 0) {
    host.release = name.release;
    host.machine = name.machine;
  }
  host.kernel_options = [release = host.release] { return read_kernel_options(release); };
  host.kernel = [] {
    LinuxSys sys;
    return probe_kernel(sys);
  };
  host.ring = ring_error;
  host.device = [](const std::string& device) {
    LinuxSys sys;
    return ask_device(sys, device);
  };
  rlimit limit{};
  getrlimit(RLIMIT_MEMLOCK, &limit);
  host.memlock =
      limit.rlim_cur == RLIM_INFINITY ? std::numeric_limits<std::uint64_t>::max() : limit.rlim_cur;
  return host;
}

}  // namespace faultline
