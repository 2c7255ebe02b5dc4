// SPDX-License-Identifier: BSD-3-Clause
#include <gtest/gtest.h>

#include "apps/session/kept_guest.h"
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

TEST(Restore, AnotherLifeServesTheGuestsThatWereKept) {
  Bench first;
  PeerEnd vmm(first);
  const std::string token = vmm.serve_guest("g");
  ASSERT_TRUE(vmm.ok({{"method", "budget"}, {"guest", "g"}, {"weight", 3}}));
  const std::string paused = vmm.serve_guest("p");
  ASSERT_TRUE(vmm.of("pause", "p"));
  first.host.guests.at("g").journal.set_in_use();

  Bench second;
  EXPECT_EQ(second.server->restore(first.keeper.hand_out()), 2U);
  ASSERT_TRUE(second.host.guests.contains("g"));
  auto& g = second.host.guests.at("g");
  EXPECT_EQ(g.request->devices.size(), 1U);
  EXPECT_EQ(g.request->memory[0].gpa.value, 0x40000000U);
  EXPECT_FALSE(g.paused);
  EXPECT_TRUE(second.host.guests.at("p").paused);
  EXPECT_EQ(second.host.calls.back().substr(0, 5), "add p");
  PeerEnd back(second);
  ASSERT_TRUE(back.ok(attach("g", token))) << back.error;
  ASSERT_TRUE(back.ok(attach("p", paused))) << back.error;
  EXPECT_EQ(back.result["state"], "paused");
  // It is the same journal, not a new one.
  EXPECT_TRUE(second.host.guests.at("g").journal.in_use());
  // And what it holds now is enough for a third.
  Bench third;
  EXPECT_EQ(third.server->restore(second.keeper.hand_out()), 2U);
}

TEST(Restore, WhatTheHostMadeForAGuestComesAlong) {
  Bench first;
  PeerEnd vmm(first);
  const Fd one = event();
  const Fd two = event();
  first.host.kept_objects = {"{\"of\":\"the host\"}", {one.get(), two.get()}};
  vmm.serve_guest("g");
  Bench second;
  EXPECT_EQ(second.server->restore(first.keeper.hand_out()), 1U);
  const GuestRequest& g = *second.host.guests.at("g").request;
  EXPECT_EQ(g.objects, "{\"of\":\"the host\"}");
  ASSERT_EQ(g.object_fds.size(), 2U);
  const std::uint64_t count = 7;
  ASSERT_EQ(::write(one.get(), &count, sizeof count), 8);
  std::uint64_t seen = 0;
  EXPECT_EQ(::read(g.object_fds[0], &seen, sizeof seen), 8);
  EXPECT_EQ(seen, count) << "the same file, in its place";
}

TEST(Restore, InterruptsAreThereAgain) {
  Bench first;
  PeerEnd vmm(first);
  ASSERT_TRUE(vmm.add_guest("g"));
  ASSERT_TRUE(vmm.add_memory("g"));
  ASSERT_TRUE(vmm.add_device("g", 8));
  std::vector<Fd> fds;
  for (int i = 0; i < 5; ++i) fds.push_back(event());
  ASSERT_TRUE(vmm.ok({{"method", "interrupts"},
                      {"guest", "g"},
                      {"evtq", 0},
                      {"doorbell", 1},
                      {"arm", 2},
                      {"armed", 3},
                      {"routes", {{{"address", 0x8080040}, {"data", 9}, {"eventfd", 4}}}}},
                     fds))
      << vmm.error;
  ASSERT_TRUE(vmm.of("start", "g")) << vmm.error;
  const auto same_file = [](int a, const Fd& b) {
    const std::uint64_t one = 1;
    std::uint64_t n = 0;
    return ::write(b.get(), &one, sizeof one) == sizeof one && ::read(a, &n, sizeof n) == sizeof n;
  };
  Bench second;
  ASSERT_EQ(second.server->restore(first.keeper.hand_out()), 1U);
  const GuestRequest& got = *second.host.guests.at("g").request;
  EXPECT_TRUE(same_file(got.evtq_eventfd, fds[0]));
  EXPECT_TRUE(same_file(got.doorbell_eventfd, fds[1]));
  EXPECT_TRUE(same_file(got.arm_eventfd, fds[2]));
  EXPECT_TRUE(same_file(got.armed_eventfd, fds[3]));
  ASSERT_EQ(got.routes.size(), 1U);
  EXPECT_EQ(got.routes[0].address.value, 0x8080040U);
  EXPECT_TRUE(same_file(got.routes[0].eventfd, fds[4]));
}

TEST(Restore, OfTwoGenerationsTheNewestThatIsWholeCounts) {
  Bench first;
  PeerEnd vmm(first);
  vmm.serve_guest("g");
  std::vector<KeptFd> kept = first.keeper.hand_out();
  ASSERT_TRUE(vmm.add_device("g", 9));
  // As if the service had died before the new record was kept, or before the old parts were let go.
  for (KeptFd& k : first.keeper.hand_out()) {
    if (k.name.ends_with("/record")) {
      ::close(k.fd);
    } else {
      kept.push_back(k);
    }
  }
  Bench second;
  EXPECT_EQ(second.server->restore(std::move(kept)), 1U);
  EXPECT_EQ(second.host.guests.at("g").request->devices.size(), 1U);
  for (const auto& [name, fd] : second.keeper.held) {
    EXPECT_EQ(name.rfind("g/g/3/", 0), 0U) << name;
  }
}

TEST(Restore, WhatIsNotWholeIsLetGoWithALine) {
  const std::size_t before = open_descriptors();
  {
    Bench first;
    PeerEnd vmm(first);
    vmm.serve_guest("a");
    vmm.serve_guest("b");
    vmm.serve_guest("c");
    std::vector<KeptFd> kept;
    for (KeptFd& k : first.keeper.hand_out()) {
      const bool drop = k.name.find("g/a/1/m0") == 0 || k.name.find("g/b/1/record") == 0;
      if (drop) {
        ::close(k.fd);
      } else {
        kept.push_back(k);
      }
    }
    kept.push_back({"g/d/1/record", memfd(100).release()});
    kept.push_back({"nonsense", event().release()});
    kept.push_back({"g/e/x/record", event().release()});
    kept.push_back({"g/e\nf/1/record", event().release()});
    Bench second;
    EXPECT_EQ(second.server->restore(std::move(kept)), 1U);
    EXPECT_TRUE(second.host.guests.contains("c"));
    EXPECT_TRUE(second.logged("guest a of an earlier life is let go: descriptor m0 was not kept"));
    EXPECT_TRUE(second.logged("guest b of an earlier life is let go: it has no record"));
    EXPECT_TRUE(second.logged("guest d of an earlier life is let go: its record is not JSON"));
  }
  EXPECT_EQ(open_descriptors(), before);
}

TEST(Restore, AGuestThatTheHostRefusesIsLetGo) {
  Bench first;
  PeerEnd vmm(first);
  vmm.serve_guest("g");
  Bench second;
  second.host.fail_next("its kernel is gone");
  EXPECT_EQ(second.server->restore(first.keeper.hand_out()), 0U);
  EXPECT_TRUE(second.logged("let go: its kernel is gone"));
  EXPECT_TRUE(second.keeper.held.empty());
}

TEST(Restore, AVmmThatKeptTheJournalGoesOnWithoutAKeeper) {
  Bench first;
  Fd journal;
  {
    PeerEnd vmm(first);
    vmm.serve_guest("g");
    first.host.guests.at("g").journal.set_in_use();
    journal = std::move(vmm.fds[0]);
  }
  Bench second;
  PeerEnd vmm(second);
  EXPECT_EQ(vmm.refused(attach("g", "none")), "no guest g lingers here");
  json add = {{"method", "guest.add"}, {"name", "g"},        {"registers", 0x40000000},
              {"mode", "exitless"},    {"backend_fds", {0}}, {"journal", 1}};
  std::vector<Fd> fds;
  fds.push_back(event());
  fds.push_back(memfd());
  EXPECT_NE(vmm.refused(add, fds).find("guest g: restart journal refused"), std::string::npos);
  fds[1] = std::move(journal);
  ASSERT_TRUE(vmm.ok(add, fds)) << vmm.error;
  ASSERT_TRUE(vmm.add_memory("g"));
  ASSERT_TRUE(vmm.add_device("g", 8));
  ASSERT_TRUE(vmm.of("start", "g")) << vmm.error;
  EXPECT_TRUE(second.host.guests.at("g").journal.in_use());
  EXPECT_TRUE(second.logged("guest g goes on where its journal stood"));
  second.turns();
  EXPECT_EQ(second.server->counters().reattached, 1U);
  EXPECT_EQ(second.server->counters().refused_requests, 1U) << "the damaged journal, not the probe";
  // A copy: what the VMM still has is another file.
  first.host.guests.at("g").journal.layout().header.magic = 0;
  EXPECT_NE(second.host.guests.at("g").journal.layout().header.magic, 0U);
}

}  // namespace
}  // namespace faultline::session
