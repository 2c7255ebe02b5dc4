// SPDX-License-Identifier: BSD-3-Clause
#include <gtest/gtest.h>

#include "tests/apps/session/peer_end.h"

namespace faultline::session {
namespace {

using testing::Bench;
using testing::event;
using testing::json;
using testing::memfd;
using testing::open_descriptors;
using testing::PeerEnd;

std::vector<Fd> one(Fd fd) {
  std::vector<Fd> out;
  out.push_back(std::move(fd));
  return out;
}

TEST(Requests, HelloTellsWhatAVmmHasToKnow) {
  Bench bench;
  PeerEnd vmm(bench, false);
  ASSERT_TRUE(vmm.ok({{"method", "hello"}, {"versions", {1, 2}}, {"name", "vmm"}})) << vmm.error;
  EXPECT_EQ(vmm.result["version"], 1);
  EXPECT_EQ(vmm.result["backend"], "soft");
  EXPECT_EQ(vmm.result["device_fds"], 3);
  EXPECT_EQ(vmm.result["backend_fds"], 1);
  EXPECT_EQ(vmm.result["linger_ms"], 30000);
  EXPECT_EQ(vmm.result["limits"]["guests"], 8);
  EXPECT_EQ(vmm.result["limits"]["descriptors"], 16384);
  EXPECT_EQ(vmm.refused({{"method", "hello"}, {"versions", {1}}}), "hello: it was said already");
}

TEST(Requests, NothingIsDoneBeforeHello) {
  Bench bench;
  PeerEnd vmm(bench, false);
  EXPECT_EQ(vmm.refused({{"method", "status"}}), "status: 'hello' comes first");
  EXPECT_EQ(vmm.refused({{"method", "hello"}, {"versions", {2, 3}}}),
            "hello: this service speaks version 1; 'versions' has to list it");
  EXPECT_TRUE(vmm.ok({{"method", "hello"}, {"versions", {1}}}));
}

TEST(Requests, WhatIsNoRequestEndsTheSession) {
  const std::string deep = "{\"id\":1,\"method\":\"hello\",\"versions\":" + std::string(5000, '[') +
                           std::string(5000, ']') + "}";
  const std::vector<std::string> none = {"nonsense",
                                         "[1]",
                                         "{}",
                                         R"({"id":-1,"method":"hello"})",
                                         R"({"id":9007199254740993,"method":"x"})",
                                         "\xff\xfe",
                                         deep};
  for (const std::string& text : none) {
    Bench bench;
    PeerEnd vmm(bench, false);
    ASSERT_TRUE(vmm.post(text));
    const auto answer = vmm.next();
    ASSERT_TRUE(answer);
    EXPECT_TRUE((*answer)["id"].is_null()) << text.substr(0, 40);
    EXPECT_FALSE(vmm.next()) << text.substr(0, 40);
  }
}

TEST(Requests, APacketLongerThanAnyEndsTheSession) {
  Bench bench;
  PeerEnd vmm(bench);
  ASSERT_TRUE(vmm.post(std::string(kPacketBytes + 1, ' ')));
  const auto answer = vmm.next();
  ASSERT_TRUE(answer);
  EXPECT_EQ((*answer)["error"], "a packet has at most 65536 bytes and 253 descriptors");
  EXPECT_FALSE(vmm.next());
  EXPECT_TRUE(bench.logged("a packet that is none"));
}

TEST(Requests, OneLineSaysWhatIsWrongAndTheSessionGoesOn) {
  Bench bench;
  PeerEnd vmm(bench);
  EXPECT_EQ(vmm.refused({{"method", "fly"}}),
            "there is no method 'fly'; 'hello' lists those there are");
  EXPECT_EQ(vmm.refused({{"method", "\x1b[2J" + std::string(100, 'y')}}),
            "there is no method '?[2J" + std::string(36, 'y') + "'; 'hello' lists those there are");
  EXPECT_EQ(vmm.refused({{"method", 5}}), "a request has a 'method'");
  EXPECT_EQ(vmm.refused({{"method", "start"}}), "start: 'guest' is missing");
  EXPECT_EQ(vmm.refused({{"method", "start"}, {"guest", "g0"}}), "this session has no guest g0");
  EXPECT_EQ(vmm.refused({{"method", "start"}, {"guest", "a b"}}),
            "'guest' is not the name of a guest");
  EXPECT_EQ(vmm.refused({{"method", "heartbeat"}, {"fast\n", true}}),
            "heartbeat: unknown field 'fast\\n'");
  EXPECT_EQ(vmm.refused({{"method", "heartbeat"}}, one(event())),
            "heartbeat: 1 of the descriptors that came are named by no field");
  const json guest = {{"method", "guest.add"}, {"name", "g0"}, {"registers", 0x40000000}};
  EXPECT_EQ(vmm.refused(guest), "guest.add: 'mode' is missing");
  json with = guest;
  with["mode"] = "polled";
  EXPECT_EQ(vmm.refused(with), "guest g0: 'mode' has to be exitless or trapped");
  with["mode"] = "trapped";
  EXPECT_EQ(vmm.refused(with), "guest g0: this service needs 1 backend_fds, 0 came");
  with["backend_fds"] = {1};
  EXPECT_EQ(
      vmm.refused(with, one(event())),
      "guest.add: 'backend_fds' has to be the index of a descriptor; 1 came with this packet");
  with["backend_fds"] = {0, 0};
  EXPECT_EQ(vmm.refused(with, one(event())),
            "guest.add: 'backend_fds' names a descriptor that another field has named");
  with["backend_fds"] = {0};
  with["registers"] = 0x40000001;
  EXPECT_EQ(vmm.refused(with, one(event())), "guest g0: 'registers' has to be a multiple of 4096");
  with["registers"] = -4;
  EXPECT_EQ(vmm.refused(with, one(event())),
            "guest.add: 'registers' has to be a whole number from 0 to 4503599627370495");
  with["registers"] = 0x40000000;
  with["vcpus"] = {1, "two"};
  EXPECT_EQ(vmm.refused(with, one(event())),
            "guest.add: 'vcpus' has to be a list of at most 1024 whole numbers up to 65535");
  with["vcpus"] = {1, 2};
  with["name"] = "g/0";
  EXPECT_EQ(vmm.refused(with, one(event())),
            "guest.add: 'name' has to be 1 to 64 of A-Z a-z 0-9 . _ -");
  with["name"] = "g0";
  ASSERT_TRUE(vmm.ok(with, one(event()))) << vmm.error;
  EXPECT_EQ(vmm.refused(with, one(event())), "guest g0 is there already");
  EXPECT_TRUE(bench.host.calls.empty());
}

TEST(Requests, MemoryIsWhatTheEngineCanRelyOn) {
  Bench bench;
  PeerEnd vmm(bench);
  ASSERT_TRUE(vmm.add_guest("g"));
  json add = {{"method", "memory.add"},
              {"guest", "g"},
              {"gpa", 0x40000000},
              {"bytes", 0x100000},
              {"memfd", 0}};
  EXPECT_EQ(vmm.refused(add, one(event())),
            "guest g: memory at 0x40000000: it is no memfd; pass one that is sealed with "
            "F_SEAL_SHRINK");
  EXPECT_EQ(vmm.refused(add, one(memfd(0x100000, 0))),
            "guest g: memory at 0x40000000: its memfd may shrink; seal it with F_SEAL_SHRINK");
  EXPECT_EQ(vmm.refused(add, one(memfd(0x100000, F_SEAL_SHRINK | F_SEAL_WRITE))),
            "guest g: memory at 0x40000000: its memfd cannot be written; a guest's memory is read "
            "and written");
  EXPECT_EQ(vmm.refused(add, one(memfd(0x80000))),
            "guest g: memory at 0x40000000: 1048576 bytes from 0 are asked of a memfd that has "
            "524288");
  add["offset"] = 0x1800;
  EXPECT_EQ(vmm.refused(add, one(memfd())), "guest g: memory comes in multiples of 4096 bytes");
  add["offset"] = 0x1000;
  add["gpa"] = (std::uint64_t{1} << 52U) - 0x1000;
  EXPECT_EQ(vmm.refused(add, one(memfd())), "guest g: memory has to end below 2^52");
  add["gpa"] = 0x40000000;
  EXPECT_TRUE(vmm.ok(add, one(memfd()))) << vmm.error;
  add["gpa"] = 0x400ff000;
  EXPECT_EQ(vmm.refused(add, one(memfd())), "guest g: memory at 0x400ff000 overlaps what it has");
  EXPECT_FALSE(vmm.ok(
      {{"method", "memory.remove"}, {"guest", "g"}, {"gpa", 0x40000000}, {"bytes", 0x1000}}));
  EXPECT_TRUE(vmm.ok(
      {{"method", "memory.remove"}, {"guest", "g"}, {"gpa", 0x40000000}, {"bytes", 0x100000}}))
      << vmm.error;
  EXPECT_TRUE(vmm.ok(add, one(memfd()))) << vmm.error;
}

TEST(Requests, InterruptsAreEventfdsAndNeverBlock) {
  Bench bench;
  PeerEnd vmm(bench);
  ASSERT_TRUE(vmm.add_guest("g"));
  ASSERT_TRUE(vmm.add_memory("g"));
  ASSERT_TRUE(vmm.add_device("g", 1));
  EXPECT_EQ(vmm.refused({{"method", "interrupts"}, {"guest", "g"}, {"evtq", 0}}, one(memfd())),
            "guest g: evtq: it is not an eventfd");
  const auto route = [](unsigned fd) {
    return json{{"address", 0x8080040}, {"data", 9}, {"eventfd", fd}};
  };
  EXPECT_EQ(vmm.refused({{"method", "interrupts"}, {"guest", "g"}, {"routes", {{{"data", 1}}}}}),
            "interrupts: a route: 'address' is missing");
  std::vector<Fd> fds;
  for (int i = 0; i < 3; ++i) fds.push_back(event());
  const Fd mine = fds[0].duplicate().value();
  ASSERT_TRUE(vmm.ok({{"method", "interrupts"},
                      {"guest", "g"},
                      {"evtq", 0},
                      {"gerror", 1},
                      {"routes", {route(2)}}},
                     fds))
      << vmm.error;
  EXPECT_NE(::fcntl(mine.get(), F_GETFL) & O_NONBLOCK, 0);
  ASSERT_TRUE(vmm.of("start", "g")) << vmm.error;
  const GuestRequest& got = *bench.host.guests.at("g").request;
  EXPECT_GE(got.evtq_eventfd, 0);
  EXPECT_EQ(got.sync_eventfd, -1);
  ASSERT_EQ(got.routes.size(), 1U);
  EXPECT_EQ(got.routes[0].address.value, 0x8080040U);
  EXPECT_EQ(got.routes[0].data, 9U);
  EXPECT_EQ(vmm.refused({{"method", "interrupts"}, {"guest", "g"}}),
            "guest g is served; its interrupts stay");
}

TEST(Requests, ArmingTakesAllThreeEventfds) {
  Bench bench;
  PeerEnd vmm(bench);
  ASSERT_TRUE(vmm.add_guest("g"));
  ASSERT_TRUE(vmm.add_memory("g"));
  ASSERT_TRUE(vmm.add_device("g", 1));
  const auto ask = [](const char* guest, std::vector<const char*> names) {
    json request = {{"method", "interrupts"}, {"guest", guest}};
    for (std::size_t i = 0; i < names.size(); ++i) request[names[i]] = i;
    return request;
  };
  std::vector<Fd> fds;
  fds.push_back(event());
  EXPECT_EQ(vmm.refused(ask("g", {"arm"}), fds),
            "guest g: 'arm', 'armed' and 'doorbell' come together");
  fds.push_back(event());
  EXPECT_FALSE(vmm.ok(ask("g", {"arm", "armed"}), fds));
  EXPECT_FALSE(vmm.ok(ask("g", {"armed", "doorbell"}), fds));
  fds.push_back(memfd());
  EXPECT_EQ(vmm.refused(ask("g", {"doorbell", "arm", "armed"}), fds),
            "guest g: armed: it is not an eventfd");
  fds[2] = event();
  const Fd mine = fds[2].duplicate().value();
  ASSERT_TRUE(vmm.ok({{"method", "guest.add"},
                      {"name", "t"},
                      {"registers", 0x40000000},
                      {"mode", "trapped"},
                      {"backend_fds", {0}}},
                     one(event())));
  EXPECT_EQ(vmm.refused(ask("t", {"doorbell", "arm", "armed"}), fds),
            "guest t: it is trapped, every write rings; 'arm' is for exitless guests");
  ASSERT_TRUE(vmm.ok(ask("g", {"doorbell", "arm", "armed"}), fds)) << vmm.error;
  EXPECT_NE(::fcntl(mine.get(), F_GETFL) & O_NONBLOCK, 0);
  ASSERT_TRUE(vmm.of("start", "g")) << vmm.error;
  const GuestRequest& got = *bench.host.guests.at("g").request;
  EXPECT_GE(got.doorbell_eventfd, 0);
  EXPECT_GE(got.arm_eventfd, 0);
  EXPECT_GE(got.armed_eventfd, 0);
  // And with another shape, as the keeper has it.
  ASSERT_TRUE(vmm.add_device("g", 2)) << vmm.error;
  EXPECT_GE(bench.host.guests.at("g").request->armed_eventfd, 0);
  EXPECT_TRUE(bench.keeper.held.contains("g/g/2/arm"));
  EXPECT_TRUE(bench.keeper.held.contains("g/g/2/armed"));
}

TEST(Requests, LimitsOfOneGuest) {
  ServerOptions options;
  options.limits.guests_per_session = 1;
  options.limits.devices_per_guest = 2;
  options.limits.memory_parts = 2;
  options.limits.memory_bytes = 0x400000;
  Bench bench(options);
  PeerEnd vmm(bench);
  ASSERT_TRUE(vmm.add_guest("g"));
  EXPECT_FALSE(vmm.add_guest("h"));
  EXPECT_EQ(vmm.error, "guest.add: the session has 1 guests, which is the limit");
  EXPECT_TRUE(vmm.add_device("g", 1));
  EXPECT_FALSE(vmm.add_device("g", 1));
  EXPECT_EQ(vmm.error, "guest g: device 0000:01:00.1 is there already");
  EXPECT_TRUE(vmm.add_device("g", 2));
  EXPECT_FALSE(vmm.add_device("g", 3));
  EXPECT_EQ(vmm.error, "guest g: device 0000:01:00.3: the guest has 2 devices, which is the limit");
  EXPECT_TRUE(vmm.add_memory("g", 0x40000000, 0x200000));
  EXPECT_FALSE(vmm.add_memory("g", 0x50000000, 0x400000));
  EXPECT_EQ(vmm.error, "guest g: it would have more than 4194304 bytes of memory, the limit");
  EXPECT_TRUE(vmm.add_memory("g", 0x50000000, 0x200000));
  EXPECT_FALSE(vmm.add_memory("g", 0x60000000, 0x1000));
  EXPECT_EQ(vmm.error, "guest g: it has 2 pieces of memory, which is the limit");
}

TEST(Requests, RefusedDescriptorsAreClosed) {
  Bench bench;
  PeerEnd vmm(bench);
  ASSERT_TRUE(vmm.add_guest("g"));
  const std::size_t before = open_descriptors();
  for (int i = 0; i < 20; ++i) {
    std::vector<Fd> fds;
    for (int k = 0; k < 5; ++k) fds.push_back(event());
    EXPECT_FALSE(vmm.ok({{"method", "device.add"},
                         {"guest", "g"},
                         {"name", "d"},
                         {"vsid", 1},
                         {"fds", {0, 1, 2, 3}}},
                        fds));
    EXPECT_FALSE(
        vmm.ok({{"method", "interrupts"}, {"guest", "g"}, {"evtq", 0}, {"gerror", 9}}, fds));
    EXPECT_FALSE(vmm.ok({{"method", "nothing"}}, fds));
    vmm.fds.clear();
  }
  EXPECT_EQ(open_descriptors(), before);
}

}  // namespace
}  // namespace faultline::session
