// SPDX-License-Identifier: BSD-3-Clause
// What a VMM changes of an attached guest, and that all of it is there again after a restart.
#include <gmock/gmock.h>
#include <sys/mman.h>

#include <atomic>
#include <cstdlib>
#include <string>
#include <utility>
#include <vector>

#include "apps/client/faultline_client.h"
#include "tests/apps/client/fake_service.h"
#include "tests/apps/client/test_guest.h"

namespace faultline {
namespace {

using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using Answer = FakeService::Answer;
using nlohmann::json;
using namespace testing_client;

/// A service that serves guests: what changes one gives its journal anew.
std::vector<Answer> serving(const json& r) {
  const std::string method = r["method"];
  const bool part = method.starts_with("memory.") || method.starts_with("device.");
  return part ? std::vector{FakeService::result(r, {{"journal", 0}}, 1)} : FakeService::polite(r);
}

/// One whose supervisor kept nothing.
std::vector<Answer> forgetful(const json& r) {
  if (r["method"] == "guest.attach") return {FakeService::error(r, "no guest g0")};
  return FakeService::polite(r);
}

/// All that was asked of one method.
std::vector<json> asked(const std::vector<FakeService::Request>& requests, const char* method) {
  std::vector<json> out;
  for (const auto& r : requests) {
    if (r.body["method"] == method) out.push_back(r.body);
  }
  return out;
}

/// What comes after the service's end, with nothing kept.
std::vector<FakeService::Request> after_a_restart(FakeService& service, faultline_client* client) {
  service.stop();
  service.say(forgetful);
  service.requests();
  service.listen();
  EXPECT_EQ(faultline_reconnect(client), 0) << faultline_error(client);
  return service.requests();
}

TEST(ClientChanges, RoutesAndArmingArePassed) {
  FakeService service;
  Connected c(service);
  TestGuest g;
  const faultline_route routes[2] = {{0x808'0040, 9, g.fd}, {0x808'0040, 10, g.fd}};
  g.guest.routes = routes;
  g.guest.n_routes = 2;
  g.guest.doorbell_eventfd = g.guest.arm_eventfd = g.guest.armed_eventfd = g.fd;
  ASSERT_EQ(faultline_attach(c.client, &g.guest), 0) << faultline_error(c.client);
  const json first = asked(service.requests(), "interrupts").at(0);
  EXPECT_EQ(first["doorbell"], 2);
  EXPECT_EQ(first["arm"], 3);
  EXPECT_EQ(first["armed"], 4);
  EXPECT_EQ(first["routes"], json::parse(R"([{"address":134742080,"data":9,"eventfd":5},
                                             {"address":134742080,"data":10,"eventfd":6}])"));
  const auto again = after_a_restart(service, c.client);
  json second = asked(again, "interrupts").at(0);
  second["id"] = first["id"];
  EXPECT_EQ(second, first);
  EXPECT_THAT(again, Contains(testing::Field(&FakeService::Request::fds, 7U)));
  std::vector<faultline_route> many(17, routes[0]);
  g.guest.name = "g1";
  g.guest.routes = many.data();
  g.guest.n_routes = many.size();
  EXPECT_EQ(faultline_attach(c.client, &g.guest), -E2BIG);
}

TEST(ClientChanges, ANewShapeIsWhatIsAttachedAgain) {
  FakeService service(serving);
  const std::size_t before = open_descriptors();
  {
    Connected c(service);
    TestGuest g;
    ASSERT_EQ(faultline_attach(c.client, &g.guest), 0);
    service.requests();
    const faultline_memory part{0x8000'0000, 0x2000, 0x1000, g.fd};
    const faultline_device device{"0000:02:00.0", 10, 512, g.fds, 3};
    EXPECT_EQ(faultline_memory_add(c.client, "g0", &part), 0) << faultline_error(c.client);
    EXPECT_EQ(faultline_device_add(c.client, "g0", &device), 0) << faultline_error(c.client);
    EXPECT_EQ(faultline_memory_remove(c.client, "g0", 4'000'000'000'000'000, 4096), 0);
    EXPECT_EQ(faultline_device_remove(c.client, "g0", "0000:01:00.0"), 0);
    const auto told = service.requests();
    ASSERT_THAT(methods(told),
                ElementsAre("memory.add", "device.add", "memory.remove", "device.remove"));
    EXPECT_EQ(told[0].body["offset"], 0x1000);
    EXPECT_EQ(told[0].fds, 1U);
    EXPECT_EQ(told[1].body["fds"], json::array({0, 1, 2}));
    EXPECT_EQ(told[2].body["gpa"], 4'000'000'000'000'000);
    EXPECT_EQ(told[3].body["name"], "0000:01:00.0");

    const auto again = after_a_restart(service, c.client);
    const auto memory = asked(again, "memory.add");
    const auto devices = asked(again, "device.add");
    ASSERT_EQ(memory.size(), 2U);
    EXPECT_EQ(memory[0]["gpa"], 0x4000'0000);
    EXPECT_EQ(memory[1]["gpa"], 0x8000'0000);
    ASSERT_EQ(devices.size(), 2U);
    EXPECT_EQ(devices[0]["name"], "0000:01:00.1");
    EXPECT_EQ(devices[1]["name"], "0000:02:00.0");
    EXPECT_EQ(asked(again, "guest.add").at(0)["journal"], 1);
  }
  service.stop();
  service.listen();
  EXPECT_EQ(open_descriptors(), before);
}

TEST(ClientChanges, TheJournalOfTheNewShapeIsPassed) {
  std::string passed;
  FakeService service(serving);
  Connected c(service);
  TestGuest g;
  ASSERT_EQ(faultline_attach(c.client, &g.guest), 0);
  // Journals are of this file from now on; the one of start was another.
  const int journal = ::memfd_create("newer", MFD_CLOEXEC);
  service.pass(journal);
  ASSERT_EQ(faultline_device_remove(c.client, "g0", "0000:01:00.0"), 0);
  const std::uint64_t inode = FakeService::inode(journal);
  EXPECT_THAT(after_a_restart(service, c.client),
              Contains(testing::Field(&FakeService::Request::last_inode, inode)));
}

TEST(ClientChanges, WhatIsRefusedIsNotAttachedAgain) {
  FakeService service([](const json& r) -> std::vector<Answer> {
    const std::string method = r["method"];
    if (r.contains("gpa") && r["gpa"] == 0x4000'0000 && r["bytes"] == 0x1000) {
      return {FakeService::error(r, "it overlaps")};
    }
    if (method == "device.add" && r["vsid"] == 77) return {FakeService::error(r, "no such device")};
    if (method == "device.remove") return {FakeService::error(r, "it is the only one")};
    if (method == "budget") return {FakeService::error(r, "too much")};
    return FakeService::polite(r);
  });
  const std::size_t before = open_descriptors();
  {
    Connected c(service);
    TestGuest g;
    ASSERT_EQ(faultline_attach(c.client, &g.guest), 0);
    faultline_memory part{0x4000'0000, 0x1000, 0, g.fd};
    faultline_device device{"0000:01:00.0", 77, 0, g.fds, 3};
    EXPECT_EQ(faultline_memory_add(c.client, "g0", &part), -EREMOTEIO);
    EXPECT_EQ(faultline_device_add(c.client, "g0", &device), -EREMOTEIO);
    EXPECT_EQ(faultline_device_remove(c.client, "g0", "0000:01:00.0"), -EREMOTEIO);
    const faultline_budget budget{1, 2, 3, 4};
    EXPECT_EQ(faultline_set_budget(c.client, "g0", &budget), -EREMOTEIO);
    part.memfd = g.fds[1] = 9999;
    EXPECT_EQ(faultline_memory_add(c.client, "g0", &part), -EBADF);
    EXPECT_EQ(faultline_device_add(c.client, "g0", &device), -EBADF);
    EXPECT_EQ(faultline_memory_add(c.client, "other", &part), -ENOENT);
    EXPECT_STREQ(faultline_error(c.client), "no guest other is attached");
    const auto again = after_a_restart(service, c.client);
    EXPECT_EQ(asked(again, "memory.add").size(), 2U);
    EXPECT_EQ(asked(again, "device.add").size(), 2U);
    EXPECT_FALSE(asked(again, "guest.add").at(0).contains("budget"));
  }
  service.stop();
  service.listen();
  EXPECT_EQ(open_descriptors(), before);
}

TEST(ClientChanges, ABudgetIsSetAgain) {
  FakeService service;
  Connected c(service);
  TestGuest g;
  g.guest.budget.weight = 3;
  ASSERT_EQ(faultline_attach(c.client, &g.guest), 0);
  EXPECT_EQ(asked(service.requests(), "guest.add").at(0)["budget"], (json{{"weight", 3}}));
  const faultline_budget budget{64, 0, 2, 1};
  ASSERT_EQ(faultline_set_budget(c.client, "g0", &budget), 0) << faultline_error(c.client);
  const json set = asked(service.requests(), "budget").at(0);
  EXPECT_EQ(set["commands"], 64);
  EXPECT_FALSE(set.contains("records"));
  auto again = after_a_restart(service, c.client);
  EXPECT_EQ(asked(again, "guest.add").at(0)["budget"],
            (json{{"commands", 64}, {"submissions", 2}, {"weight", 1}}));
  // So is one that was set by its method, and what else is done so.
  const char* fields = R"({"guest":"g0","records":7,"id":1,"method":"drain"})";
  ASSERT_EQ(faultline_call(c.client, "budget", fields, nullptr), 0);
  ASSERT_EQ(faultline_call(c.client, "pause", R"({"guest":"g0"})", nullptr), 0);
  EXPECT_EQ(methods(service.requests()).front(), "budget");
  again = after_a_restart(service, c.client);
  EXPECT_EQ(asked(again, "guest.add").at(0)["budget"], (json{{"records", 7}}));
  EXPECT_EQ(asked(again, "start").at(0)["paused"], true);
  ASSERT_EQ(faultline_call(c.client, "guest.remove", R"({"guest":"g0"})", nullptr), 0);
  EXPECT_THAT(methods(after_a_restart(service, c.client)), ElementsAre("hello"));
}

TEST(ClientChanges, WaitsUntilTheOldConnectionsEndIsSeen) {
  std::atomic<int> tries = 0;
  const auto busy = [&](const json& r) -> std::vector<Answer> {
    if (r["method"] == "guest.attach" && ++tries < 4) {
      return {FakeService::error(r, "guest g0 is another session's")};
    }
    return FakeService::polite(r);
  };
  FakeService service;
  Connected c(service);
  TestGuest g;
  ASSERT_EQ(faultline_attach(c.client, &g.guest), 0);
  service.say(busy);
  ASSERT_EQ(faultline_reconnect(c.client), 0) << faultline_error(c.client);
  EXPECT_EQ(tries, 4);
  tries = -1'000'000;
  faultline_set_timeout(c.client, 200);
  EXPECT_EQ(faultline_reconnect(c.client), -EREMOTEIO) << "not for ever";
  EXPECT_STREQ(faultline_error(c.client), "guest g0 is another session's");
  EXPECT_LT(tries, -999'000);
  EXPECT_GT(tries, -1'000'000);
  EXPECT_EQ(faultline_lost(c.client), 1) << "the next attempt begins anew";
}

/// A file that holds a result; with these seals.
int file_of(const std::string& text, int seals) {
  const int fd = ::memfd_create("result", MFD_CLOEXEC | MFD_ALLOW_SEALING);
  EXPECT_EQ(::pwrite(fd, text.data(), text.size(), 0), static_cast<ssize_t>(text.size()));
  EXPECT_EQ(seals == 0 ? 0 : ::fcntl(fd, F_ADD_SEALS, seals), 0);
  return fd;
}
constexpr int kSealed = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE;

/// Answers that name a result as a file, at this index.
FakeService::Script with_file(json index, int fds = 1) {
  return [index = std::move(index), fds](const json& r) -> std::vector<Answer> {
    if (r["method"] == "hello" || r["method"] == "goodbye") return FakeService::polite(r);
    return {{json{{"id", r["id"]}, {"result_file", index}}.dump(), fds}};
  };
}

TEST(ClientChanges, ALongResultIsReadFromItsFile) {
  FakeService service(with_file(0));
  const json result = {{"text", std::string(200'000, 'x')}, {"n", 4'000'000'000'000'000}};
  service.pass(file_of(result.dump(), kSealed | F_SEAL_SEAL));
  const std::size_t before = open_descriptors();
  {
    Connected c(service);
    char* text = nullptr;
    for (int i = 0; i < 3; ++i) {
      ASSERT_EQ(faultline_call(c.client, "status", nullptr, &text), 0) << faultline_error(c.client);
      EXPECT_EQ(json::parse(text), result);
      ::free(text);
    }
    EXPECT_EQ(faultline_call(c.client, "status", nullptr, nullptr), 0);
    service.say(with_file(2, 3));
    ASSERT_EQ(faultline_query(c.client, "g0", &text), 0) << faultline_error(c.client);
    EXPECT_EQ(json::parse(text), result);
    ::free(text);
  }
  service.stop();
  service.listen();
  EXPECT_EQ(open_descriptors(), before);
}

TEST(ClientChanges, AFileThatIsNoResultIsRefused) {
  struct Wrong {
    const char* what;
    int file;
    json index = 0;
    int fds = 1;
  };
  const int huge = ::memfd_create("huge", MFD_CLOEXEC | MFD_ALLOW_SEALING);
  ASSERT_EQ(::ftruncate(huge, 1LL << 40), 0);
  ASSERT_EQ(::fcntl(huge, F_ADD_SEALS, kSealed), 0);
  int ends[2];
  ASSERT_EQ(::pipe2(ends, O_CLOEXEC), 0);
  ::close(ends[1]);
  const auto good = [] { return file_of("{}", kSealed); };
  const std::vector<Wrong> wrongs = {
      {"not sealed", file_of("{}", 0)},
      {"it may be written", file_of("{}", F_SEAL_SHRINK | F_SEAL_GROW)},
      {"it may shrink", file_of("{}", F_SEAL_WRITE | F_SEAL_GROW)},
      {"empty", file_of("", kSealed)},
      {"not JSON", file_of("nonsense", kSealed)},
      {"more than one", file_of("{} {}", kSealed)},
      {"zeros", file_of(std::string("{}\0", 3), kSealed)},
      {"larger than any", huge},
      {"an eventfd", ::eventfd(0, EFD_CLOEXEC)},
      {"a pipe", ends[0]},
      {"none came", good(), 0, 0},
      {"another one came", good(), 1, 1},
      {"an index below", good(), -1},
      {"half an index", good(), 0.5},
      {"an index as text", good(), "0"},
      {"a large index", good(), 1e300},
  };
  FakeService service;
  for (const Wrong& wrong : wrongs) {
    service.pass(wrong.file);
    service.say(with_file(wrong.index, wrong.fds));
    Connected c(service);
    const std::size_t connected = open_descriptors();
    char* text = nullptr;
    EXPECT_EQ(faultline_call(c.client, "status", nullptr, &text), -EPROTO) << wrong.what;
    EXPECT_EQ(text, nullptr) << wrong.what;
    EXPECT_THAT(faultline_error(c.client), HasSubstr("as a file")) << wrong.what;
    EXPECT_LE(open_descriptors(), connected) << wrong.what;
    EXPECT_EQ(faultline_lost(c.client), 0) << wrong.what;
  }
}

}  // namespace
}  // namespace faultline
