// SPDX-License-Identifier: BSD-3-Clause
// Changes of an attached guest whose answer does not come: what the service has counts.
#include <gmock/gmock.h>
#include <sys/mman.h>

#include <functional>
#include <mutex>
#include <string>

#include "apps/client/faultline_client.h"
#include "tests/apps/client/fake_service.h"
#include "tests/apps/client/test_guest.h"

namespace faultline {
namespace {

using testing::ElementsAre;
using Answer = FakeService::Answer;
using nlohmann::json;
using namespace testing_client;

/// A service with one guest. What changes it is done or not, and then the connection ends.
class Losing {
 public:
  explicit Losing(bool does) : does_(does) {}

  std::vector<Answer> answer(const json& r) {
    const std::string method = r["method"];
    if (method == "memory.add") memory.push_back({{"gpa", r["gpa"]}, {"bytes", r["bytes"]}});
    if (method == "device.add") devices.push_back(r["name"]);
    if (method == "query") {
      json list = json::array();
      for (const std::string& name : devices) list.push_back({{"name", name}});
      return {FakeService::result(
          r, {{"state", "served"}, {"memory", memory}, {"devices", list}, {"budget", budget}})};
    }
    if (method == "guest.attach") {
      return {FakeService::result(r, {{"journal", 0}, {"state", state}}, 1)};
    }
    return FakeService::polite(r);
  }
  /// From when it is attached on.
  std::vector<Answer> lose(const json& r) {
    const std::string method = r["method"];
    if (method == "hello" || method == "guest.attach" || method == "query") return answer(r);
    if (does_) {
      if (method == "memory.remove") memory.erase(1);
      if (method == "device.remove") devices.erase(devices.begin());
      if (method == "pause") state = "paused";
      if (method == "budget") budget = {{"weight", r["weight"]}};
      (void)answer(r);
    }
    return {{FakeService::kHangUp}};
  }

  json memory = json::array();
  std::vector<std::string> devices;
  json budget = json::object();
  std::string state = "served";

 private:
  bool does_;
};

/// One that knows no guest and answers everything; what it is asked after a reconnect.
std::vector<FakeService::Request> told_to_another(FakeService& service, faultline_client* client) {
  service.stop();
  service.say([](const json& r) -> std::vector<Answer> {
    if (r["method"] == "guest.attach") return {FakeService::error(r, "no guest g0")};
    return FakeService::polite(r);
  });
  service.requests();
  service.listen();
  EXPECT_EQ(faultline_reconnect(client), 0) << faultline_error(client);
  return service.requests();
}

std::vector<json> parts(const std::vector<FakeService::Request>& requests, const char* method,
                        const char* field) {
  std::vector<json> out;
  for (const auto& r : requests) {
    if (r.body["method"] == method) out.push_back(r.body[field]);
  }
  return out;
}

json field_of(const std::vector<FakeService::Request>& requests, const char* method,
              const char* field) {
  for (const auto& r : requests) {
    if (r.body["method"] == method) return r.body.value(field, json());
  }
  return "not asked";
}

using Change = std::function<int(faultline_client*, TestGuest&)>;
struct Named {
  const char* what;
  Change change;
};

const std::vector<Named>& changes() {
  static const std::vector<Named> all = {
      {"memory.add",
       [](faultline_client* c, TestGuest& g) {
         const faultline_memory part{0x8000'0000, 0x2000, 0, g.fd};
         return faultline_memory_add(c, "g0", &part);
       }},
      {"device.add",
       [](faultline_client* c, TestGuest& g) {
         const faultline_device device{"0000:02:00.0", 10, 512, g.fds, 3};
         return faultline_device_add(c, "g0", &device);
       }},
      {"memory.remove",
       [](faultline_client* c, TestGuest& g) {
         return faultline_memory_remove(c, "g0", g.memory[1].gpa, g.memory[1].bytes);
       }},
      {"device.remove",
       [](faultline_client* c, TestGuest&) {
         return faultline_device_remove(c, "g0", "0000:01:00.0");
       }},
      {"pause", [](faultline_client* c, TestGuest&) { return faultline_pause(c, "g0"); }},
      {"budget",
       [](faultline_client* c, TestGuest&) {
         const faultline_budget budget{0, 0, 0, 3};
         return faultline_set_budget(c, "g0", &budget);
       }},
  };
  return all;
}

TEST(ClientUnanswered, TheGuestIsWhatTheServiceSays) {
  for (const bool does : {false, true}) {
    for (const Named& named : changes()) {
      SCOPED_TRACE(std::string(named.what) + (does ? ", done" : ", not done"));
      Losing world(does);
      FakeService service([&](const json& r) { return world.answer(r); });
      const std::size_t before = open_descriptors();
      {
        Connected c(service);
        TestGuest g;
        ASSERT_EQ(faultline_attach(c.client, &g.guest), 0) << faultline_error(c.client);
        service.say([&](const json& r) { return world.lose(r); });
        EXPECT_EQ(named.change(c.client, g), -ECONNRESET);
        EXPECT_EQ(faultline_lost(c.client), 1);
        service.requests();
        ASSERT_EQ(faultline_reconnect(c.client), 0) << faultline_error(c.client);
        EXPECT_THAT(methods(service.requests()), ElementsAre("hello", "guest.attach", "query"));
        ASSERT_EQ(faultline_reconnect(c.client), 0);
        EXPECT_THAT(methods(service.requests()), ElementsAre("hello", "guest.attach")) << "once";

        const auto again = told_to_another(service, c.client);
        std::vector<json> gpas;
        for (const json& m : world.memory) gpas.push_back(m["gpa"]);
        EXPECT_EQ(parts(again, "memory.add", "gpa"), gpas);
        EXPECT_EQ(parts(again, "device.add", "name"),
                  std::vector<json>(world.devices.begin(), world.devices.end()));
        EXPECT_EQ(field_of(again, "start", "paused"),
                  world.state == "paused" ? json(true) : json());
        EXPECT_EQ(field_of(again, "guest.add", "budget"),
                  world.budget.empty() ? json() : world.budget);
      }
      service.stop();
      service.listen();
      EXPECT_EQ(open_descriptors(), before);
    }
  }
}

TEST(ClientUnanswered, WhereNobodyKnowsItIsAsBefore) {
  for (const Named& named : changes()) {
    SCOPED_TRACE(named.what);
    Losing world(false);
    FakeService service([&](const json& r) { return world.answer(r); });
    const std::size_t before = open_descriptors();
    {
      Connected c(service);
      TestGuest g;
      ASSERT_EQ(faultline_attach(c.client, &g.guest), 0);
      service.say([&](const json& r) { return world.lose(r); });
      EXPECT_EQ(named.change(c.client, g), -ECONNRESET);
      const auto again = told_to_another(service, c.client);
      EXPECT_EQ(parts(again, "memory.add", "gpa").size(), 2U);
      EXPECT_THAT(parts(again, "device.add", "name"),
                  ElementsAre(json("0000:01:00.0"), json("0000:01:00.1")));
      EXPECT_EQ(field_of(again, "guest.add", "journal"), 1) << "of that shape";
      EXPECT_EQ(field_of(again, "start", "paused"), json());
    }
    service.stop();
    service.listen();
    EXPECT_EQ(open_descriptors(), before);
  }
}

TEST(ClientUnanswered, AGuestThatWasToGoIsNotAttachedAgain) {
  Losing world(true);
  FakeService service([&](const json& r) { return world.answer(r); });
  Connected c(service);
  TestGuest g;
  ASSERT_EQ(faultline_attach(c.client, &g.guest), 0);
  g.guest.name = "g1";
  ASSERT_EQ(faultline_attach(c.client, &g.guest), 0);
  service.say([&](const json& r) { return world.lose(r); });
  EXPECT_EQ(faultline_detach(c.client, "g1"), -ECONNRESET);
  service.say([&](const json& r) -> std::vector<Answer> {
    if (r["method"] == "guest.attach" && r["guest"] == "g1") {
      return {FakeService::error(r, "no guest g1 lingers here")};
    }
    return world.answer(r);
  });
  service.requests();
  ASSERT_EQ(faultline_reconnect(c.client), 0) << faultline_error(c.client);
  EXPECT_THAT(methods(service.requests()), ElementsAre("hello", "guest.attach", "guest.attach"));
  // Where it is still there it stays attached.
  service.say([&](const json& r) { return world.lose(r); });
  EXPECT_EQ(faultline_detach(c.client, "g0"), -ECONNRESET);
  ASSERT_EQ(faultline_reconnect(c.client), 0) << faultline_error(c.client);
  service.say([&](const json& r) { return world.answer(r); });
  EXPECT_EQ(faultline_detach(c.client, "g0"), 0);
  service.requests();
  ASSERT_EQ(faultline_reconnect(c.client), 0);
  EXPECT_THAT(methods(service.requests()), ElementsAre("hello"));
}

TEST(ClientUnanswered, ATimeThatIsUpEndsTheConnectionToo) {
  Losing world(true);
  FakeService service([&](const json& r) { return world.answer(r); });
  Connected c(service);
  TestGuest g;
  ASSERT_EQ(faultline_attach(c.client, &g.guest), 0);
  service.say([&](const json& r) -> std::vector<Answer> {
    if (r["method"] != "pause") return world.answer(r);
    world.state = "paused";
    return {};
  });
  faultline_set_timeout(c.client, 30);
  EXPECT_EQ(faultline_pause(c.client, "g0"), -ETIMEDOUT);
  faultline_set_timeout(c.client, 20'000);
  EXPECT_EQ(faultline_lost(c.client), 1);
  ASSERT_EQ(faultline_reconnect(c.client), 0) << faultline_error(c.client);
  EXPECT_EQ(field_of(told_to_another(service, c.client), "start", "paused"), true);
}

TEST(ClientUnanswered, AServiceThatDoesNotSayWhatItHasIsNoneToGoOnWith) {
  for (const json& said : {json::object(), json{{"memory", 1}}, json()}) {
    Losing world(false);
    FakeService service([&](const json& r) { return world.answer(r); });
    Connected c(service);
    TestGuest g;
    ASSERT_EQ(faultline_attach(c.client, &g.guest), 0);
    service.say([&](const json& r) { return world.lose(r); });
    EXPECT_EQ(faultline_device_remove(c.client, "g0", "0000:01:00.0"), -ECONNRESET);
    service.say([&](const json& r) {
      return r["method"] == "query" ? std::vector{FakeService::result(r, said)} : world.answer(r);
    });
    EXPECT_EQ(faultline_reconnect(c.client), -EPROTO) << said;
    EXPECT_EQ(faultline_lost(c.client), 1);
    service.say([&](const json& r) { return world.answer(r); });
    EXPECT_EQ(faultline_reconnect(c.client), 0) << "it is asked again";
  }
}

TEST(ClientUnanswered, WithoutTheNewJournalTheGuestIsTakenOverForIt) {
  FakeService service;
  Connected c(service);
  TestGuest g;
  ASSERT_EQ(faultline_attach(c.client, &g.guest), 0);
  EXPECT_EQ(faultline_device_remove(c.client, "g0", "0000:01:00.0"), 0) << "it is done";
  EXPECT_EQ(faultline_lost(c.client), 1);
  const int journal = ::memfd_create("newer", MFD_CLOEXEC);
  const std::uint64_t inode = FakeService::inode(journal);
  service.pass(journal);
  ASSERT_EQ(faultline_reconnect(c.client), 0) << faultline_error(c.client);
  const auto again = told_to_another(service, c.client);
  EXPECT_THAT(again, testing::Contains(testing::Field(&FakeService::Request::last_inode, inode)));
  EXPECT_EQ(parts(again, "device.add", "name").size(), 1U);
}

}  // namespace
}  // namespace faultline
