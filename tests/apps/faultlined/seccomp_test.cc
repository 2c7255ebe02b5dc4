// SPDX-License-Identifier: BSD-3-Clause
#include "apps/faultlined/seccomp.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sched.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <set>
#include <string>
#include <thread>

#include "tests/apps/faultlined/child.h"

namespace faultline::daemon {
namespace {

constexpr int kNoFilter = 100;

/// `body` under the filter; 0 is success.
Ended filtered(const std::function<int()>& body, SeccompOptions options = {}) {
  return in_child([&] {
    const auto done = allow_only_listed_calls(options);
    if (!done) return kNoFilter;
    return body();
  });
}

// Under user-mode emulation and in some containers.
class Seccomp : public testing::Test {
 protected:
  void SetUp() override {
    if (filtered([] { return 0; }).status == kNoFilter) {
      GTEST_SKIP() << "no system call filters here";
    }
  }
};

TEST_F(Seccomp, LetsEachNamedIoctlThroughToTheKernel) {
  ASSERT_GT(allowed_ioctls().size(), 30U);
  std::set<unsigned long> requests;
  for (const AllowedIoctl& i : allowed_ioctls()) {
    EXPECT_TRUE(requests.insert(i.request).second) << i.name;
    const Ended ended = filtered([&] {
      const int fd = eventfd(0, EFD_CLOEXEC);
      return ioctl(fd, i.request, nullptr) == -1 ? errno : 0;
    });
    // An eventfd knows none of them.
    EXPECT_EQ(ended.status, ENOTTY) << i.name;
  }
}

TEST_F(Seccomp, RefusesEveryOtherIoctl) {
  std::set<unsigned long> named;
  for (const AllowedIoctl& i : allowed_ioctls()) named.insert(i.request);
  const Ended ended = filtered([&] {
    const int fd = eventfd(0, EFD_CLOEXEC);
    // All around the interfaces' own numbers, and some of terminals, networks and block devices.
    for (unsigned long request = 0x3b00; request < 0x3c00; ++request) {
      if (named.contains(request)) continue;
      if (ioctl(fd, request, nullptr) != -1 || errno != EPERM) return 1;
    }
    for (const unsigned long request : {0x5412UL /* TIOCSTI */, 0x8912UL, 0x1277UL, 0xae01UL}) {
      if (ioctl(fd, request, nullptr) != -1 || errno != EPERM) return 2;
    }
    return 0;
  });
  EXPECT_EQ(ended.status, 0);
}

TEST_F(Seccomp, AllowsWhatTheServiceDoes) {
  const Ended ended = filtered([] {
    const int event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    const int epoll = epoll_create1(EPOLL_CLOEXEC);
    const int timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);
    if (event < 0 || epoll < 0 || timer < 0) return 1;
    epoll_event e{.events = EPOLLIN, .data = {.fd = event}};
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, event, &e) != 0) return 2;
    const std::uint64_t one = 1;
    if (write(event, &one, sizeof one) != sizeof one || epoll_wait(epoll, &e, 1, 0) != 1) return 3;
    const int memory = memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (memory < 0 || ftruncate(memory, 4096) != 0) return 4;
    if (fcntl(memory, F_ADD_SEALS, F_SEAL_SHRINK) != 0) return 5;
    void* p = mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, memory, 0);
    if (p == MAP_FAILED || mprotect(p, 4096, PROT_READ) != 0 || munmap(p, 4096) != 0) return 6;
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0) return 7;
    // A descriptor passed along.
    char byte = 'x';
    iovec vector{&byte, 1};
    alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))]{};
    msghdr message{};
    message.msg_iov = &vector;
    message.msg_iovlen = 1;
    message.msg_control = control;
    message.msg_controllen = sizeof control;
    cmsghdr* head = CMSG_FIRSTHDR(&message);
    head->cmsg_level = SOL_SOCKET;
    head->cmsg_type = SCM_RIGHTS;
    head->cmsg_len = CMSG_LEN(sizeof(int));
    *reinterpret_cast<int*>(CMSG_DATA(head)) = memory;
    if (sendmsg(pair[0], &message, MSG_NOSIGNAL) != 1) return 8;
    if (recvmsg(pair[1], &message, MSG_CMSG_CLOEXEC) != 1) return 9;
    const int loopback = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (loopback < 0 && errno == EPERM) return 10;
    if (open("/proc/self/status", O_RDONLY | O_CLOEXEC) < 0) return 11;
    std::atomic<int> ran{0};
    std::thread thread([&] {
      prctl(PR_SET_NAME, "test");
      sched_yield();
      ran = 1;
    });
    thread.join();
    if (ran != 1) return 12;
    const long self = getpid();
    if (syscall(SYS_kcmp, self, self, 0L, 0L, 0L) != 0 && errno == EPERM) return 13;
    return 0;
  });
  EXPECT_EQ(ended.status, 0);
  EXPECT_EQ(ended.signal, 0);
}

TEST_F(Seccomp, RefusesWhatTheServiceNeverDoes) {
  const Ended ended = filtered([] {
    auto refused = [](long result) { return result == -1 && errno == EPERM; };
    const auto map = [](int prot) {
      return mmap(nullptr, 4096, prot, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    };
    if (map(PROT_READ | PROT_EXEC) != MAP_FAILED || errno != EPERM) return 1;
    void* p = map(PROT_READ | PROT_WRITE);
    if (p == MAP_FAILED || !refused(mprotect(p, 4096, PROT_READ | PROT_EXEC))) return 2;
    if (!refused(syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0))) return 3;
    if (!refused(syscall(SYS_clone, CLONE_NEWUSER | SIGCHLD, 0, 0, 0, 0))) return 4;
    if (!refused(socket(AF_NETLINK, SOCK_RAW, 0))) return 5;
    if (!refused(socket(AF_PACKET, SOCK_RAW, 0))) return 6;
    if (!refused(kill(getppid(), 0))) return 7;
    if (!refused(syscall(SYS_tgkill, getppid(), getppid(), 0))) return 8;
    if (!refused(setuid(getuid()))) return 9;
    const rlimit limit{0, 0};
    if (!refused(setrlimit(RLIMIT_NOFILE, &limit))) return 10;
    if (!refused(prctl(PR_SET_DUMPABLE, 1))) return 11;
    if (!refused(syscall(SYS_io_uring_setup, 1, nullptr))) return 12;
    if (!refused(mkdirat(AT_FDCWD, "faultline-test", 0700))) return 13;
    if (!refused(syscall(SYS_connect, -1, nullptr, 0))) return 14;
    return 0;
  });
  EXPECT_EQ(ended.status, 0);
}

TEST_F(Seccomp, HasIoUringOnlyWhereItIsAskedFor) {
  const Ended ended = filtered(
      [] { return syscall(SYS_io_uring_setup, 0, nullptr) == -1 && errno == EPERM ? 1 : 0; },
      {.io_uring = true});
  EXPECT_EQ(ended.status, 0);
}

TEST_F(Seccomp, EndsTheProcessAtWhatOnlyAnIntruderDoes) {
  const std::pair<const char*, long (*)()> hostile[] = {
      {"execve",
       [] {
         char* none[] = {nullptr};
         return static_cast<long>(execve("/bin/true", none, none));
       }},
      {"ptrace", [] { return ptrace(PTRACE_TRACEME, 0, nullptr, nullptr); }},
      {"mount", [] { return static_cast<long>(mount("x", "/", "tmpfs", 0, nullptr)); }},
      {"unshare", [] { return static_cast<long>(unshare(CLONE_NEWUSER)); }},
      {"bpf", [] { return syscall(SYS_bpf, 0, nullptr, 0); }},
  };
  for (const auto& [name, call] : hostile) {
    const Ended ended = filtered([call = call] { return call() == 0 ? 1 : 2; });
    EXPECT_EQ(ended.signal, SIGSYS) << name;
  }
}

TEST_F(Seccomp, AppliesToThreadsThatWereThereBefore) {
  const Ended ended = in_child([] {
    std::atomic<int> phase{0};
    std::atomic<bool> refused{false};
    std::thread thread([&] {
      phase = 1;
      while (phase != 2) sched_yield();
      refused =
          kill(getppid(), 0) == -1 && errno == EPERM && prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1;
    });
    while (phase != 1) sched_yield();
    if (!allow_only_listed_calls({})) return 1;
    phase = 2;
    thread.join();
    return refused ? 0 : 2;
  });
  EXPECT_EQ(ended.status, 0);
}

}  // namespace
}  // namespace faultline::daemon
