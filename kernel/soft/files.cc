// SPDX-License-Identifier: BSD-3-Clause
#include "kernel/soft/files.h"

#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "kernel/base/shared.h"
#include "kernel/base/units.h"
#include "kernel/uapi/vfio_nested.h"

namespace faultline::soft {
namespace {

constexpr std::size_t kConfigSize = 256;
// Vendor and device as PCI stores them; everything else reads as 0.
constexpr std::uint8_t kConfigSpace[] = {0x1d, 0x0f, 0x01, 0x00};

struct Place {
  std::uint64_t index, at;
};

Place place_of(off_t at) {
  const auto offset = static_cast<std::uint64_t>(at);
  return {offset >> DeviceFile::kOffsetShift,
          offset & ((std::uint64_t{1} << DeviceFile::kOffsetShift) - 1)};
}

ssize_t read_config(void* out, std::size_t size, std::uint64_t at) {
  if (at >= kConfigSize) return -EFAULT;
  const std::size_t n = std::min(size, kConfigSize - static_cast<std::size_t>(at));
  for (std::size_t i = 0; i < n; ++i) {
    static_cast<std::uint8_t*>(out)[i] =
        at + i < sizeof kConfigSpace ? kConfigSpace[at + i] : std::uint8_t{0};
  }
  return static_cast<ssize_t>(n);
}

}  // namespace

ssize_t File::pread(void*, std::size_t, off_t) noexcept {
  return -EINVAL;
}
ssize_t File::pwrite(const void*, std::size_t, off_t) noexcept {
  return -EINVAL;
}
int File::mmap(std::size_t, int, int, off_t, RegionMapping&) noexcept {
  return -ENODEV;
}

int GroupFile::ioctl(unsigned long request, UserCall& call) noexcept {
  switch (request) {
    case uapi::kVfioGroupGetStatus: {
      uapi::vfio_group_status status{};
      if (const int e = copy_argument(call, status, kernel_.config().mutation); e != 0) return e;
      status.flags = kernel_.group_flags(group_);
      return call.copy_out(0, &status, sizeof status);
    }
    case uapi::kVfioGroupSetContainer:
      return kernel_.set_container(group_, call);
    case uapi::kVfioGroupUnsetContainer:
      return kernel_.unset_container(group_);
    case uapi::kVfioGroupGetDeviceFd:
      return kernel_.get_device(group_, call);
    default:
      return -ENOTTY;
  }
}

ssize_t DeviceFile::pread(void* out, std::size_t size, off_t at) noexcept {
  const Place place = place_of(at);
  if (at < 0 || place.index >= kRegions) return -EINVAL;
  if (size == 0) return 0;
  switch (place.index) {
    case kBar: {
      const SharedMemory& bar = device_.bar();
      if (place.at >= bar.size()) return -EINVAL;
      const std::size_t n = std::min(size, bar.size() - static_cast<std::size_t>(place.at));
      const auto* from = static_cast<std::uint8_t*>(bar.data()) + place.at;
      for (std::size_t i = 0; i < n; ++i) {
        static_cast<std::uint8_t*>(out)[i] = load_relaxed(from[i]);
      }
      return static_cast<ssize_t>(n);
    }
    case kConfig:
      return read_config(out, size, place.at);
    case kProducer:
      return device_.port().read_producer(out, size, place.at);
    case kConsumer:
      return 0;
    default:
      return -EINVAL;
  }
}

ssize_t DeviceFile::pwrite(const void* in, std::size_t size, off_t at) noexcept {
  const Place place = place_of(at);
  if (at < 0 || place.index >= kRegions) return -EINVAL;
  if (size == 0) return 0;
  switch (place.index) {
    case kBar: {
      const SharedMemory& bar = device_.bar();
      if (place.at >= bar.size()) return -EINVAL;
      const std::size_t n = std::min(size, bar.size() - static_cast<std::size_t>(place.at));
      auto* to = static_cast<std::uint8_t*>(bar.data()) + place.at;
      for (std::size_t i = 0; i < n; ++i) {
        store_relaxed(to[i], static_cast<const std::uint8_t*>(in)[i]);
      }
      return static_cast<ssize_t>(n);
    }
    case kConfig:  // nothing in it can be changed
      return static_cast<ssize_t>(size);
    case kProducer:
      return 0;
    case kConsumer:
      return device_.port().write_consumer(in, size, place.at);
    default:
      return -EINVAL;
  }
}

int DeviceFile::mmap(std::size_t size, int prot, int flags, off_t at,
                     RegionMapping& mapping) noexcept {
  const Place place = place_of(at);
  if (at < 0 || place.index >= kRegions || (flags & MAP_SHARED) == 0) return -EINVAL;
  constexpr std::size_t kMost = std::size_t{1} << kOffsetShift;
  if (size == 0 || size > kMost || place.at % kPage4K != 0) return -EINVAL;
  const std::size_t rounded = (size + kPage4K - 1) / kPage4K * kPage4K;
  switch (place.index) {
    case kBar:
      if (rounded > device_.bar().size() || place.at > device_.bar().size() - rounded) {
        return -EINVAL;
      }
      mapping = {device_.bar().fd(), static_cast<off_t>(place.at)};
      return 0;
    case kProducer:
      return device_.port().map_producer(place.at, rounded, (prot & PROT_WRITE) != 0, mapping);
    case kConsumer:
      return device_.port().map_consumer(place.at, rounded, mapping);
    default:
      return -EINVAL;
  }
}

}  // namespace faultline::soft
