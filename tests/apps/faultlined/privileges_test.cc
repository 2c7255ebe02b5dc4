// SPDX-License-Identifier: BSD-3-Clause
#include "apps/faultlined/privileges.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <filesystem>
#include <string>
#include <thread>

#include "apps/faultlined/seccomp.h"
#include "tests/apps/faultlined/child.h"

namespace faultline::daemon {
namespace {

constexpr Identity kNobody{65534, 65534};

bool root() {
  return geteuid() == 0;
}

/// Whom this process can become, or stay.
std::optional<Identity> somebody() {
  if (root()) return kNobody;
  return std::nullopt;
}

TEST(Identity, IsFoundByNameAndByNumber) {
  const auto nobody = find_identity("nobody", "");
  ASSERT_TRUE(nobody) << nobody.error().message();
  EXPECT_EQ(nobody->uid, 65534U);
  const auto numbers = find_identity("4000000", "4000001");
  ASSERT_TRUE(numbers) << numbers.error().message();
  EXPECT_EQ(numbers->uid, 4000000U);
  EXPECT_EQ(numbers->gid, 4000001U);
  EXPECT_EQ(find_identity("nobody", "0")->gid, 0U);
}

TEST(Identity, SaysWhoIsNotKnown) {
  for (const char* user : {"no-such-user", "", "-1", "4294967295", "12x"}) {
    const auto found = find_identity(user, "");
    ASSERT_FALSE(found) << user;
    EXPECT_NE(found.error().what.find("not known"), std::string::npos);
    EXPECT_EQ(found.error().what.find('\n'), std::string::npos);
  }
  EXPECT_FALSE(find_identity("nobody", "no-such-group"));
  EXPECT_FALSE(find_identity("4000000", ""));
}

constexpr int kNotAlone = 77;

/// A user-mode emulator has a thread of its own, which nothing here can lock down.
bool alone() {
  std::size_t threads = 0;
  for (const auto& task : std::filesystem::directory_iterator("/proc/self/task")) {
    threads += task.exists() ? 1 : 0;
  }
  return threads == 1;
}

TEST(Privileges, AreGoneForGood) {
  const Ended ended = in_child([] {
    if (!drop_privileges(somebody())) return 1;
    if (geteuid() == 0 || getuid() == 0 || getegid() == 0 || setuid(0) == 0) return 2;
    if (root() && getgroups(0, nullptr) != 0) return 3;
    if (open("/etc/shadow", O_RDONLY) >= 0) return 4;
    if (prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) != 1 || prctl(PR_GET_DUMPABLE) != 0) return 5;
    rlimit core{1, 1};
    if (getrlimit(RLIMIT_CORE, &core) != 0 || core.rlim_max != 0) return 6;
    for (int c = 0; prctl(PR_CAPBSET_READ, c) >= 0; ++c) {
      if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, c, 0, 0) == 1) return 7;
    }
    // Once more changes nothing.
    if (!alone()) return kNotAlone;
    return drop_privileges(std::nullopt) && check_locked_down(false) ? 0 : 8;
  });
  if (ended.status == kNotAlone) GTEST_SKIP() << "a thread that is not ours is in here";
  EXPECT_EQ(ended.status, 0);
}

TEST(Privileges, AreGoneForThreadsThatWereThereBefore) {
  const Ended ended = in_child([] {
    std::atomic<int> phase{0};
    std::atomic<bool> changed{false};
    const uid_t before = geteuid();
    std::thread thread([&] {
      phase = 1;
      while (phase != 2) sched_yield();
      changed = before != 0 || (geteuid() == kNobody.uid && setuid(0) != 0);
    });
    while (phase != 1) sched_yield();
    const bool dropped = drop_privileges(somebody()).has_value();
    phase = 2;
    thread.join();
    return dropped && changed ? 0 : 1;
  });
  EXPECT_EQ(ended.status, 0);
}

TEST(Privileges, StayingRootIsRefused) {
  const Ended ended = in_child([] {
    const auto as_root = drop_privileges(Identity{0, 0});
    if (as_root || as_root.error().what.find("name another") == std::string::npos) return 1;
    if (root() && drop_privileges(std::nullopt)) return 2;
    return 0;
  });
  EXPECT_EQ(ended.status, 0);
}

TEST(Privileges, OnlyRootBecomesSomebodyElse) {
  const Ended ended = in_child([] {
    if (!drop_privileges(somebody())) return 1;
    const auto other = drop_privileges(Identity{4000000, 4000000});
    return !other && other.error().what.find("only root") != std::string::npos ? 0 : 2;
  });
  EXPECT_EQ(ended.status, 0);
}

TEST(LockedDown, NoticesWhatIsLeft) {
  const Ended before = in_child([] { return check_locked_down(false) ? 1 : 0; });
  EXPECT_EQ(before.status, 0);
  const Ended after = in_child([] {
    if (!drop_privileges(somebody())) return 1;
    if (!alone()) return kNotAlone;
    if (!check_locked_down(false)) return 2;
    // No filter yet.
    if (check_locked_down(true)) return 3;
    const auto filter = allow_only_listed_calls({});
    if (!filter) return 0;  // none to be had here
    return check_locked_down(true) ? 0 : 4;
  });
  if (after.status == kNotAlone) GTEST_SKIP() << "a thread that is not ours is in here";
  EXPECT_EQ(after.status, 0);
}

TEST(LockedDown, LooksAtEveryThread) {
  const Ended ended = in_child([] {
    std::atomic<int> phase{0};
    std::thread thread([&] {
      phase = 1;
      while (phase != 2) sched_yield();
    });
    while (phase != 1) sched_yield();
    // no_new_privs is this thread's alone until a filter goes to all.
    const bool dropped = drop_privileges(somebody()).has_value();
    const bool caught = !check_locked_down(false).has_value();
    phase = 2;
    thread.join();
    return dropped && caught ? 0 : 1;
  });
  EXPECT_EQ(ended.status, 0);
}

}  // namespace
}  // namespace faultline::daemon
