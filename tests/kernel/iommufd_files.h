// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <deque>
#include <iterator>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "kernel/sys.h"
#include "kernel/uapi/iommufd_nested.h"

namespace faultline::testing {

/// A kernel that is nothing but event files: vEVENTQs with their depth, LOST header and sequence
/// numbers, and fault queues with whole groups and cookies, as Linux's eventq.c has them. It lives
/// on when an engine dies.
///
/// No io_uring: a watch of it reads.
class EventFiles {
 public:
  static constexpr int kVeventq = 10, kFaultQueue = 11;

  struct Vevent {
    std::uint32_t sequence = 0;
    std::uint32_t vsid = 0;
    std::uint64_t addr = 0;
  };

  /// An event, of which the queue holds at most depth.
  void produce(std::uint32_t vsid, std::uint64_t addr) {
    const std::uint32_t number = sequence;
    sequence = sequence == uapi::kIommuVeventqLastSequence ? 0 : sequence + 1;
    ++produced;
    if (events.size() >= depth) {
      lost = true;
      lost_sequence = number;
      return;
    }
    lost = false;  // the header is at the tail only; now the gap tells
    events.push_back({number, vsid, addr});
  }

  struct Page {
    std::uint32_t dev_id = 0;
    std::uint32_t group = 0;
    std::uint32_t perm = 0;
    std::uint64_t addr = 0;
    std::uint32_t flags = 0;
  };
  void request(std::vector<Page> pages) {
    pages.back().flags |= uapi::kIommuPgfaultFlagsLastPage;
    groups.push_back(std::move(pages));
  }

  /// The device of an open request is gone, and with it the request: its cookie is free again.
  /// returns  whether there was one
  bool forget(std::size_t which) {
    if (open_cookies.empty()) return false;
    open_cookies.erase(
        std::next(open_cookies.begin(), static_cast<std::ptrdiff_t>(which % open_cookies.size())));
    return true;
  }

  // The calls.
  ssize_t read(int fd, void* out, std::size_t size) noexcept {
    ++reads;
    if (fail_reads > 0) {
      --fail_reads;
      return -EINTR;
    }
    return fd == kVeventq ? read_events(out, size) : read_groups(out, size);
  }
  ssize_t write(int, const void* in, std::size_t size) noexcept {
    ++writes;
    if (size % 8 != 0) return -ESPIPE;
    std::size_t done = 0;
    while (done < size) {
      uapi::iommu_hwpt_page_response response{};
      std::memcpy(&response, static_cast<const char*>(in) + done, sizeof response);
      const auto at = open_cookies.find(response.cookie);
      if (response.code > 1 || at == open_cookies.end()) return done == 0 ? -EINVAL : ssize(done);
      answered.push_back({at->second, response.code});
      open_cookies.erase(at);
      done += sizeof response;
    }
    return ssize(done);
  }
  int open(const char*, int) noexcept { return -ENOENT; }
  int close(int) noexcept { return 0; }
  int ioctl(int, unsigned long, void*) noexcept { return -ENOTTY; }
  std::intptr_t mmap(void*, std::size_t, int, int, int, off_t) noexcept { return -ENODEV; }
  int munmap(void*, std::size_t) noexcept { return 0; }
  ssize_t pread(int, void*, std::size_t, off_t) noexcept { return -ESPIPE; }
  ssize_t pwrite(int, const void*, std::size_t, off_t) noexcept { return -ESPIPE; }
  int eventfd(unsigned, int) noexcept { return -ENOSYS; }
  int epoll_create1(int) noexcept { return -ENOSYS; }
  int epoll_ctl(int, int, int, epoll_event*) noexcept { return -ENOSYS; }
  int epoll_wait(int, epoll_event*, int, int) noexcept { return -ENOSYS; }

  std::size_t depth = 16;
  std::uint32_t sequence = 0;  ///< of the next event
  std::uint64_t produced = 0;
  std::deque<Vevent> events;
  bool lost = false;
  std::uint32_t lost_sequence = 0;
  std::deque<std::vector<Page>> groups;
  std::map<std::uint32_t, std::uint32_t> open_cookies;  ///< cookie → group
  struct Answer {
    std::uint32_t group = 0;
    std::uint32_t code = 0;
  };
  std::vector<Answer> answered;
  int reads = 0;
  int writes = 0;
  int fail_reads = 0;
  std::size_t most_read = SIZE_MAX;  ///< a read yields no more bytes than this

 private:
  static ssize_t ssize(std::size_t n) { return static_cast<ssize_t>(n); }

  ssize_t read_events(void* out, std::size_t size) noexcept {
    size = std::min(size, most_read);
    auto* to = static_cast<unsigned char*>(out);
    std::size_t done = 0;
    if (size < 8) return -EINVAL;
    while (!events.empty() && size - done >= 40) {
      const uapi::iommufd_vevent_header header{0, events.front().sequence};
      uapi::iommu_vevent_arm_smmuv3 event{};
      event.evt[0] = std::uint64_t{events.front().vsid} << 32U | 0x10;
      event.evt[1] = std::uint64_t{2} << 40U;
      event.evt[2] = events.front().addr;
      std::memcpy(to + done, &header, sizeof header);
      std::memcpy(to + done + 8, &event, sizeof event);
      done += 40;
      events.pop_front();
    }
    if (events.empty() && lost && size - done >= 8) {
      const uapi::iommufd_vevent_header header{uapi::kIommuVeventqFlagLostEvents, lost_sequence};
      std::memcpy(to + done, &header, sizeof header);
      done += 8;
      lost = false;
    }
    return done == 0 && !events.empty() ? -EINVAL : ssize(done);
  }

  ssize_t read_groups(void* out, std::size_t size) noexcept {
    if (size % sizeof(uapi::iommu_hwpt_pgfault) != 0) return -ESPIPE;
    std::size_t done = 0;
    while (!groups.empty()) {
      const auto& pages = groups.front();
      if (pages.size() * 40 > size - done) break;
      std::uint32_t cookie = 1;
      while (open_cookies.count(cookie) != 0) ++cookie;
      open_cookies[cookie] = pages.front().group;
      for (const Page& page : pages) {
        uapi::iommu_hwpt_pgfault raw{};
        raw.flags = page.flags;
        raw.dev_id = page.dev_id;
        raw.grpid = page.group;
        raw.perm = page.perm;
        raw.addr = page.addr;
        raw.cookie = cookie;
        std::memcpy(static_cast<unsigned char*>(out) + done, &raw, sizeof raw);
        done += sizeof raw;
      }
      groups.pop_front();
    }
    return done == 0 && !groups.empty() ? -EINVAL : ssize(done);
  }
};
static_assert(Syscalls<EventFiles>);

}  // namespace faultline::testing
