// SPDX-License-Identifier: BSD-3-Clause
// VMMs that mean harm to the service and to the guests of others.
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <string>

#include "apps/session/close.h"
#include "tests/apps/session/lingering.h"
#include "tests/apps/session/peer_end.h"

namespace faultline::session {
namespace {

using testing::Bench;
using testing::json;
using testing::Lingering;
using testing::PeerEnd;

constexpr uid_t kNobody = 65534;

ServerOptions for_nobody() {
  ServerOptions options;
  options.uids = {kNobody};
  return options;
}

/// Only root can become somebody else; without, everybody is the operator.
bool root() {
  return ::geteuid() == 0;
}

bool has(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

json memory(const std::string& guest) {
  return {{"id", 7},        {"method", "memory.add"},
          {"guest", guest}, {"gpa", 0x80000000U},
          {"bytes", 4096},  {"memfd", 0}};
}

TEST(Hostile, ADescriptorThatNoMethodAsksForEndsTheSession) {
  if (!root()) GTEST_SKIP() << "only root can become somebody else";
  Bench bench(for_nobody());
  PeerEnd bystander(bench);
  bystander.serve_guest("bystander");
  PeerEnd relative(bench, true, kNobody);
  relative.serve_guest("relative");
  PeerEnd hostile(bench, true, kNobody);
  ASSERT_TRUE(hostile.add_guest("h")) << hostile.error;

  Lingering slow;
  slow.pass(hostile.socket(), memory("h").dump().c_str());
  const auto answer = hostile.next();
  ASSERT_TRUE(answer);
  EXPECT_EQ((*answer)["id"], 7);
  EXPECT_EQ((*answer)["error"],
            "descriptor 0 is neither memfd, eventfd, UNIX socket nor device of VFIO or iommufd: no "
            "method asks for it, and the session ends");
  EXPECT_EQ(closing(), 1U);
  EXPECT_FALSE(hostile.next());
  EXPECT_TRUE(bench.logged("uid 65534 is put aside for 60 s"));
  PeerEnd again(bench, false, kNobody);
  const auto refused = again.next();
  ASSERT_TRUE(refused);
  EXPECT_TRUE(has((*refused)["error"].get<std::string>(), "uid 65534 is put aside for "));
  EXPECT_FALSE(again.next());

  // All others go on, those of the same user, too.
  EXPECT_TRUE(relative.of("query", "relative"));
  EXPECT_TRUE(bystander.of("query", "bystander"));
  EXPECT_TRUE(PeerEnd(bench).ok({{"method", "heartbeat"}}));
  slow.end();
}

TEST(Hostile, TheOperatorIsNotLockedOut) {
  Bench bench;
  PeerEnd vmm(bench);
  Lingering slow;
  slow.pass(vmm.socket(), "no request at all");
  const auto answer = vmm.next();
  ASSERT_TRUE(answer);
  EXPECT_TRUE((*answer)["id"].is_null());
  EXPECT_EQ(closing(), 1U);
  EXPECT_FALSE(vmm.next());
  PeerEnd again(bench);
  EXPECT_FALSE(bench.logged("is put aside"));
  slow.end();
}

TEST(Hostile, WhatASessionLeftBehindIsClosedElsewhere) {
  Bench bench;
  PeerEnd vmm(bench);
  Lingering slow;
  EXPECT_TRUE(vmm.post(R"({"id": 1, "method": "goodbye"})"));
  slow.pass(vmm.socket());
  bench.turns();
  EXPECT_EQ(bench.server->counters().sessions, 0U);
  EXPECT_EQ(closing(), 1U);
  slow.end();
}

TEST(Hostile, APeerThatIsRefusedLeavesNothingBehindEither) {
  ServerOptions options;
  options.limits.sessions_per_uid = 1;
  Bench bench(options);
  PeerEnd vmm(bench);
  Lingering slow;
  const Fd second(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
  ASSERT_EQ(
      ::connect(second.get(), reinterpret_cast<sockaddr*>(&bench.address), bench.address_bytes), 0);
  slow.pass(second.get());
  bench.turns();
  EXPECT_EQ(bench.server->counters().refused_peers, 1U);
  EXPECT_EQ(closing(), 1U);
  EXPECT_TRUE(vmm.ok({{"method", "heartbeat"}}));
  slow.end();
}

TEST(Hostile, AGuestWhoseVmmMadeAnEventfdBlockGoes) {
  if (!root()) GTEST_SKIP() << "only root can become somebody else";
  Bench bench(for_nobody());
  PeerEnd bystander(bench);
  bystander.serve_guest("bystander");
  PeerEnd hostile(bench, true, kNobody);
  hostile.serve_guest("h");
  bench.host.blocked = {"h"};
  // The server looks now and then.
  for (unsigned i = 0; i < 10'000 && bench.host.guests.contains("h"); ++i) bench.server->turn(1);
  EXPECT_FALSE(bench.host.guests.contains("h"));
  for (const auto& [name, fd] : bench.keeper.held) EXPECT_FALSE(has(name, "/h/")) << name;
  EXPECT_FALSE(hostile.next());
  EXPECT_TRUE(
      bench.logged("guest h is removed: its VMM made an eventfd block a polling core; uid "
                   "65534 is put aside for 60 s"));
  PeerEnd again(bench, false, kNobody);
  EXPECT_TRUE(has((*again.next())["error"].get<std::string>(), "is put aside"));
  EXPECT_TRUE(bystander.of("query", "bystander"));
}

TEST(Hostile, ToTakeTheGuestOffFirstHelpsNobody) {
  if (!root()) GTEST_SKIP() << "only root can become somebody else";
  Bench bench(for_nobody());
  PeerEnd hostile(bench, true, kNobody);
  hostile.serve_guest("h");
  bench.host.blocked_gone = {"h"};
  EXPECT_TRUE(hostile.of("guest.remove", "h")) << hostile.error;
  EXPECT_FALSE(hostile.next());
  PeerEnd again(bench, false, kNobody);
  EXPECT_TRUE(has((*again.next())["error"].get<std::string>(), "is put aside"));
}

TEST(Hostile, AReshapedGuestGoesToo) {
  Bench bench;
  PeerEnd vmm(bench);
  vmm.serve_guest("g");
  bench.host.blocked_gone = {"g"};
  EXPECT_TRUE(vmm.add_memory("g", 0x80000000)) << vmm.error;
  EXPECT_FALSE(vmm.next());
  EXPECT_FALSE(bench.host.guests.contains("g"));
  EXPECT_TRUE(bench.keeper.held.empty());
  EXPECT_FALSE(bench.logged("is put aside")) << "the operator's own";
  PeerEnd again(bench);
}

TEST(Hostile, AGuestThatLingersGoesToo) {
  Bench bench;
  PeerEnd vmm(bench);
  vmm.serve_guest("g");
  vmm.hang_up();
  ASSERT_EQ(bench.server->counters().lingering, 1U);
  bench.host.blocked = {"g"};
  for (unsigned i = 0; i < 10'000 && bench.host.guests.contains("g"); ++i) bench.server->turn(1);
  EXPECT_FALSE(bench.host.guests.contains("g"));
  EXPECT_TRUE(bench.logged("guest g is removed"));
}

TEST(Hostile, OneUserTakesNoMoreDescriptorsThanItMay) {
  ServerOptions options;
  options.limits.descriptors_per_uid = 12;
  Bench bench(options);
  PeerEnd vmm(bench);
  PeerEnd other(bench);
  ASSERT_TRUE(vmm.add_guest("never-started")) << vmm.error;  // 2
  ASSERT_TRUE(other.add_guest("g")) << other.error;          // 4
  ASSERT_TRUE(other.add_device("g", 1)) << other.error;      // 10
  EXPECT_FALSE(other.add_device("g", 2));
  EXPECT_EQ(other.error, "uid " + std::to_string(::geteuid()) +
                             ": its guests have 10 of the 12 descriptors that they may have "
                             "(sessions.descriptors-per-uid), and this takes 6 more");
  EXPECT_TRUE(other.add_memory("g")) << "there is room for " << other.error;
  EXPECT_FALSE(vmm.add_guest("another"));
  EXPECT_TRUE(vmm.of("guest.remove", "never-started")) << vmm.error;
  EXPECT_TRUE(vmm.add_guest("another")) << vmm.error;
}

}  // namespace
}  // namespace faultline::session
