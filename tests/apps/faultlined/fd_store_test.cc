// SPDX-License-Identifier: BSD-3-Clause
#include "apps/faultlined/fd_store.h"

#include <gtest/gtest.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <algorithm>
#include <cstdint>

#include "tests/apps/faultlined/child.h"
#include "tests/apps/faultlined/fake_manager.h"

namespace faultline::daemon {
namespace {

constexpr std::size_t kLimit = 64;

int event(unsigned value) {
  return eventfd(value, EFD_CLOEXEC | EFD_NONBLOCK);
}

std::uint64_t count_of(int fd) {
  std::uint64_t count = 0;
  return read(fd, &count, sizeof count) == sizeof count ? count : 0;
}

class Store : public testing::Test {
 protected:
  void SetUp() override { ASSERT_TRUE(manager_.bound()); }
  void TearDown() override {
    for (const int fd : fds_) close(fd);
  }
  std::unique_ptr<FdStore> open(std::size_t limit = kLimit) {
    return std::make_unique<FdStore>(notify_, limit,
                                     [this](const std::string& line) { log_.push_back(line); });
  }
  int made(unsigned value) { return fds_.emplace_back(event(value)); }
  /// A next life; what it got, closed in the end.
  std::vector<session::KeptFd> reborn(std::unique_ptr<FdStore>& store) {
    store.reset();
    manager_.turn_all();
    store = open();
    auto kept = store->restore(manager_.hand_over());
    manager_.turn_all();
    for (const auto& k : kept) fds_.push_back(k.fd);
    return kept;
  }
  std::size_t in_store(char kind) const {
    return static_cast<std::size_t>(
        std::count_if(manager_.store.begin(), manager_.store.end(),
                      [kind](const session::KeptFd& s) { return s.name.front() == kind; }));
  }

  FakeManager manager_;
  Notify notify_;
  std::vector<std::string> log_;
  std::vector<int> fds_;
};

TEST_F(Store, HandsWhatWasKeptToTheNextLife) {
  auto store = open();
  store->keep("web/journal", made(7));
  store->keep("web/device.0", made(8));
  store->keep("gone", made(9));
  store->forget("gone");
  const auto kept = reborn(store);
  ASSERT_EQ(kept.size(), 2U);
  EXPECT_EQ(kept[0].name, "web/device.0");
  EXPECT_EQ(count_of(kept[0].fd), 8U);
  EXPECT_EQ(kept[1].name, "web/journal");
  EXPECT_EQ(count_of(kept[1].fd), 7U);
  EXPECT_EQ(in_store('k'), 2U);
  EXPECT_EQ(in_store('i'), 1U);
  EXPECT_TRUE(log_.empty());
}

TEST_F(Store, KeepsOneFileUnderSeveralNames) {
  auto store = open();
  const int one = made(5);
  const int again = fds_.emplace_back(dup(one));
  store->keep("a", one);
  store->keep("b", again);
  store->keep("c", one);
  EXPECT_EQ(store->slots(), 1U);
  store->forget("a");
  const auto kept = reborn(store);
  ASSERT_EQ(kept.size(), 2U);
  EXPECT_EQ(kept[0].name, "b");
  EXPECT_EQ(kept[1].name, "c");
  EXPECT_EQ(count_of(kept[0].fd), 5U);
  EXPECT_EQ(count_of(kept[1].fd), 0U);  // the same one
  store->forget("b");
  manager_.turn_all();
  EXPECT_EQ(in_store('k'), 1U);
  store->forget("c");
  manager_.turn_all();
  EXPECT_EQ(in_store('k'), 0U);
}

TEST_F(Store, GoesOnLifeAfterLife) {
  auto store = open();
  store->keep("first", made(1));
  reborn(store);
  store->keep("second", made(2));
  reborn(store);
  store->forget("first");
  store->keep("third", made(3));
  const auto kept = reborn(store);
  ASSERT_EQ(kept.size(), 2U);
  EXPECT_EQ(kept[0].name, "second");
  EXPECT_EQ(count_of(kept[0].fd), 2U);
  EXPECT_EQ(kept[1].name, "third");
  EXPECT_EQ(count_of(kept[1].fd), 3U);
}

TEST_F(Store, ReplacesWhatANameStoodFor) {
  auto store = open();
  store->keep("a", made(1));
  store->keep("a", made(2));
  const auto kept = reborn(store);
  ASSERT_EQ(kept.size(), 1U);
  EXPECT_EQ(count_of(kept[0].fd), 2U);
  EXPECT_EQ(in_store('k'), 1U);
}

// Killed after any message that systemd got: no name stands for a wrong file, and what was kept
// before is kept.
TEST_F(Store, IsWholeAfterAnyNumberOfItsMessages) {
  for (unsigned taken = 0; taken < 12; ++taken) {
    auto store = open();
    const int before = made(100);
    store->keep("before", before);
    manager_.turn_all();
    store->keep("a", made(1));
    store->keep("b", made(2));
    store->forget("a");
    store->keep("c", made(3));
    for (unsigned i = 0; i < taken; ++i) manager_.turn();
    // What is still in the socket is lost with this manager's reading.
    const auto passed = manager_.hand_over();
    manager_.turn_all();
    store.reset();
    for (const auto& s : manager_.store) close(s.fd);
    manager_.store.clear();
    auto next = open();
    const auto kept = next->restore(passed);
    bool found = false;
    for (const auto& k : kept) {
      fds_.push_back(k.fd);
      const auto value = count_of(k.fd);
      found |= k.name == "before" && value == 100;
      if (k.name == "b") {
        EXPECT_EQ(value, 2U);
      }
      if (k.name == "c") {
        EXPECT_EQ(value, 3U);
      }
    }
    EXPECT_TRUE(found) << taken;
    next.reset();
    manager_.turn_all();
    for (const auto& s : manager_.store) close(s.fd);
    manager_.store.clear();
  }
}

TEST_F(Store, RenewsItsIndexBeforeItGrowsWithoutBound) {
  auto store = open();
  const int fd = made(4);
  store->keep("stays", fd);
  for (int i = 0; i < 1000; ++i) {
    store->keep("comes", made(1));
    store->forget("comes");
    close(fds_.back());
    fds_.pop_back();
    manager_.turn_all();
  }
  ASSERT_EQ(in_store('i'), 1U);
  struct stat status {};
  for (const auto& s : manager_.store) {
    if (s.name.front() == 'i') {
      ASSERT_EQ(fstat(s.fd, &status), 0);
    }
  }
  EXPECT_LT(status.st_size, 2048);
  EXPECT_EQ(reborn(store).size(), 1U);
}

TEST_F(Store, SaysWhatDidNotFit) {
  auto store = open(5);
  for (int i = 0; i < 5; ++i) store->keep("n" + std::to_string(i), made(1));
  EXPECT_EQ(store->names(), 3U);
  ASSERT_EQ(log_.size(), 2U);
  EXPECT_NE(log_[0].find("n3"), std::string::npos);
  EXPECT_NE(log_[0].find("FileDescriptorStoreMax"), std::string::npos);
  store->forget("n0");
  store->keep("fits", made(1));
  EXPECT_EQ(store->names(), 3U);
  EXPECT_EQ(log_.size(), 2U);
}

TEST_F(Store, RefusesNamesThatCouldNotBeReadBack) {
  auto store = open();
  for (const std::string& name : {std::string(), std::string("a b"), std::string("a\nb"),
                                  std::string("a:b"), std::string(201, 'n')}) {
    store->keep(name, made(1));
  }
  store->forget("never kept");
  EXPECT_EQ(store->names(), 0U);
  EXPECT_EQ(log_.size(), 5U);
}

TEST_F(Store, DropsWhatIsDamaged) {
  auto store = open();
  store->keep("a", made(1));
  store->keep("b", made(2));
  manager_.turn_all();
  auto passed = manager_.hand_over();
  // One that a name stands for is missing, one that none stands for is there.
  const auto slot =
      std::find_if(passed.begin(), passed.end(), [](const auto& s) { return s.name == "k1"; });
  ASSERT_NE(slot, passed.end());
  slot->name = "k99";
  store = open();
  const auto kept = store->restore(passed);
  ASSERT_EQ(kept.size(), 1U);
  fds_.push_back(kept[0].fd);
  EXPECT_EQ(kept[0].name, "b");
  ASSERT_EQ(log_.size(), 2U);
  EXPECT_NE(log_[0].find("a was not handed back"), std::string::npos);
  EXPECT_NE(log_[1].find("1 descriptors without a name"), std::string::npos);
}

TEST(StoreAlone, HoldsNothingWithoutAManager) {
  unsetenv("NOTIFY_SOCKET");
  Notify notify;
  std::vector<std::string> log;
  FdStore store(notify, kLimit, [&](const std::string& line) { log.push_back(line); });
  const int fd = event(1);
  store.keep("a", fd);
  store.forget("a");
  EXPECT_EQ(store.slots(), 0U);
  EXPECT_TRUE(log.empty());
  close(fd);
}

TEST(Passed, AreTakenApartByName) {
  const Ended ended = in_child([] {
    const int listening = socket(AF_UNIX, SOCK_SEQPACKET, 0);
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    const std::string name = "faultline-passed-" + std::to_string(getpid());
    std::memcpy(address.sun_path + 1, name.data(), name.size());
    if (bind(listening, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) return 1;
    if (listen(listening, 1) != 0) return 2;
    const int kept = memfd_create("kept", 0);
    const int odd = memfd_create("odd", 0);
    const int index = memfd_create("index", 0);
    // From 3 on, whatever this process has there.
    int high[4];
    int n = 0;
    for (const int fd : {listening, kept, odd, index}) high[n++] = fcntl(fd, F_DUPFD, 20);
    for (int i = 0; i < 4; ++i) dup2(high[i], 3 + i);
    setenv("LISTEN_PID", std::to_string(getpid()).c_str(), 1);
    setenv("LISTEN_FDS", "4", 1);
    setenv("LISTEN_FDNAMES", "session:k1:other:i2", 1);
    const Passed passed = take_passed();
    if (passed.sockets != std::vector<int>{3}) return 3;
    if (passed.stored.size() != 2 || passed.stored[0].fd != 4 || passed.stored[0].name != "k1" ||
        passed.stored[1].fd != 6 || passed.stored[1].name != "i2") {
      return 4;
    }
    if (fcntl(5, F_GETFD) != -1) return 5;  // what nobody knows is closed
    if ((fcntl(3, F_GETFD) & FD_CLOEXEC) == 0 || (fcntl(4, F_GETFD) & FD_CLOEXEC) == 0) return 6;
    return getenv("LISTEN_FDS") == nullptr ? 0 : 7;
  });
  EXPECT_EQ(ended.status, 0);
}

}  // namespace
}  // namespace faultline::daemon
