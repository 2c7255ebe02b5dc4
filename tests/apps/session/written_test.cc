// SPDX-License-Identifier: BSD-3-Clause
// All guest memory that the engine writes is named to a VMM that migrates the guest.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "apps/guest/commands.h"
#include "apps/session/guest_state.h"
#include "tests/apps/session/quiet_guest.h"
#include "tests/apps/session/soft_vmm.h"

namespace faultline::session {
namespace {

using namespace testing_vmm;

bool names(const std::vector<GpaRange>& ranges, Gpa gpa, std::uint64_t bytes = 4) {
  return std::ranges::any_of(
      ranges, [&](const GpaRange& r) { return r.gpa <= gpa && gpa + bytes <= r.gpa + r.bytes; });
}

std::uint64_t sum(const std::vector<GpaRange>& ranges) {
  std::uint64_t bytes = 0;
  for (const GpaRange& r : ranges) bytes += r.bytes;
  return bytes;
}

void expect_pages_in_order(const std::vector<GpaRange>& ranges) {
  std::uint64_t end = 0;
  for (const GpaRange& r : ranges) {
    EXPECT_EQ((r.gpa.value | r.bytes) % kPage4K, 0U);
    EXPECT_GT(r.bytes, 0U);
    EXPECT_TRUE(end == 0 || r.gpa.value > end) << "in order, and not touching";
    end = r.gpa.value + r.bytes;
  }
}

Gpa evtq_of(QuietGuest& guest) {
  return Gpa{guest.driver.events().base_register() & 0xf'ffff'ffff'ffe0};
}

/// A CMD_SYNC that writes elsewhere than to its slot.
void sync_to(QuietGuest& guest, Gpa word) {
  guest.driver.commands().push(guest::sync_by_msi(word, 77));
  ASSERT_TRUE(guest.driver.run({}, guest.idle));
  EXPECT_EQ(load_acquire(guest.driver.memory().at<std::uint32_t>(word)), 77U);
}

TEST(Written, NamesEveryPlaceOfMsisAndQueuesAlsoThoseThatWereLeft) {
  SoftVmm vmm(1, 2);
  QuietGuest guest(vmm.hosts()[0]);
  auto service = std::make_unique<Service>();
  const auto written = [&] { return service->host->written("guest0").value(); };
  EXPECT_FALSE(service->host->written("guest0"));
  const int journal = duplicate(service->host->add(vmm.request(0)).value());
  const Gpa registers = vmm.hosts()[0].registers();
  EXPECT_EQ(sum(written()), HostGuest::kRegisterBytes) << "nothing else yet";
  EXPECT_TRUE(names(written(), registers, HostGuest::kRegisterBytes));

  ASSERT_TRUE(guest.driver.probe(guest.idle));
  const Gpa first_queue = evtq_of(guest);
  const std::uint64_t bytes = std::uint64_t{guest.driver.events().entries()} * 32;
  EXPECT_TRUE(names(written(), first_queue, bytes));
  // Two addresses in turn, neither of them in the queue.
  const Gpa one = guest.driver.memory().allocate(kPage4K);
  (void)guest.driver.memory().allocate(8 * kPage4K);
  const Gpa two = guest.driver.memory().allocate(kPage4K) + 0x80;
  EXPECT_FALSE(names(written(), one));
  for (int i = 0; i < 3; ++i) {
    sync_to(guest, one);
    sync_to(guest, two);
  }
  EXPECT_TRUE(names(written(), one));
  EXPECT_TRUE(names(written(), two));
  EXPECT_FALSE(names(written(), one + kPage4K)) << "not what lies between";

  // The driver begins anew: both queues are elsewhere.
  ASSERT_TRUE(guest.driver.probe(guest.idle));
  EXPECT_NE(evtq_of(guest), first_queue);
  const auto expect_all = [&] {
    const std::vector<GpaRange> all = written();
    expect_pages_in_order(all);
    EXPECT_TRUE(names(all, registers, HostGuest::kRegisterBytes));
    EXPECT_TRUE(names(all, first_queue, bytes));
    EXPECT_TRUE(names(all, evtq_of(guest), bytes));
    EXPECT_TRUE(names(all, one));
    EXPECT_TRUE(names(all, two));
    EXPECT_LT(sum(all), vmm.hosts()[0].bytes);
  };
  expect_all();
  // A reset, other devices or another service change nothing of what was written.
  ASSERT_TRUE(service->host->reset("guest0"));
  expect_all();
  service = std::make_unique<Service>();
  ASSERT_TRUE(service->host->add(vmm.request(0, journal)));
  expect_all();
  ::close(journal);
}

TEST(Written, NamesWhereAGuestStoodThatCameWithItsState) {
  SoftVmm vmm(1, 2);
  QuietGuest guest(vmm.hosts()[0]);
  std::string state;
  {
    Service source;
    ASSERT_TRUE(source.host->add(vmm.request(0)));
    ASSERT_TRUE(guest.driver.probe(guest.idle));
    ASSERT_TRUE(source.host->pause("guest0"));
    state = source.host->state("guest0").value();
  }
  vmm.reopen(0);
  Service target;
  const auto written = [&] { return target.host->written("guest0").value(); };
  ASSERT_TRUE(target.host->add(vmm.request(0)));
  ASSERT_TRUE(target.host->pause("guest0"));
  ASSERT_TRUE(target.host->set_state("guest0", state));
  const Gpa queue = evtq_of(guest);
  EXPECT_FALSE(names(written(), queue)) << "this engine has not touched it";
  ASSERT_TRUE(target.host->resume("guest0"));
  ASSERT_TRUE(guest.driver.run({guest::tlbi_nsnh_all()}, guest.idle));
  EXPECT_TRUE(names(written(), queue));
  ASSERT_TRUE(guest.driver.probe(guest.idle));
  EXPECT_TRUE(names(written(), queue)) << "also when the guest has left it";
  EXPECT_TRUE(names(written(), evtq_of(guest)));
}

TEST(Written, IsAllOfTheMemoryWhereItIsTooMuchToRemember) {
  SoftVmm vmm(1, 2);
  QuietGuest guest(vmm.hosts()[0]);
  Service service;
  ASSERT_TRUE(service.host->add(vmm.request(0)));
  ASSERT_TRUE(guest.driver.probe(guest.idle));
  for (unsigned i = 0; i < 2 * engine::kJournalWritten; ++i) {
    sync_to(guest, guest.driver.memory().allocate(kPage4K));
    (void)guest.driver.memory().allocate(kPage4K);
  }
  const auto all = service.host->written("guest0").value();
  ASSERT_EQ(all.size(), 1U);
  EXPECT_EQ(all[0].gpa, HostGuest::kBase);
  EXPECT_EQ(all[0].bytes, vmm.hosts()[0].bytes);
}

TEST(Written, IsInsideTheMemoryWhateverAJournalSays) {
  auto journal = engine::Journal::create("g", 1, 7).value();
  const std::vector<engine::MemoryRegion> memory = {{Gpa{0x10000}, 0x4000, nullptr, -1},
                                                    {Gpa{0x80000}, 0x2000, nullptr, -1}};
  for (const std::uint64_t wild : {std::uint64_t{1}, std::uint64_t{40}, std::uint64_t{0xfff},
                                   std::uint64_t{0xffff'ffff'ffff'f001}, ~std::uint64_t{0} - 1,
                                   ~std::uint64_t{0}, std::uint64_t{0x12003}}) {
    journal.layout().event.written[3] = wild;
    journal.layout().command.written[0] = wild;
    const auto ranges = written_by(journal, Gpa{0x10000}, memory);
    expect_pages_in_order(ranges);
    ASSERT_FALSE(ranges.empty()) << wild;
    EXPECT_TRUE(names(ranges, Gpa{0x10000}, 0x4000)) << "the register page";
    EXPECT_LE(sum(ranges), 0x6000U);
  }
}

}  // namespace
}  // namespace faultline::session
