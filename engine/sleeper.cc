// SPDX-License-Identifier: BSD-3-Clause
#include "engine/sleeper.h"

#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <span>

namespace faultline::engine {

Result<std::unique_ptr<Sleeper>> Sleeper::make() {
  const int epoll = ::epoll_create1(EPOLL_CLOEXEC);
  if (epoll < 0) return fail(errno, "a sleeping shard: epoll_create1");
  const int own = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (own < 0) {
    const int error = errno;
    ::close(epoll);
    return fail(error, "a sleeping shard: eventfd");
  }
  auto sleeper = std::unique_ptr<Sleeper>(new Sleeper(epoll, own));
  if (!sleeper->watch(own)) return fail(errno, "a sleeping shard: epoll_ctl");
  return sleeper;
}

Sleeper::~Sleeper() {
  ::close(epoll_);
  ::close(own_);
}

bool Sleeper::watch(int fd) noexcept {
  if (fd < 0) return true;
  // Level-triggered: what is readable before the sleep begins ends it at once.
  epoll_event event{.events = EPOLLIN, .data = {.fd = fd}};
  return ::epoll_ctl(epoll_, EPOLL_CTL_ADD, fd, &event) == 0 || errno == EEXIST;
}

void Sleeper::unwatch(int fd) noexcept {
  if (fd >= 0) ::epoll_ctl(epoll_, EPOLL_CTL_DEL, fd, nullptr);
}

void Sleeper::wake() noexcept {
  const std::uint64_t one = 1;
  // A counter that is full is readable, too.
  [[maybe_unused]] const ssize_t n = ::write(own_, &one, sizeof one);
}

namespace {

// Linux before 5.11 and user-mode emulators have no epoll_pwait2: there the limit is rounded up to
// a millisecond.
int wait_for(int epoll, std::span<epoll_event> events, Nanos limit) noexcept {
  constexpr Nanos kSecond = 1'000'000'000;
  constexpr Nanos kMilli = 1'000'000;
  const timespec time{static_cast<time_t>(limit / kSecond), static_cast<long>(limit % kSecond)};
  const int room = static_cast<int>(events.size());
  const int n = ::epoll_pwait2(epoll, events.data(), room, &time, nullptr);
  if (n >= 0 || errno != ENOSYS) return n;
  const Nanos millis = std::min<Nanos>((limit + kMilli - 1) / kMilli, 1'000'000);
  return ::epoll_wait(epoll, events.data(), room, static_cast<int>(millis));
}

}  // namespace

Woken Sleeper::sleep(Nanos limit) noexcept {
  std::array<epoll_event, 4> events{};
  const int n = wait_for(epoll_, events, limit);
  for (int i = 0; i < n; ++i) {
    if (events[static_cast<std::size_t>(i)].data.fd != own_) continue;
    std::uint64_t count = 0;
    [[maybe_unused]] const ssize_t r = ::read(own_, &count, sizeof count);
  }
  // A signal handler's return is a reason to look, as well.
  return n == 0 ? Woken::kByTime : Woken::kBySignal;
}

}  // namespace faultline::engine
