// SPDX-License-Identifier: BSD-3-Clause
// The engine behind sessions on a soft kernel in a process of its own, with real drivers in the
// guests and their audit.
#include "apps/session/engine_guests.h"

#include <gmock/gmock.h>
#include <sys/mman.h>
#include <unistd.h>

#include <nlohmann/json.hpp>

#include "apps/guest/commands.h"
#include "tests/apps/session/quiet_guest.h"
#include "tests/apps/session/soft_vmm.h"

namespace faultline::session {
namespace {

using namespace testing_vmm;
using testing::HasSubstr;

constexpr Nanos kReady = 60'000'000'000;

void expect_clean(const RunResult& result) {
  for (const std::string& finding : result.verdict.findings) ADD_FAILURE() << finding;
  EXPECT_GT(result.verdict.guests.syncs_completed, 0U);
  EXPECT_GT(result.verdict.faults.produced, 0U);
}

TEST(EngineGuests, GuestsComeAndGoBesideEachOther) {
  SoftVmm vmm(3, 2);
  Service service;
  const std::size_t before = open_descriptors();
  vmm.session().start();
  for (std::size_t g = 0; g < 3; ++g) {
    const auto journal = service.host->add(vmm.request(g));
    ASSERT_TRUE(journal) << journal.error().message();
    EXPECT_GE(*journal, 0);
    vmm.turns(5);
  }
  ASSERT_TRUE(vmm.session().wait_ready(kReady));
  vmm.run(2000);
  const engine::EngineSnapshot snapshot = service.host->snapshot();
  ASSERT_EQ(snapshot.guests.size(), 3U);
  ASSERT_EQ(snapshot.shards.size(), 2U);
  EXPECT_NE(snapshot.guests[0].event_shard, snapshot.guests[0].command_shard);
  EXPECT_GT(service.host->oldest_beat(), 0U);
  expect_clean(vmm.session().finish());
  EXPECT_TRUE(service.host->remove("guest1"));
  EXPECT_EQ(service.host->snapshot().guests.size(), 2U);
  EXPECT_TRUE(service.host->remove("guest0"));
  EXPECT_TRUE(service.host->remove("guest2"));
  EXPECT_THAT(service.host->remove("guest2").error().message(), HasSubstr("no guest guest2"));
  EXPECT_EQ(open_descriptors(), before);
}

TEST(EngineGuests, APausedGuestStandsStillAndGoesOn) {
  SoftVmm vmm(2, 2);
  Service service;
  vmm.session().start();
  ASSERT_TRUE(service.host->add(vmm.request(0)));
  ASSERT_TRUE(service.host->add(vmm.request(1)));
  ASSERT_TRUE(vmm.session().wait_ready(kReady));
  for (int round = 0; round < 3; ++round) {
    vmm.run(300);
    ASSERT_TRUE(service.host->pause("guest0"));
    EXPECT_FALSE(service.host->pause("guest0"));
    // The other one is served meanwhile, and what it completes is its own.
    vmm.run(300);
    ASSERT_TRUE(service.host->resume("guest0"));
    EXPECT_FALSE(service.host->resume("guest0"));
  }
  vmm.run(300);
  expect_clean(vmm.session().finish());
}

TEST(EngineGuests, AnotherServiceGoesOnFromTheJournalAndNothingIsLost) {
  SoftVmm vmm(2, 2);
  vmm.session().start();
  std::vector<int> journals;
  auto service = std::make_unique<Service>();
  for (std::size_t g = 0; g < 2; ++g) {
    journals.push_back(duplicate(service->host->add(vmm.request(g)).value()));
  }
  ASSERT_TRUE(vmm.session().wait_ready(kReady));
  for (int life = 0; life < 3; ++life) {
    vmm.run(500);
    // Guests at work on a machine that is too busy to let them finish are stopped as by a kill: the
    // journal is for either.
    const auto stopped = service->host->stop();
    ASSERT_TRUE(stopped || stopped.error().code == ETIMEDOUT) << stopped.error().message();
    service.reset();
    vmm.turns(20);
    service = std::make_unique<Service>();
    for (std::size_t g = 0; g < 2; ++g) {
      const auto journal = service->host->add(vmm.request(g, journals[g]));
      ASSERT_TRUE(journal) << journal.error().message();
    }
  }
  vmm.run(500);
  expect_clean(vmm.session().finish());
  for (const int fd : journals) ::close(fd);
}

TEST(EngineGuests, OnAnErrorNothingStaysAndEveryDescriptorIsClosed) {
  SoftVmm vmm(2, 2);
  Service service;
  const int foreign = duplicate(service.host->add(vmm.request(0)).value());
  // Its stage 1 is bound beside us, by connections of its own.
  while (service.host->snapshot().guests[0].commands.attaches < 2) vmm.turns(1);
  const std::size_t before = open_descriptors();
  const auto refused = [&](GuestRequest request, const std::string& why) {
    const auto added = service.host->add(std::move(request));
    ASSERT_FALSE(added) << why;
    EXPECT_THAT(added.error().message(), HasSubstr(why));
    EXPECT_EQ(open_descriptors(), before) << why;
    EXPECT_EQ(service.host->snapshot().guests.size(), 1U) << why;
  };
  refused(vmm.request(0), "there already");
  GuestRequest r = vmm.request(1);
  ::close(r.memory[0].memfd);
  r.memory[0].memfd = ::memfd_create("unsealed", MFD_CLOEXEC);
  EXPECT_EQ(::ftruncate(r.memory[0].memfd, static_cast<off_t>(r.memory[0].bytes)), 0);
  refused(std::move(r), "seal");
  r = vmm.request(1);
  r.memory[0].bytes += 4096;
  refused(std::move(r), "bytes");
  r = vmm.request(1);
  r.memory[0].offset = ~std::size_t{0};
  refused(std::move(r), "bytes");
  r = vmm.request(1);
  ::close(r.devices[1].fds.back());
  r.devices[1].fds.pop_back();
  refused(std::move(r), "2 descriptors");
  r = vmm.request(1);
  ::close(r.backend_fds[0]);
  r.backend_fds.clear();
  refused(std::move(r), "backend");
  r = vmm.request(1);
  ::close(r.evtq_eventfd);
  r.evtq_eventfd = duplicate(vmm.hosts()[1].memfd);
  refused(std::move(r), "not an eventfd");
  r = vmm.request(1);
  std::swap(r.devices[1].fds[0], r.evtq_eventfd);
  refused(std::move(r), "its descriptor 0 is no file of the soft kernel");
  r = vmm.request(1);
  ::close(r.backend_fds[0]);
  r.backend_fds[0] = duplicate(vmm.hosts()[1].memfd);
  refused(std::move(r), "its backend: its descriptor 0 is no file of the soft kernel");
  r = vmm.request(1);
  std::swap(r.devices[1].fds[0], r.devices[1].fds[2]);
  refused(std::move(r), "guest1");
  r = vmm.request(1);
  r.registers = r.registers + 0x1000;
  refused(std::move(r), "register page");
  r = vmm.request(1);
  r.devices[1].vsid = r.devices[0].vsid;
  refused(std::move(r), "same StreamID");
  r = vmm.request(1, vmm.hosts()[1].memfd);
  refused(std::move(r), "journal");
  r = vmm.request(1, foreign);
  r.registers = HostGuest::kBase;  // not the shape that the journal is of
  refused(std::move(r), "journal is of another guest");
  // And the same guest is served once it is right.
  EXPECT_TRUE(service.host->add(vmm.request(1)));
  ::close(foreign);
}

TEST(EngineGuests, AfterAResetTheGuestIsAsNew) {
  SoftVmm vmm(1, 2);
  Service service;
  vmm.session().start();
  ASSERT_TRUE(service.host->add(vmm.request(0)));
  ASSERT_TRUE(vmm.session().wait_ready(kReady));
  vmm.run(200);
  EXPECT_TRUE(vmm.session().finish().verdict.clean());
  auto* page = static_cast<unsigned char*>(vmm.hosts()[0].memory) +
               (vmm.hosts()[0].registers().value - HostGuest::kBase.value);
  auto& cr0ack = *reinterpret_cast<std::uint32_t*>(page + 0x24);
  EXPECT_NE(load_acquire(cr0ack), 0U);
  ASSERT_TRUE(service.host->reset("guest0"));
  EXPECT_EQ(load_acquire(cr0ack), 0U);
  EXPECT_EQ(service.host->snapshot().guests.size(), 1U);
  ASSERT_TRUE(service.host->pause("guest0"));
  ASSERT_TRUE(service.host->reset("guest0"));
  const auto state = nlohmann::json::parse(service.host->state("guest0").value());
  EXPECT_EQ(state["latched"]["cr0ack"], 0);
  EXPECT_EQ(state["cmdq"]["cons"], 0);
  EXPECT_EQ(state["evtq"]["enabled"], 0);
  EXPECT_TRUE(service.host->resume("guest0"));
}

TEST(EngineGuests, TheStateOfAGuestIsWhatAnotherEngineGoesOnWith) {
  SoftVmm vmm(1, 2);
  QuietGuest guest(vmm.hosts()[0]);
  std::string state;
  {
    Service service;
    ASSERT_TRUE(service.host->add(vmm.request(0)));
    ASSERT_TRUE(guest.driver.probe(guest.idle));
    ASSERT_TRUE(guest.driver.run({guest::tlbi_nsnh_all()}, guest.idle));
    EXPECT_THAT(service.host->state("guest0").error().message(), HasSubstr("not paused"));
    ASSERT_TRUE(service.host->pause("guest0"));
    state = service.host->state("guest0").value();
  }
  const auto j = nlohmann::json::parse(state);
  EXPECT_EQ(j["faultline_guest_state"], 1);
  EXPECT_EQ(j["cmdq"]["cons"], j["registers"]["cmdq_prod"]);
  EXPECT_NE(j["cmdq"]["cons"], 0);

  // Another host: the devices are opened there anew, and a fresh guest's registers are reset.
  vmm.reopen(0);
  Service there;
  ASSERT_TRUE(there.host->add(vmm.request(0)));
  EXPECT_FALSE(there.host->set_state("guest0", state)) << "it is not paused";
  ASSERT_TRUE(there.host->pause("guest0"));
  const auto refused = [&](const std::string& text, const std::string& why) {
    const auto taken = there.host->set_state("guest0", text);
    ASSERT_FALSE(taken) << why;
    EXPECT_THAT(taken.error().message(), HasSubstr(why));
  };
  refused("", "JSON");
  refused("[1]", "JSON");
  refused("{}", "no version");
  auto wrong = j;
  wrong["faultline_guest_state"] = 2;
  refused(wrong.dump(), "version 2");
  wrong = j;
  wrong["identity"] = 1;
  refused(wrong.dump(), "another guest");
  wrong = j;
  wrong["id_registers"][0] = 0;
  refused(wrong.dump(), "ID registers");
  wrong = j;
  wrong["cmdq"].erase("cons");
  refused(wrong.dump(), "cmdq.cons");
  wrong = j;
  wrong["cmdq"]["cons"] = -1;
  refused(wrong.dump(), "cmdq.cons");
  wrong = j;
  wrong["evtq"]["enabled"] = 2;
  refused(wrong.dump(), "enable");
  wrong = j;
  wrong["latched"]["cmdq_log2size"] = 20;
  refused(wrong.dump(), "log2size");
  refused(std::string(1 << 20, ' '), "larger");

  const auto taken = there.host->set_state("guest0", state);
  ASSERT_TRUE(taken) << taken.error().message();
  EXPECT_EQ(nlohmann::json::parse(there.host->state("guest0").value()), j);
  ASSERT_TRUE(there.host->resume("guest0"));
  // The driver goes on in the middle of its queue and notices nothing.
  ASSERT_TRUE(guest.driver.run({guest::tlbi_nsnh_all()}, guest.idle));
  EXPECT_EQ(guest.driver.unexpected_errors(), 0U);
  const auto after = there.host->snapshot().guests.at(0);
  EXPECT_EQ(after.commands.illegal, 0U);
  EXPECT_EQ(after.commands.commands, 2U);
  EXPECT_EQ(after.evtq_size, 1024U);
}

TEST(EngineGuests, AGuestGoesOnWithOtherDevicesAndMemory) {
  SoftVmm vmm(1, 3);
  Service service;
  QuietGuest guest(vmm.hosts()[0]);
  const auto without_last = [&] {
    GuestRequest r = vmm.request(0);
    for (const int fd : r.devices.back().fds) ::close(fd);
    r.devices.pop_back();
    return r;
  };
  const auto works = [&] { return guest.driver.run({guest::tlbi_nsnh_all()}, guest.idle); };
  const int first = service.host->add(without_last()).value();
  ASSERT_TRUE(guest.driver.probe(guest.idle));

  const auto three = service.host->replace(vmm.request(0));
  ASSERT_TRUE(three) << three.error().message();
  EXPECT_NE(*three, first) << "another shape has another journal";
  EXPECT_TRUE(works());
  EXPECT_EQ(service.host->snapshot().guests.at(0).devices.size(), 3U);

  GuestRequest more = vmm.request(0);
  more.memory.push_back({Gpa{0x8000'0000}, 0x10000, 0, duplicate(vmm.hosts()[0].memfd)});
  const auto memory = service.host->replace(std::move(more));
  ASSERT_TRUE(memory) << memory.error().message();
  EXPECT_TRUE(works());

  const std::size_t before = open_descriptors();
  GuestRequest wrong = vmm.request(0);
  wrong.memory.push_back({HostGuest::kBase, 0x10000, 0, duplicate(vmm.hosts()[0].memfd)});
  EXPECT_THAT(service.host->replace(std::move(wrong)).error().message(), HasSubstr("overlap"));
  EXPECT_EQ(open_descriptors(), before);
  EXPECT_TRUE(works()) << "served as before";

  ASSERT_TRUE(service.host->pause("guest0"));
  const auto two = service.host->replace(without_last());
  ASSERT_TRUE(two) << two.error().message();
  EXPECT_TRUE(service.host->snapshot().guests.at(0).paused);
  ASSERT_TRUE(service.host->resume("guest0"));
  EXPECT_TRUE(works());
  const auto shown = service.host->snapshot().guests;
  ASSERT_EQ(shown.size(), 1U);
  EXPECT_EQ(shown[0].devices.size(), 2U);
  EXPECT_EQ(shown[0].commands.illegal, 0U);
  EXPECT_EQ(guest.driver.unexpected_errors(), 0U);
  EXPECT_FALSE(service.host->replace(GuestRequest{}));
}

TEST(EngineGuests, SaysWhatStreamsAreBoundTo) {
  SoftVmm vmm(1, 2);
  Service service;
  QuietGuest guest(vmm.hosts()[0]);
  EXPECT_FALSE(service.host->bindings("guest0"));
  ASSERT_TRUE(service.host->add(vmm.request(0)));
  using Binding = StreamBinding;
  EXPECT_EQ(service.host->bindings("guest0").value(), std::vector(2, Binding::kNone));
  ASSERT_TRUE(guest.driver.probe(guest.idle));
  EXPECT_EQ(service.host->bindings("guest0").value(), std::vector(2, Binding::kAbort))
      << "the driver's stream table is empty";
}

TEST(EngineGuests, APausedGuestOfAnEarlierLifeIsNotTouched) {
  SoftVmm vmm(1, 2);
  QuietGuest guest(vmm.hosts()[0]);
  int journal = -1;
  {
    Service service;
    journal = duplicate(service.host->add(vmm.request(0)).value());
    ASSERT_TRUE(guest.driver.probe(guest.idle));
  }
  Service service;
  GuestRequest r = vmm.request(0, journal);
  r.paused = true;
  ASSERT_TRUE(service.host->add(std::move(r)));
  const auto shown = service.host->snapshot().guests;
  ASSERT_EQ(shown.size(), 1U);
  EXPECT_TRUE(shown[0].paused);
  EXPECT_EQ(shown[0].commands.register_changes, 0U);
  EXPECT_TRUE(service.host->state("guest0"));
  ASSERT_TRUE(service.host->resume("guest0"));
  EXPECT_FALSE(service.host->snapshot().guests.at(0).paused);
  EXPECT_TRUE(guest.driver.run({guest::tlbi_nsnh_all()}, guest.idle));
  ::close(journal);
}

}  // namespace
}  // namespace faultline::session
