// SPDX-License-Identifier: BSD-3-Clause
#include <grp.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include <algorithm>

#include "apps/session/peer.h"
#include "apps/session/sealed.h"
#include "tests/apps/session/peer_end.h"

namespace faultline::session {
namespace {

using testing::attach;
using testing::Bench;
using testing::event;
using testing::json;
using testing::memfd;
using testing::open_descriptors;
using testing::PeerEnd;

TEST(Sessions, AGuestGoesToTheEngineWithAllThatWasPassed) {
  Bench bench;
  PeerEnd vmm(bench);
  vmm.serve_guest("g0");
  ASSERT_EQ(vmm.fds.size(), 1U);
  ASSERT_TRUE(bench.host.guests.contains("g0"));
  const GuestRequest& got = *bench.host.guests.at("g0").request;
  EXPECT_EQ(got.registers.value, 0x40000000U);
  EXPECT_EQ(got.mode, engine::RegisterMode::kExitless);
  ASSERT_EQ(got.memory.size(), 1U);
  EXPECT_EQ(got.memory[0].bytes, 0x200000U);
  ASSERT_EQ(got.devices.size(), 1U);
  EXPECT_EQ(got.devices[0].fds.size(), 3U);
  EXPECT_EQ(got.backend_fds.size(), 1U);
  // The journal that came back can be read, and not be written.
  char byte = 0;
  EXPECT_EQ(::pread(vmm.fds[0].get(), &byte, 1, 0), 1);
  EXPECT_EQ(::pwrite(vmm.fds[0].get(), &byte, 1, 0), -1);
  EXPECT_TRUE(vmm.of("query", "g0"));
  EXPECT_EQ(vmm.result["state"], "served");
  EXPECT_EQ(vmm.result["evtq"]["size"], 64);
  EXPECT_EQ(vmm.refused({{"method", "start"}, {"guest", "g0"}}), "guest g0 is served already");
}

TEST(Sessions, EveryMethodOfAServedGuestReachesTheHost) {
  Bench bench;
  PeerEnd vmm(bench);
  vmm.serve_guest("g");
  bench.host.calls.clear();
  EXPECT_TRUE(vmm.of("pause", "g"));
  EXPECT_TRUE(vmm.of("get-state", "g"));
  EXPECT_EQ(vmm.result["state"], "state of g");
  EXPECT_TRUE(vmm.ok({{"method", "set-state"}, {"guest", "g"}, {"state", "s"}}));
  EXPECT_TRUE(vmm.of("resume", "g"));
  EXPECT_TRUE(vmm.of("reset", "g"));
  EXPECT_TRUE(vmm.of("stage1", "g"));
  EXPECT_EQ(vmm.result["devices"][0]["mode"], "stage1");
  EXPECT_TRUE(vmm.of("dirty-log", "g"));
  EXPECT_EQ(vmm.result["ranges"][0]["bytes"], 0x20000);
  EXPECT_TRUE(vmm.ok({{"method", "budget"}, {"guest", "g"}, {"weight", 2}}));
  const std::vector<std::string> expected = {
      "pause g", "state g",    "set_state g s", "resume g",
      "reset g", "bindings g", "written g",     "set_budget g {\"weight\":2}"};
  EXPECT_EQ(bench.host.calls, expected);
}

TEST(Sessions, WhatTheHostRefusesChangesNothing) {
  Bench bench;
  PeerEnd vmm(bench);
  ASSERT_TRUE(vmm.add_guest("g"));
  ASSERT_TRUE(vmm.add_memory("g"));
  EXPECT_EQ(vmm.refused({{"method", "start"}, {"guest", "g"}}),
            "guest g has no device: device.add comes before start");
  ASSERT_TRUE(vmm.add_device("g", 1));
  const std::size_t before = open_descriptors();
  bench.host.fail_next("no room");
  EXPECT_EQ(vmm.refused({{"method", "start"}, {"guest", "g"}}), "no room");
  EXPECT_EQ(open_descriptors(), before);
  EXPECT_TRUE(bench.keeper.held.empty());
  ASSERT_TRUE(vmm.of("start", "g")) << vmm.error;
  vmm.fds.clear();

  bench.host.fail_next("no room for a device");
  EXPECT_FALSE(vmm.add_device("g", 2));
  EXPECT_EQ(vmm.error, "no room for a device");
  EXPECT_EQ(bench.host.guests.at("g").request->devices.size(), 1U);
  bench.host.fail_next("it will not go");
  EXPECT_EQ(vmm.refused({{"method", "guest.remove"}, {"guest", "g"}}), "it will not go");
  EXPECT_TRUE(vmm.of("query", "g"));
  EXPECT_TRUE(vmm.add_device("g", 2)) << vmm.error;
  EXPECT_EQ(bench.host.guests.at("g").request->devices.size(), 2U);
}

TEST(Sessions, AServedGuestGetsAndLosesDevicesAndMemory) {
  Bench bench;
  PeerEnd vmm(bench);
  vmm.serve_guest("g");
  const auto held = [&]() -> const GuestRequest& { return *bench.host.guests.at("g").request; };
  EXPECT_TRUE(vmm.add_device("g", 9)) << vmm.error;
  EXPECT_EQ(held().devices.size(), 2U);
  EXPECT_EQ(vmm.result["journal"], 0);
  ASSERT_EQ(vmm.fds.size(), 1U) << "the journal of the new shape";
  char byte = 0;
  EXPECT_EQ(::pread(vmm.fds[0].get(), &byte, 1, 0), 1);
  EXPECT_EQ(::pwrite(vmm.fds[0].get(), &byte, 1, 0), -1);
  EXPECT_TRUE(vmm.ok({{"method", "device.remove"}, {"guest", "g"}, {"name", "0000:01:00.8"}}));
  ASSERT_EQ(held().devices.size(), 1U);
  EXPECT_EQ(held().devices[0].vsid.value, 9U);
  EXPECT_EQ(vmm.refused({{"method", "device.remove"}, {"guest", "g"}, {"name", "0000:01:00.9"}}),
            "guest g: device 0000:01:00.9 is the only one of a served guest; use guest.remove");
  EXPECT_TRUE(vmm.add_memory("g", 0x80000000)) << vmm.error;
  EXPECT_EQ(held().memory.size(), 2U);
  const auto without = [](std::uint64_t gpa) {
    return json{{"method", "memory.remove"}, {"guest", "g"}, {"gpa", gpa}, {"bytes", 0x200000}};
  };
  EXPECT_EQ(vmm.refused(without(0x40000000)),
            "guest g: memory at 0x40000000 holds the registers of a served guest");
  EXPECT_TRUE(vmm.ok(without(0x80000000))) << vmm.error;
  EXPECT_EQ(held().memory.size(), 1U);
  // A paused one stays so.
  EXPECT_TRUE(vmm.of("pause", "g"));
  EXPECT_TRUE(vmm.add_device("g", 3)) << vmm.error;
  EXPECT_TRUE(bench.host.guests.at("g").paused);
}

TEST(Sessions, AVmmThatDiesLeavesItsServedGuestToLinger) {
  Bench bench;
  const std::size_t before = open_descriptors();
  auto vmm = std::make_unique<PeerEnd>(bench);
  PeerEnd other(bench);
  other.serve_guest("other");
  ASSERT_TRUE(vmm->add_guest("half"));
  const std::string token = vmm->serve_guest("g");
  vmm->hang_up();
  vmm.reset();
  bench.turns();
  EXPECT_TRUE(bench.host.guests.contains("g"));
  EXPECT_EQ(bench.server->counters().lingering, 1U);
  EXPECT_EQ(bench.server->counters().lost_vmms, 1U);
  EXPECT_TRUE(bench.logged("without a goodbye; its guest lingers, 1 not started let go"));

  EXPECT_EQ(other.refused(attach("half", token)), "no guest half lingers here");
  EXPECT_EQ(other.refused(attach("g", "guess")), "no guest g lingers here for this user and token");
  EXPECT_EQ(other.refused({{"method", "pause"}, {"guest", "g"}}), "this session has no guest g");
  PeerEnd back(bench);
  ASSERT_TRUE(back.ok(attach("g", token))) << back.error;
  EXPECT_EQ(back.result["state"], "served");
  EXPECT_EQ(back.fds.size(), 1U);
  EXPECT_EQ(other.refused(attach("g", token)), "guest g is another session's");
  EXPECT_EQ(back.refused(attach("g", token)), "guest g is this session's already");
  EXPECT_EQ(bench.server->counters().reattached, 1U);
  EXPECT_EQ(bench.server->counters().lingering, 0U);
  ASSERT_TRUE(back.ok({{"method", "goodbye"}}));
  ASSERT_TRUE(other.ok({{"method", "goodbye"}}));
  back.hang_up();
  other.hang_up();
  back.fds.clear();
  other.fds.clear();
  EXPECT_TRUE(bench.host.guests.empty());
  EXPECT_TRUE(bench.keeper.held.empty());
  EXPECT_EQ(open_descriptors(), before);
}

TEST(Sessions, WhichGuestsAreMadeAndWhichLingerIsTold) {
  Bench bench;
  PeerEnd vmm(bench);
  vmm.serve_guest("served");
  PeerEnd half(bench);
  ASSERT_TRUE(half.add_guest("half"));
  EXPECT_EQ(bench.server->guest_names().made, std::vector<std::string>{"half"});
  EXPECT_TRUE(bench.server->guest_names().lingering.empty());
  vmm.hang_up();
  EXPECT_EQ(bench.server->guest_names().lingering, std::vector<std::string>{"served"});
}

TEST(Sessions, OnlyWhoLeavesServedGuestsBehindIsALostVmm) {
  Bench bench;
  PeerEnd tool(bench);
  tool.hang_up();
  EXPECT_EQ(bench.server->counters().lost_vmms, 0U);
  EXPECT_FALSE(bench.logged("without a goodbye"));
  PeerEnd early(bench);
  ASSERT_TRUE(early.add_guest("made"));
  early.hang_up();
  EXPECT_EQ(bench.server->counters().lost_vmms, 0U);
  EXPECT_TRUE(bench.logged("goodbye; its guest was not started and is let go"));
  PeerEnd vmm(bench);
  vmm.serve_guest("a");
  vmm.serve_guest("b");
  vmm.hang_up();
  EXPECT_EQ(bench.server->counters().lost_vmms, 1U);
  EXPECT_TRUE(bench.logged("goodbye; its 2 guests linger"));
}

TEST(Sessions, WhoDoesNotComeBackLosesTheGuest) {
  ServerOptions options;
  options.linger_ns = 0;
  Bench bench(options);
  {
    PeerEnd vmm(bench);
    vmm.serve_guest("g");
    vmm.hang_up();
  }
  EXPECT_TRUE(bench.host.guests.empty());
  EXPECT_TRUE(bench.keeper.held.empty());
  EXPECT_TRUE(bench.logged("guest g: nobody came back for it; removed"));
}

TEST(Sessions, APeerThatDoesNotReadIsDisconnected) {
  Bench bench;
  PeerEnd vmm(bench);
  vmm.serve_guest("g");
  for (int i = 0; i < 2000 && !bench.logged("it does not read its answers"); ++i) {
    (void)vmm.post(json{{"id", 1}, {"method", "query"}, {"guest", "g"}}.dump());
    bench.turns(1);
    bench.server->reload([&] {
      ServerOptions o;
      o.limits.messages_per_second = 1'000'000;
      o.log = [&](const std::string& line) { bench.log.push_back(line); };
      return o;
    }());
  }
  EXPECT_TRUE(bench.logged("it does not read its answers"));
  bench.turns();
  EXPECT_EQ(bench.server->counters().sessions, 0U);
  EXPECT_EQ(bench.server->counters().lingering, 1U);
}

TEST(Sessions, WhoSendsTooFastWaitsAndLosesNothing) {
  ServerOptions options;
  options.limits.messages_per_second = 20;
  Bench bench(options);
  PeerEnd fast(bench);
  unsigned answered = 0;
  for (unsigned i = 0; i < 30; ++i) {
    ASSERT_TRUE(fast.post(json{{"id", i}, {"method", "heartbeat"}}.dump()));
  }
  // The others are served meanwhile.
  PeerEnd other(bench);
  EXPECT_TRUE(other.ok({{"method", "heartbeat"}}));
  while (answered < 30) {
    const auto answer = fast.next();
    ASSERT_TRUE(answer);
    EXPECT_EQ((*answer)["id"], answered++);
  }
}

TEST(Sessions, LimitsOfTheService) {
  ServerOptions options;
  options.limits.sessions_per_uid = 2;
  Bench bench(options);
  PeerEnd a(bench);
  PeerEnd b(bench);
  PeerEnd c(bench, false);
  const auto refused = c.next();
  ASSERT_TRUE(refused);
  EXPECT_NE((*refused)["error"].get<std::string>().find("has 2 sessions, which is the limit"),
            std::string::npos);
  EXPECT_FALSE(c.next());
  EXPECT_EQ(bench.server->counters().refused_peers, 1U);
  a.hang_up();
  PeerEnd d(bench);
}

TEST(Sessions, WhoMayAttach) {
  ServerOptions options;
  options.uids = {1001};
  options.gids = {2002};
  const uid_t me = ::geteuid();
  EXPECT_TRUE(may_attach({1, 0, 0, {}}, options));
  EXPECT_TRUE(may_attach({1, me, 5, {5}}, options));
  EXPECT_TRUE(may_attach({1, 1001, 5, {5}}, options));
  EXPECT_TRUE(may_attach({1, 1002, 5, {5, 2002}}, options));
  EXPECT_FALSE(may_attach({1, 1002, 5, {5}}, options));
  EXPECT_TRUE(is_operator({1, 0, 0, {}}));
  EXPECT_FALSE(is_operator({1, 1001 + me, 5, {5}}));
}

TEST(Sessions, TheKernelSaysWhoThePeerIs) {
  if (::geteuid() != 0) GTEST_SKIP() << "only root can become somebody else";
  Bench bench;
  const pid_t child = ::fork();
  if (child == 0) {
    const int s = ::socket(AF_UNIX, SOCK_SEQPACKET, 0);
    const bool became =
        ::setgroups(0, nullptr) == 0 && ::setgid(65534) == 0 && ::setuid(65534) == 0;
    char text[512];
    ssize_t got = -1;
    if (became &&
        ::connect(s, reinterpret_cast<sockaddr*>(&bench.address), bench.address_bytes) == 0) {
      got = ::read(s, text, sizeof text);
    }
    ::_exit(
        got > 0 &&
                std::string(text, static_cast<std::size_t>(got)).find("uid 65534 may not attach") !=
                    std::string::npos
            ? 0
            : 1);
  }
  int status = -1;
  while (::waitpid(child, &status, WNOHANG) == 0) bench.server->turn(1);
  EXPECT_EQ(status, 0);
  EXPECT_TRUE(bench.logged("a peer was refused: uid 65534"));
}

TEST(Sessions, TheHeartbeatCanBeReadAndNotBeWritten) {
  Bench bench;
  PeerEnd vmm(bench);
  ASSERT_TRUE(vmm.ok({{"method", "heartbeat"}}));
  ASSERT_EQ(vmm.fds.size(), 1U);
  const int fd = vmm.fds[0].get();
  EXPECT_EQ(::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0), MAP_FAILED);
  EXPECT_EQ(::pwrite(fd, "x", 1, 0), -1);
  std::uint64_t beat = 0;
  bench.host.beat = 77;
  bench.turns(1);
  ASSERT_EQ(::pread(fd, &beat, sizeof beat, 0), 8);
  EXPECT_EQ(beat, 77U);
}

TEST(Sessions, StatusAndDrainAreTheServices) {
  ServerOptions options;
  options.status = [] { return json{{"shards", 2}}; };
  Bench bench(options);
  PeerEnd vmm(bench);
  ASSERT_TRUE(vmm.ok({{"method", "status"}}));
  EXPECT_EQ(vmm.result["shards"], 2);
  EXPECT_FALSE(bench.server->drain_asked());
  EXPECT_TRUE(vmm.ok({{"method", "drain"}}));
  EXPECT_TRUE(bench.server->drain_asked());
}

TEST(Sessions, AResultLongerThanAPacketComesAsAFile) {
  ServerOptions options;
  options.status = [] { return json{{"long", std::string(kPacketBytes, 'x')}}; };
  Bench bench(options);
  PeerEnd vmm(bench);
  const json answer = vmm.call({{"method", "status"}});
  EXPECT_EQ(answer["result_file"], 0);
  ASSERT_EQ(vmm.fds.size(), 1U);
  const std::string text = read_text(vmm.fds[0], 1 << 20).value();
  EXPECT_EQ(json::parse(text)["long"].get<std::string>().size(), kPacketBytes);
  EXPECT_EQ(::pwrite(vmm.fds[0].get(), "x", 1, 0), -1);
}

TEST(Sessions, WhatTheKernelRefusesSaysWhy) {
  Bench bench;
  PeerEnd vmm(bench);
  ASSERT_TRUE(vmm.add_guest("g"));
  ASSERT_TRUE(vmm.add_memory("g"));
  ASSERT_TRUE(vmm.add_device("g", 1));
  bench.host.fail_next("VFIO_GROUP_SET_CONTAINER", ENODEV);
  EXPECT_EQ(vmm.refused({{"method", "start"}, {"guest", "g"}}),
            "VFIO_GROUP_SET_CONTAINER: No such device (errno 19)");
}

TEST(Sessions, WithoutDescriptorsPeersWaitAndTheTurnsDoNot) {
  Bench bench;
  PeerEnd vmm(bench);
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &before), 0);
  const Fd late(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
  const rlimit none{static_cast<rlim_t>(late.get()), before.rlim_max};
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &none), 0);
  EXPECT_EQ(::connect(late.get(), reinterpret_cast<sockaddr*>(&bench.address), bench.address_bytes),
            0);
  bench.turns(20);
  EXPECT_TRUE(vmm.ok({{"method", "query"}, {"guest", "g"}}) ||
              vmm.error == "this session has no guest g");
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &before), 0);
  EXPECT_EQ(std::ranges::count_if(bench.log,
                                  [](const std::string& line) {
                                    return line.find("LimitNOFILE") != std::string::npos;
                                  }),
            1);
  for (int i = 0; i < 50 && bench.server->counters().accepted < 2; ++i) bench.server->turn(100);
  EXPECT_EQ(bench.server->counters().accepted, 2U);
}

}  // namespace
}  // namespace faultline::session
