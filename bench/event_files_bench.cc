// SPDX-License-Identifier: BSD-3-Clause
// What event files cost that have nothing to say, per round: one io_uring with a multishot
// poll of each against a non-blocking read of each and an epoll_wait(0) over all. And what one
// event costs until its bytes are read. The files are eventfds: the kernel paths of poll and read
// are those of any other file.
#include <benchmark/benchmark.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <vector>

#include "kernel/iommufd/event_watch.h"
#include "tests/support/allocations.h"

namespace faultline {
namespace {

using iommufd::EventWatch;
using iommufd::WatchChoice;

/// Eventfds; more than a process may usually have open.
class Files {
 public:
  explicit Files(std::size_t n) {
    rlimit limit{};
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    for (std::size_t i = 0; i < n; ++i) {
      const int fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
      if (fd >= 0) fds.push_back(fd);
    }
  }
  Files(const Files&) = delete;
  Files& operator=(const Files&) = delete;
  ~Files() {
    for (const int fd : fds) close(fd);
  }
  std::vector<int> fds;
};

bool take(int fd) {
  std::uint64_t count = 0;
  return read(fd, &count, sizeof count) == sizeof count;
}

void IdleRing(benchmark::State& state) {
  const Files files(static_cast<std::size_t>(state.range(0)));
  LinuxSys sys;
  auto watch = EventWatch<LinuxSys>::open(sys, files.fds, WatchChoice::kRing);
  if (!watch) return state.SkipWithError(watch.error().message().c_str());
  (void)watch->look(1);
  const auto enters = watch->stats().enters;
  const std::size_t allocations = testing_support::allocations();
  std::size_t work = 0;
  for (auto _ : state) {
    work += watch->look(2);
    work += watch->next_ready(0, files.fds.size());
    benchmark::DoNotOptimize(work);
  }
  state.counters["allocations"] = static_cast<double>(testing_support::allocations() - allocations);
  state.counters["calls_per_round"] =
      static_cast<double>(watch->stats().enters - enters) / static_cast<double>(state.iterations());
}
BENCHMARK(IdleRing)->Arg(1)->Arg(64)->Arg(1024)->ArgName("files");

void IdleReads(benchmark::State& state) {
  const Files files(static_cast<std::size_t>(state.range(0)));
  std::size_t found = 0;
  for (auto _ : state) {
    for (const int fd : files.fds) found += take(fd) ? 1 : 0;
  }
  benchmark::DoNotOptimize(found);
  state.counters["calls_per_round"] = static_cast<double>(files.fds.size());
}
BENCHMARK(IdleReads)->Arg(1)->Arg(64)->Arg(1024)->ArgName("files");

class Epoll {
 public:
  explicit Epoll(const Files& files) : fd_(epoll_create1(EPOLL_CLOEXEC)) {
    for (const int fd : files.fds) {
      epoll_event event{.events = EPOLLIN | EPOLLET, .data = {.fd = fd}};
      epoll_ctl(fd_, EPOLL_CTL_ADD, fd, &event);
    }
  }
  Epoll(const Epoll&) = delete;
  Epoll& operator=(const Epoll&) = delete;
  ~Epoll() { close(fd_); }
  int wait() { return epoll_wait(fd_, events, 64, 0); }
  epoll_event events[64];

 private:
  int fd_;
};

void IdleEpoll(benchmark::State& state) {
  const Files files(static_cast<std::size_t>(state.range(0)));
  Epoll epoll(files);
  int found = 0;
  for (auto _ : state) found += epoll.wait();
  benchmark::DoNotOptimize(found);
  state.counters["calls_per_round"] = 1;
}
BENCHMARK(IdleEpoll)->Arg(1)->Arg(64)->Arg(1024)->ArgName("files");

/// One of the files gets an event, and is found and read. Writing it is part of all three.
void OneEventRing(benchmark::State& state) {
  const Files files(static_cast<std::size_t>(state.range(0)));
  LinuxSys sys;
  auto watch = EventWatch<LinuxSys>::open(sys, files.fds, WatchChoice::kRing);
  if (!watch) return state.SkipWithError(watch.error().message().c_str());
  (void)watch->look(1);
  const std::size_t n = files.fds.size();
  std::size_t turn = 0;
  std::size_t found = 0;
  for (auto _ : state) {
    eventfd_write(files.fds[turn++ % n], 1);
    (void)watch->look(2);
    for (std::size_t i = watch->next_ready(0, n); i < n; i = watch->next_ready(i + 1, n)) {
      found += take(files.fds[i]) ? 1 : 0;
      if (!take(files.fds[i])) watch->empty(i);  // read until there is nothing
    }
  }
  if (found != turn) state.SkipWithError("events were missed");
}
BENCHMARK(OneEventRing)->Arg(1)->Arg(64)->Arg(1024)->ArgName("files");

void OneEventReads(benchmark::State& state) {
  const Files files(static_cast<std::size_t>(state.range(0)));
  const std::size_t n = files.fds.size();
  std::size_t turn = 0;
  std::size_t found = 0;
  for (auto _ : state) {
    eventfd_write(files.fds[turn++ % n], 1);
    for (const int fd : files.fds) found += take(fd) ? 1 : 0;
  }
  if (found != turn) state.SkipWithError("events were missed");
}
BENCHMARK(OneEventReads)->Arg(1)->Arg(64)->Arg(1024)->ArgName("files");

void OneEventEpoll(benchmark::State& state) {
  const Files files(static_cast<std::size_t>(state.range(0)));
  Epoll epoll(files);
  const std::size_t n = files.fds.size();
  std::size_t turn = 0;
  std::size_t found = 0;
  for (auto _ : state) {
    eventfd_write(files.fds[turn++ % n], 1);
    const int ready = epoll.wait();
    for (int i = 0; i < ready; ++i) {
      found += take(epoll.events[i].data.fd) ? 1 : 0;
      (void)take(epoll.events[i].data.fd);  // as the ring's: until there is nothing
    }
  }
  if (found != turn) state.SkipWithError("events were missed");
}
BENCHMARK(OneEventEpoll)->Arg(1)->Arg(64)->Arg(1024)->ArgName("files");

}  // namespace
}  // namespace faultline
