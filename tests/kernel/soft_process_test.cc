// SPDX-License-Identifier: BSD-3-Clause
// The kernel in its own process: descriptors that travel, clients that die, messages that lie.
#include "kernel/soft/soft_process.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstring>
#include <functional>
#include <thread>

#include "kernel/base/futex.h"
#include "kernel/soft/client.h"
#include "tests/kernel/soft_worlds.h"

namespace faultline::soft {
namespace {

constexpr Nanos kStep = 10'000'000;
constexpr int kSteps = 1000;

/// Words that processes share.
struct Shared {
  Shared()
      : words(static_cast<std::uint32_t*>(
            mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0))) {}
  ~Shared() { munmap(words, 4096); }
  Shared(const Shared&) = delete;
  Shared& operator=(const Shared&) = delete;

  std::uint32_t& operator[](std::size_t i) const { return words[i]; }
  /// Wait until word i is at least n, at most 10 s.
  [[nodiscard]] bool wait(std::size_t i, std::uint32_t n) const {
    for (int k = 0; k < kSteps; ++k) {
      const std::uint32_t now = load_acquire(words[i]);
      if (now >= n) return true;
      futex_wait(words[i], now, kStep);
    }
    return false;
  }
  void raise(std::size_t i) const {
    store_release(words[i], load_relaxed(words[i]) + 1);
    futex_wake(words[i]);
  }
  std::uint32_t* words;
};

/// Run `body` in a child; its return value is the exit status.
pid_t child(const std::function<int()>& body) {
  const pid_t pid = fork();
  if (pid == 0) _exit(body());
  return pid;
}

int status_of(pid_t pid) {
  int status = -1;
  EXPECT_EQ(waitpid(pid, &status, 0), pid);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 256 + WTERMSIG(status);
}

class SoftProcessTest : public testing::Test {
 protected:
  Rig<OwnProcess> rig;
  SoftProcess& process{*rig.where.process};
};

TEST_F(SoftProcessTest, AnInheritedDescriptorIsTheSameFile) {
  rig.guest->map(0x1000, rig.page_with(7));
  const pid_t pid = child([&] {
    SoftProcessSys sys(process.socket());
    Calls<SoftProcessSys> calls{sys};
    const std::uint32_t abi = 1;
    if (calls.attach(rig.container, rig.guest->cd()) != 0) return 1;
    return sys.pwrite(rig.device, &abi, 4, rig.kCons) == 4 ? 0 : 2;
  });
  EXPECT_EQ(status_of(pid), 0);
  EXPECT_EQ(rig.read(0x1000).value, 7U);
  EXPECT_EQ(rig.choose(2), -EINVAL);  // the child chose
}

TEST_F(SoftProcessTest, ANewProcessMakesDmaMapsOfItsOwnMappings) {
  const std::uint64_t at = 0x80000000;
  const pid_t pid = child([&] {
    SoftProcessSys sys(process.socket());
    Calls<SoftProcessSys> calls{sys};
    const std::intptr_t p =
        sys.mmap(nullptr, 8192, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    auto* words = reinterpret_cast<std::uint64_t*>(p);
    words[512] = 99;
    return calls.map_dma(rig.container, words + 512, at, 4096) == 0 ? 0 : 1;
  });
  EXPECT_EQ(status_of(pid), 0);
  // Who made the map is gone; the map stays.
  EXPECT_EQ(rig.read(at).value, 99U);
}

TEST_F(SoftProcessTest, AFileIsOpenUntilItsLastDuplicateIsClosed) {
  const int copy = fcntl(rig.group, F_DUPFD_CLOEXEC, 0);
  rig.sys.close(rig.device);
  rig.sys.close(rig.group);
  EXPECT_EQ(rig.sys.open("/dev/vfio/1", O_RDWR), -EBUSY);
  uapi::vfio_group_status status{sizeof status, 0};
  EXPECT_EQ(rig.sys.ioctl(copy, uapi::kVfioGroupGetStatus, &status), 0);
  rig.sys.close(copy);
  rig.group = rig.sys.open("/dev/vfio/1", O_RDWR);
  EXPECT_GE(rig.group, 0);
  rig.device = -1;
}

TEST_F(SoftProcessTest, AClientKilledAmongItsCallsLeavesFilesAndKernelWhole) {
  rig.guest->map(0x1000, rig.page_with(7));
  rig.go();
  for (int round = 0; round < 20; ++round) {
    const Shared shared;
    const pid_t pid = child([&] {
      SoftProcessSys sys(process.socket());
      Calls<SoftProcessSys> calls{sys};
      uapi::vfio_region_fault_prod header{};
      for (;;) {
        calls.invalidate_domain(rig.container);
        calls.attach(rig.container, rig.guest->cd());
        sys.pread(rig.device, &header, sizeof header, rig.kProd);
        shared.raise(0);
      }
      return 0;
    });
    ASSERT_TRUE(shared.wait(0, 3 + static_cast<std::uint32_t>(round)));
    kill(pid, SIGKILL);
    EXPECT_EQ(status_of(pid), 256 + SIGKILL);
    EXPECT_EQ(rig.calls.invalidate_domain(rig.container), 0);
    EXPECT_EQ(rig.header().nb_entries, 85U);
    EXPECT_EQ(rig.read(0x1000).value, 7U);
  }
}

TEST_F(SoftProcessTest, TwoProcessesUseOneFileWithoutTakingEachOthersAnswers) {
  rig.go();
  const Shared shared;
  const pid_t pid = child([&] {
    SoftProcessSys sys(process.socket());
    Calls<SoftProcessSys> calls{sys};
    shared.raise(0);
    for (int i = 0; i < 500; ++i) {
      if (calls.invalidate_domain(rig.container, 8) != -EINVAL) return 1;
    }
    return 0;
  });
  ASSERT_TRUE(shared.wait(0, 1));
  for (int i = 0; i < 500; ++i) ASSERT_EQ(rig.calls.invalidate_domain(rig.container), 0);
  EXPECT_EQ(status_of(pid), 0);
}

TEST_F(SoftProcessTest, ThreadsOnOneDescriptorGetTheirOwnAnswers) {
  const auto reader = [&](off_t at, std::uint32_t expected) {
    for (int i = 0; i < 500; ++i) {
      std::uint32_t word = 0;
      ASSERT_EQ(rig.sys.pread(rig.device, &word, 4, at), 4);
      ASSERT_EQ(word, expected);
    }
  };
  std::thread other([&] { reader(off_t{7} << 40U, 0x00010f1d); });
  reader(0, kDmaBarMagic);
  other.join();
}

TEST_F(SoftProcessTest, OnlyMemoryThatCannotShrinkIsMapped) {
  constexpr std::uint64_t kAt = 0x80000000;
  const int fd = memfd_create("loose", MFD_CLOEXEC | MFD_ALLOW_SEALING);
  ASSERT_EQ(ftruncate(fd, 8192), 0);
  void* memory = rig.map(fd, 8192, 0, PROT_READ | PROT_WRITE);
  EXPECT_EQ(rig.calls.map_dma(rig.container, memory, kAt, 8192), 0);
  EXPECT_EQ(ftruncate(fd, 4096), -1);  // sealed by the kernel
  const int fixed = memfd_create("unsealable", MFD_CLOEXEC);
  ASSERT_EQ(ftruncate(fixed, 4096), 0);
  void* other = rig.map(fixed, 4096, 0, PROT_READ | PROT_WRITE);
  EXPECT_EQ(rig.calls.map_dma(rig.container, other, kAt + 8192, 4096), -EFAULT);
  int local = 0;  // memory that the kernel cannot reach
  auto* page = reinterpret_cast<void*>(reinterpret_cast<std::uintptr_t>(&local) & ~4095UL);
  EXPECT_EQ(rig.calls.map_dma(rig.container, page, kAt + 8192, 4096), -EFAULT);
  void* beyond = rig.map(fd, 8192, 4096, PROT_READ);  // the second page does not exist
  EXPECT_EQ(rig.calls.map_dma(rig.container, beyond, kAt + 8192, 8192), -EFAULT);
  close(fd);
  close(fixed);
}

TEST_F(SoftProcessTest, MessagesThatMakeNoSenseHarmOnlyTheirSender) {
  const auto send = [](int fd, std::span<const std::byte> bytes, std::span<const int> fds = {}) {
    return send_message(fd, bytes, {}, fds);
  };
  std::vector<std::byte> junk(100'000, std::byte{0x5a});
  MessageHeader hello;
  hello.kind = MessageKind::kHello;
  const int null = open("/dev/null", O_RDWR | O_CLOEXEC);
  const int many[] = {null, null, null, null};
  for (const int fd : {process.socket(), rig.container, rig.device}) {
    EXPECT_EQ(send(fd, {}), 0);
    EXPECT_EQ(send(fd, std::span(junk).first(3)), 0);
    EXPECT_EQ(send(fd, std::span(junk).first(48)), 0);
    EXPECT_EQ(send(fd, junk), 0);
    EXPECT_EQ(send(fd, bytes_of(hello)), 0);
    EXPECT_EQ(send(fd, bytes_of(hello), many), 0);
    EXPECT_EQ(send(fd, bytes_of(hello), std::span<const int>(&null, 1)), 0);
    EXPECT_EQ(rig.calls.invalidate_domain(rig.container), 0);
  }
  // On sessions: each ends at the first message that breaks the protocol.
  for (const int fd : {process.socket(), rig.container, rig.device}) {
    for (std::uint32_t kind = 0; kind < 10; ++kind) {
      for (const std::size_t payload : {0UL, 1UL, 32'768UL, 32'769UL}) {
        int ends[2];
        ASSERT_EQ(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
        ASSERT_EQ(send(fd, bytes_of(hello), std::span<const int>(&ends[1], 1)), 0);
        close(ends[1]);
        MessageHeader header;
        header.kind = static_cast<MessageKind>(kind);
        header.number = uapi::kVfioIommuMapDma;
        header.size = ~std::uint64_t{0};
        header.value = ~std::uint64_t{0};
        header.at = -1;
        static_cast<void>(send_message(ends[0], bytes_of(header), std::span(junk).first(payload),
                                       std::span<const int>(&null, 1)));
        static_cast<void>(send_message(ends[0], std::span(junk).first(7), {}, {}));
        close(ends[0]);
      }
    }
  }
  close(null);
  EXPECT_TRUE(process.alive());
  EXPECT_EQ(rig.calls.invalidate_domain(rig.container), 0);
  EXPECT_EQ(rig.read(rig.page_with(5)).value, 5U);
}

TEST_F(SoftProcessTest, RandomCallsHarmNobody) {
  rig.go();
  std::uint64_t random = 0x1234'5678'9abc'def1;
  const auto next = [&] {
    random ^= random << 13U;
    random ^= random >> 7U;
    random ^= random << 17U;
    return random;
  };
  const int fds[] = {rig.container, rig.group, rig.device};
  const int event = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
  const int memory = memfd_create("random", MFD_CLOEXEC | MFD_ALLOW_SEALING);
  ASSERT_EQ(ftruncate(memory, 65536), 0);
  Client client(process.socket());
  for (int i = 0; i < 4000; ++i) {
    MessageHeader header;
    const std::uint64_t kind = next() % 8;
    header.kind = kind == 0   ? MessageKind::kPread
                  : kind == 1 ? MessageKind::kPwrite
                  : kind == 2 ? MessageKind::kMmap
                              : MessageKind::kIoctl;
    header.number = uapi::vfio_io(static_cast<unsigned>(next() % 28));
    header.value = next() % 3 == 0 ? next() % 8 : 0;
    header.size = next() % (next() % 2 == 0 ? 128 : kMaxPayload);
    header.at = static_cast<std::int64_t>((next() % 13) << 40U | next() % 70'000);
    header.prot = static_cast<std::int32_t>(next() % 4);
    header.flags = static_cast<std::int32_t>(next() % 3);
    std::vector<std::byte> payload(next() % 64);
    for (std::byte& b : payload) b = std::byte(next() % 4 == 0 ? next() & 0xffU : next() % 2);
    if (payload.size() >= 4) payload[0] = std::byte(next() % 64), payload[1] = std::byte{0};
    const int passed = next() % 3 == 0 ? event : next() % 2 == 0 ? memory : rig.container;
    const Reply reply =
        client.call(fds[next() % 3], header, payload, std::span<const int>(&passed, next() % 2));
    ASSERT_NE(reply.result, -EIO) << "call " << i;
    if (reply.fd >= 0) close(reply.fd);
  }
  close(event);
  close(memory);
  EXPECT_TRUE(process.alive());
  const int fresh = rig.sys.open("/dev/vfio/vfio", O_RDWR);
  EXPECT_GE(fresh, 0);
  EXPECT_EQ(rig.sys.ioctl(fresh, uapi::kVfioGetApiVersion, nullptr), 0);
  rig.sys.close(fresh);
}

TEST_F(SoftProcessTest, CtrlCIsForTheOthers) {
  ASSERT_EQ(kill(process.pid(), SIGINT), 0);
  EXPECT_EQ(rig.calls.invalidate_domain(rig.container), 0);
}

TEST_F(SoftProcessTest, AKernelThatIsGoneIsAnErrorAndNoHang) {
  rig.calls.invalidate_domain(rig.container);
  ASSERT_EQ(kill(process.pid(), SIGKILL), 0);
  for (int i = 0; i < kSteps && process.alive(); ++i) {
    std::uint32_t word = 0;
    futex_wait(word, 0, kStep);
  }
  EXPECT_FALSE(process.alive());
  EXPECT_EQ(rig.calls.invalidate_domain(rig.container), -EIO);
  EXPECT_EQ(rig.calls.invalidate_domain(rig.container), -EIO);
  EXPECT_EQ(rig.sys.open("/dev/vfio/vfio", O_RDWR), -EIO);
  EXPECT_FALSE(process.stop().has_value());
}

TEST(SoftProcessCall, AClientKilledWhileItsCallIsInTheKernelDoesNotKeepIt) {
  const Shared shared;
  SoftKernelConfig config = one_device();
  config.access_hook = [&](std::size_t) {
    if (load_acquire(shared[2]) == 0) return;
    shared.raise(0);
    static_cast<void>(shared.wait(1, 1));
  };
  Rig<OwnProcess> rig(config);
  const std::uint64_t page = rig.page_with(7);
  store_release(shared[2], 1U);
  ASSERT_TRUE(rig.dma->submit({.iova = page}));
  rig.dma->ring();
  ASSERT_TRUE(shared.wait(0, 1));  // an access is held in flight
  const pid_t pid = child([&] {
    SoftProcessSys sys(rig.where.process->socket());
    Calls<SoftProcessSys> calls{sys};
    shared.raise(3);
    calls.invalidate_domain(rig.container);  // waits for it
    return 0;
  });
  ASSERT_TRUE(shared.wait(3, 1));
  kill(pid, SIGKILL);
  EXPECT_EQ(status_of(pid), 256 + SIGKILL);
  store_release(shared[2], 0U);
  shared.raise(1);
  EXPECT_EQ(rig.calls.invalidate_domain(rig.container), 0);
  rig.dma->wait(10'000'000'000);
  DmaCompletion c;
  EXPECT_EQ(rig.dma->complete({&c, 1}), 1U);
  EXPECT_EQ(c.value, 7U);
}

}  // namespace
}  // namespace faultline::soft
