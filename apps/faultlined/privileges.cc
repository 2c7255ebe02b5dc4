// SPDX-License-Identifier: BSD-3-Clause
#include "apps/faultlined/privileges.h"

#include <grp.h>
#include <pwd.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <charconv>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <system_error>

namespace faultline::daemon {
namespace {

std::optional<unsigned> number(const std::string& text) {
  unsigned value = 0;
  const char* end = text.data() + text.size();
  const auto [at, error] = std::from_chars(text.data(), end, value);
  if (error != std::errc() || at != end || value == ~0U) return std::nullopt;
  return value;
}

/// capget(2) and capset(2), which libc has no words for.
struct CapabilityHeader {
  std::uint32_t version = 0x20080522;
  int pid = 0;
};
struct CapabilitySet {
  std::uint32_t effective = 0, permitted = 0, inheritable = 0;
};

Result<void> drop_capabilities() {
  // Ending at the first number that the kernel does not know. Without CAP_SETPCAP the bounding set
  // stays; no_new_privs takes its meaning.
  for (int c = 0; prctl(PR_CAPBSET_READ, c) >= 0; ++c) {
    if (prctl(PR_CAPBSET_DROP, c) != 0 && errno != EPERM) {
      return fail(errno, "privileges: the bounding set");
    }
  }
  // An old kernel has no ambient set to clear.
  static_cast<void>(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0));
  return {};
}

void drop_own_capabilities() {
  // A unit's system call filter may refuse it, and has left none; what counts is read back.
  CapabilityHeader header;
  const std::array<CapabilitySet, 2> none{};
  static_cast<void>(syscall(SYS_capset, &header, none.data()));
}

Result<void> become(const Identity& who) {
  if (who.uid == 0 || who.gid == 0) {
    return fail(0, "privileges: the service must not become root: name another user and group");
  }
  if (geteuid() != 0) {
    if (getuid() == who.uid && geteuid() == who.uid && getegid() == who.gid) return {};
    return fail(0, "privileges: only root can become user " + std::to_string(who.uid) +
                       ": start it as root or as that user");
  }
  // In this order: after the user is gone nothing else can be changed.
  if (setgroups(0, nullptr) != 0) return fail(errno, "privileges: setgroups");
  if (setresgid(who.gid, who.gid, who.gid) != 0) return fail(errno, "privileges: setresgid");
  if (setresuid(who.uid, who.uid, who.uid) != 0) return fail(errno, "privileges: setresuid");
  uid_t u[3]{};
  gid_t g[3]{};
  if (getresuid(&u[0], &u[1], &u[2]) != 0 || getresgid(&g[0], &g[1], &g[2]) != 0 ||
      getgroups(0, nullptr) != 0) {
    return fail(0, "privileges: groups of root are left after setgroups");
  }
  for (int i = 0; i < 3; ++i) {
    if (u[i] != who.uid || g[i] != who.gid) {
      return fail(0, "privileges: user or group did not change");
    }
  }
  if (setresuid(0, 0, 0) == 0) return fail(0, "privileges: root can be had back");
  return {};
}

/// What one thread's status file says that it must not.
std::string trouble(std::istream& status, bool filtered) {
  bool caps = false;
  bool privs = false;
  bool mode = false;
  for (std::string line; std::getline(status, line);) {
    std::istringstream words(line);
    std::string key;
    words >> key;
    if (key == "Uid:" || key == "Gid:") {
      for (std::uint64_t id = 0; words >> id;) {
        if (id == 0) return key + " root";
      }
    } else if (key == "CapInh:" || key == "CapPrm:" || key == "CapEff:" || key == "CapAmb:") {
      std::uint64_t bits = 0;
      words >> std::hex >> bits;
      if (!words || bits != 0) return line;
      caps = true;
    } else if (key == "NoNewPrivs:") {
      words >> privs;
      if (!privs) return line;
    } else if (key == "Seccomp:") {
      int value = 0;
      words >> value;
      mode = value == 2;
      if (filtered && !mode) return line;
    }
  }
  if (!caps || !privs || (filtered && !mode)) return "a status without a word about it";
  return {};
}

}  // namespace

Result<Identity> find_identity(const std::string& user, const std::string& group) {
  Identity who;
  errno = 0;
  const passwd* p = getpwnam(user.c_str());
  if (p != nullptr) {
    who = {p->pw_uid, p->pw_gid};
  } else if (const auto uid = number(user)) {
    who.uid = *uid;
    p = getpwuid(*uid);
    if (p == nullptr && group.empty()) {
      return fail(0, "user " + user + ": not known, so its group must be named, too");
    }
    if (p != nullptr) who.gid = p->pw_gid;
  } else {
    return fail(0,
                "user '" + user + "': not known: systemd-sysusers or adduser --system makes one");
  }
  if (group.empty()) return who;
  if (const struct ::group* g = getgrnam(group.c_str()); g != nullptr) {
    who.gid = g->gr_gid;
  } else if (const auto gid = number(group)) {
    who.gid = *gid;
  } else {
    return fail(
        0, "group '" + group + "': not known: systemd-sysusers or addgroup --system makes one");
  }
  return who;
}

Result<void> drop_privileges(const std::optional<Identity>& who) {
  if (!who && (getuid() == 0 || geteuid() == 0 || getegid() == 0)) {
    return fail(0,
                "privileges: started as root and no user named that it may become: name one, or "
                "start it as an unprivileged user");
  }
  const rlimit none{0, 0};
  if (setrlimit(RLIMIT_CORE, &none) != 0) return fail(errno, "privileges: RLIMIT_CORE");
  if (const auto done = drop_capabilities(); !done) return done;
  if (who) {
    if (const auto done = become(*who); !done) return done;
  }
  drop_own_capabilities();
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) {
    return fail(errno, "privileges: PR_SET_NO_NEW_PRIVS");
  }
  // After the change of user, which sets it anew.
  if (prctl(PR_SET_DUMPABLE, 0) != 0) return fail(errno, "privileges: PR_SET_DUMPABLE");
  rlimit core{1, 1};
  if (getrlimit(RLIMIT_CORE, &core) != 0 || core.rlim_max != 0 || prctl(PR_GET_DUMPABLE) != 0 ||
      prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) != 1) {
    return fail(0, "privileges: core dumps or new privileges are still possible");
  }
  std::ifstream own("/proc/thread-self/status");
  if (const std::string left = trouble(own, false); !left.empty()) {
    return fail(0, "privileges: this thread still has: " + left);
  }
  return {};
}

Result<void> check_locked_down(bool filtered) {
  std::error_code error;
  std::size_t seen = 0;
  for (auto it = std::filesystem::directory_iterator("/proc/self/task", error);
       !error && it != std::filesystem::directory_iterator(); it.increment(error)) {
    std::ifstream status(it->path() / "status");
    if (!status) continue;  // a thread that has ended
    const std::string left = trouble(status, filtered);
    if (!left.empty()) {
      return fail(0, "privileges: thread " + it->path().filename().string() + ": " + left);
    }
    ++seen;
  }
  if (error || seen == 0) return fail(error.value(), "privileges: /proc/self/task cannot be read");
  return {};
}

}  // namespace faultline::daemon
