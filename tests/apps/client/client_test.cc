// SPDX-License-Identifier: BSD-3-Clause
#include <gmock/gmock.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cstring>
#include <string_view>
#include <vector>

#include "apps/client/faultline_client.h"
#include "apps/client/wire.h"
#include "tests/apps/client/fake_service.h"
#include "tests/apps/client/test_guest.h"

namespace faultline {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using Answer = FakeService::Answer;
using nlohmann::json;
using namespace testing_client;

TEST(Client, AttachesAGuestByTheRequestsOfTheProtocol) {
  FakeService service;
  Connected c(service);
  TestGuest g;
  ASSERT_EQ(faultline_attach(c.client, &g.guest), 0) << faultline_error(c.client);
  const auto asked = service.requests();
  ASSERT_THAT(methods(asked), ElementsAre("hello", "guest.add", "memory.add", "memory.add",
                                          "device.add", "device.add", "interrupts", "start"));
  EXPECT_EQ(asked[0].body["versions"], json::array({1}));
  EXPECT_EQ(asked[1].body, (json{{"id", 2},
                                 {"method", "guest.add"},
                                 {"name", "g0"},
                                 {"registers", 0x4000'0000},
                                 {"mode", "exitless"},
                                 {"vcpus", {4, 5}},
                                 {"backend_fds", {0}}}));
  EXPECT_EQ(asked[1].fds, 1U);
  EXPECT_EQ(asked[3].body["gpa"], 4'000'000'000'000'000) << "no exponent, no rounding";
  EXPECT_TRUE(asked[3].body["gpa"].is_number_unsigned());
  EXPECT_EQ(asked[3].body["offset"], 0x2000);
  EXPECT_EQ(asked[3].body["memfd"], 0);
  EXPECT_EQ(asked[5].body, (json{{"id", 6},
                                 {"method", "device.add"},
                                 {"guest", "g0"},
                                 {"name", "0000:01:00.1"},
                                 {"vsid", 9},
                                 {"host_sid", 265},
                                 {"fds", {0, 1, 2}}}));
  EXPECT_EQ(asked[5].fds, 3U);
  EXPECT_EQ(asked[6].body["evtq"], 0);
  EXPECT_EQ(asked[6].body["gerror"], 1);
  EXPECT_FALSE(asked[6].body.contains("sync"));
  EXPECT_EQ(asked[6].fds, 2U);
}

TEST(Client, APeerThatIsTurnedAwaySeesWhy) {
  FakeService service;
  Connected c(service);
  ASSERT_EQ(faultline_lost(c.client), 0);
  for (const bool unread : {false, true}) {
    service.turn_away(R"({"id": null, "error": "uid 65534 may not attach guests here"})", unread);
    EXPECT_EQ(faultline_reconnect(c.client), -EREMOTEIO) << unread;
    EXPECT_STREQ(faultline_error(c.client), "uid 65534 may not attach guests here") << unread;
  }
  service.turn_away("", false);
  EXPECT_EQ(faultline_reconnect(c.client), 0) << faultline_error(c.client);
}

TEST(Client, AGuestThatIsRefusedIsTakenBackAndForgotten) {
  FakeService service([](const json& r) -> std::vector<Answer> {
    if (r["method"] == "device.add" && r["vsid"] == 9) {
      return {FakeService::error(r, "guest g0:\nno such device")};
    }
    return FakeService::polite(r);
  });
  const std::size_t before = open_descriptors();
  {
    Connected c(service);
    TestGuest g;
    EXPECT_EQ(faultline_attach(c.client, &g.guest), -EREMOTEIO);
    EXPECT_STREQ(faultline_error(c.client), "guest g0: no such device") << "one line";
    EXPECT_EQ(methods(service.requests()).back(), "guest.remove");
    EXPECT_EQ(faultline_reconnect(c.client), 0);
    EXPECT_THAT(methods(service.requests()), ElementsAre("hello"));
    g.memory[1].memfd = 9999;
    EXPECT_EQ(faultline_attach(c.client, &g.guest), -EBADF);
  }
  service.stop();
  service.listen();
  EXPECT_EQ(open_descriptors(), before);
}

TEST(Client, AfterARestartItsGuestsAreTakenOver) {
  FakeService service;
  Connected c(service);
  TestGuest g;
  ASSERT_EQ(faultline_attach(c.client, &g.guest), 0);
  EXPECT_EQ(faultline_lost(c.client), 0);
  service.stop();
  EXPECT_EQ(faultline_lost(c.client), 1);
  EXPECT_EQ(faultline_pause(c.client, "g0"), -ENOTCONN);
  EXPECT_LT(faultline_reconnect(c.client), 0) << "nobody listens";
  EXPECT_THAT(faultline_error(c.client), HasSubstr(service.path()));
  service.requests();
  service.listen();
  ASSERT_EQ(faultline_reconnect(c.client), 0) << faultline_error(c.client);
  const auto asked = service.requests();
  ASSERT_THAT(methods(asked), ElementsAre("hello", "guest.attach"));
  EXPECT_EQ(asked[1].body["guest"], "g0");
  EXPECT_EQ(asked[1].body["token"], "secret");
  EXPECT_EQ(faultline_lost(c.client), 0);
}

TEST(Client, WhereTheServiceKeptNothingTheJournalIsPassed) {
  FakeService service;
  Connected c(service);
  TestGuest g;
  ASSERT_EQ(faultline_attach(c.client, &g.guest), 0);
  ASSERT_EQ(faultline_pause(c.client, "g0"), 0);
  service.stop();
  service.say([](const json& r) -> std::vector<Answer> {
    if (r["method"] == "guest.attach") return {FakeService::error(r, "no guest g0")};
    return FakeService::polite(r);
  });
  service.requests();
  service.listen();
  ASSERT_EQ(faultline_reconnect(c.client), 0) << faultline_error(c.client);
  const auto asked = service.requests();
  ASSERT_EQ(asked.size(), 9U);
  EXPECT_EQ(asked[2].body["method"], "guest.add");
  EXPECT_EQ(asked[2].body["journal"], 1);
  EXPECT_EQ(asked[2].fds, 2U);
  EXPECT_EQ(asked[8].body["method"], "start");
  EXPECT_EQ(asked[8].body["paused"], true) << "as it was, and never anything else";
}

TEST(Client, EveryCallIsItsMethod) {
  FakeService service([](const json& r) -> std::vector<Answer> {
    if (r["method"] == "get-state") return {FakeService::result(r, {{"state", "{\"a\":1}"}})};
    if (r["method"] == "query") return {FakeService::result(r, {{"state", "served"}})};
    return FakeService::polite(r);
  });
  Connected c(service);
  TestGuest g;
  ASSERT_EQ(faultline_attach(c.client, &g.guest), 0);
  service.requests();
  EXPECT_EQ(faultline_pause(c.client, "g0"), 0);
  char* text = nullptr;
  EXPECT_EQ(faultline_get_state(c.client, "g0", &text), 0);
  EXPECT_STREQ(text, "{\"a\":1}");
  EXPECT_EQ(faultline_set_state(c.client, "g0", text), 0);
  ::free(text);
  EXPECT_EQ(faultline_resume(c.client, "g0"), 0);
  EXPECT_EQ(faultline_reset(c.client, "g0"), 0);
  EXPECT_EQ(faultline_query(c.client, "g0", &text), 0);
  EXPECT_STREQ(text, "{\"state\":\"served\"}");
  ::free(text);
  EXPECT_EQ(faultline_call(c.client, "budget", R"({"guest":"g0","weight":2})", nullptr), 0);
  EXPECT_EQ(faultline_call(c.client, "budget", "[]", nullptr), -EINVAL);
  EXPECT_EQ(faultline_detach(c.client, "g0"), 0);
  const auto asked = service.requests();
  EXPECT_THAT(methods(asked), ElementsAre("pause", "get-state", "set-state", "resume", "reset",
                                          "query", "budget", "guest.remove"));
  EXPECT_EQ(asked[2].body["state"], "{\"a\":1}");
  EXPECT_EQ(asked[6].body["weight"], 2);
  EXPECT_EQ(faultline_reconnect(c.client), 0);
  EXPECT_THAT(methods(service.requests()), ElementsAre("hello")) << "it has no guest any more";
}

/// Not under every user-mode emulator: descriptors that do not fit are dropped there without a
/// word.
bool truncation_is_told() {
  int pair[2];
  EXPECT_EQ(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
  const std::vector<int> many(20, pair[0]);
  EXPECT_EQ(fl_wire_send(pair[0], "x", 1, many.data(), many.size()), 0);
  alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int) * FL_WIRE_ANSWER_FDS)> control{};
  char byte = 0;
  iovec part{&byte, 1};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control.data();
  message.msg_controllen = control.size();
  EXPECT_EQ(::recvmsg(pair[1], &message, MSG_CMSG_CLOEXEC), 1);
  for (cmsghdr* head = CMSG_FIRSTHDR(&message); head != nullptr;
       head = CMSG_NXTHDR(&message, head)) {
    for (std::size_t i = 0; i < (head->cmsg_len - CMSG_LEN(0)) / sizeof(int); ++i) {
      int fd = -1;
      std::memcpy(&fd, CMSG_DATA(head) + i * sizeof fd, sizeof fd);
      ::close(fd);
    }
  }
  for (const int fd : pair) ::close(fd);
  return (message.msg_flags & MSG_CTRUNC) != 0;
}

TEST(Client, NothingThatAServiceSaysHarmsIt) {
  const std::string deep(2000, '[');
  const std::pair<const char*, Answer> answers[] = {
      {"no JSON", {"nonsense"}},
      {"no object", {"[1,2]"}},
      {"cut off", {R"({"id": 2, "result": {)"}},
      {"more than one", {R"({"id":2,"result":{}} {})"}},
      {"no id", {R"({"result": {}})"}},
      {"id as text", {R"({"id": "2", "result": {}})"}},
      {"negative id", {R"({"id": -2, "result": {}})"}},
      {"half an id", {R"({"id": 2.5, "result": {}})"}},
      {"large id", {R"({"id": 1e300, "result": {}})"}},
      {"error as a number", {R"({"id": 2, "error": 5})"}},
      {"too deep", {deep}},
      {"null id without error", {R"({"id": null})"}},
      {"bytes", {std::string("\0\1\xff{", 4)}},
      {"too long", {std::string(70'000, ' ')}},
      {"too many descriptors", {R"({"id": 2, "result": {}})", 20}},
      {"an end", {FakeService::kHangUp}},
  };
  const bool told = truncation_is_told();
  FakeService service;
  const std::size_t before = open_descriptors();
  for (const auto& [what, answer] : answers) {
    if (std::string_view(what) == "too many descriptors" && !told) continue;
    service.say([answer = answer](const json& r) -> std::vector<Answer> {
      return r["method"] == "query" ? std::vector{answer} : FakeService::polite(r);
    });
    Connected c(service);
    char* text = nullptr;
    EXPECT_LT(faultline_query(c.client, "g0", &text), 0) << what;
    EXPECT_EQ(text, nullptr) << what;
    EXPECT_NE(std::string(faultline_error(c.client)), "") << what;
    EXPECT_EQ(faultline_lost(c.client), 1) << what << ": the connection is not used any more";
    EXPECT_EQ(faultline_query(c.client, "g0", &text), -ENOTCONN) << what;
    EXPECT_EQ(faultline_reconnect(c.client), 0) << what;
  }
  service.stop();
  service.listen();
  EXPECT_EQ(open_descriptors(), before);
}

TEST(Client, AnswersOfTheWrongShapeAreErrors) {
  json result;
  FakeService service([&](const json& r) -> std::vector<Answer> {
    if (r["method"] == "hello") return FakeService::polite(r);
    return {FakeService::result(r, result, r["method"] == "pause" ? 3 : 0)};
  });
  Connected c(service);
  char* text = nullptr;
  std::uint64_t ns = 0;
  for (const json& wrong : {json(), json(1), json::array(), json{{"state", 7}}}) {
    result = wrong;
    EXPECT_EQ(faultline_get_state(c.client, "g", &text), -EPROTO) << wrong;
    EXPECT_EQ(faultline_heartbeat(c.client, &ns), -EPROTO) << wrong;
    EXPECT_EQ(faultline_pause(c.client, "g"), 0) << "it has no result that matters";
  }
  EXPECT_EQ(faultline_lost(c.client), 0);
}

TEST(Client, AnAnswerThatCameTooLateIsNotTakenForTheNext) {
  json late;
  FakeService service([&](const json& r) -> std::vector<Answer> {
    if (r["method"] == "hello") return FakeService::polite(r);
    if (r["method"] == "pause") {
      late = r;
      return {};
    }
    return {FakeService::error(late, "too late"), FakeService::result(r, {{"now", 1}})};
  });
  Connected c(service);
  faultline_set_timeout(c.client, 30);
  EXPECT_EQ(faultline_pause(c.client, "g"), -ETIMEDOUT);
  faultline_set_timeout(c.client, 20'000);
  char* text = nullptr;
  ASSERT_EQ(faultline_query(c.client, "g", &text), 0) << faultline_error(c.client);
  EXPECT_STREQ(text, "{\"now\":1}");
  ::free(text);
}

TEST(Client, AnErrorAboutTheConnectionIsToldAndEndsIt) {
  FakeService service([](const json& r) -> std::vector<Answer> {
    if (r["method"] == "hello") return FakeService::polite(r);
    return {{R"({"id": null, "error": "no request"})"}};
  });
  Connected c(service);
  EXPECT_EQ(faultline_reset(c.client, "g"), -EREMOTEIO);
  EXPECT_STREQ(faultline_error(c.client), "no request");
  EXPECT_EQ(faultline_lost(c.client), 1);
}

TEST(Client, SaysWhyItCannotConnect) {
  std::array<char, 64> why{};
  EXPECT_EQ(faultline_connect("", why.data(), why.size()), nullptr);
  EXPECT_EQ(faultline_connect("/no/such/socket", why.data(), why.size()), nullptr);
  EXPECT_THAT(why.data(), HasSubstr("/no/such/socket: No such file"));
  EXPECT_EQ(faultline_connect(std::string(200, 'a').c_str(), nullptr, 0), nullptr);
  FakeService service([](const json& r) -> std::vector<Answer> {
    return {FakeService::result(r, {{"version", 2}})};
  });
  EXPECT_EQ(faultline_connect(service.path().c_str(), why.data(), why.size()), nullptr);
  EXPECT_THAT(why.data(), HasSubstr("another version"));
}

TEST(Client, ReadsTheHeartbeat) {
  const int memory = ::memfd_create("beat", MFD_CLOEXEC);
  const std::uint64_t beat = 123'456'789;
  EXPECT_EQ(::pwrite(memory, &beat, sizeof beat, 0), static_cast<ssize_t>(sizeof beat));
  FakeService service;
  service.pass(memory);
  Connected c(service);
  std::uint64_t ns = 0;
  EXPECT_EQ(faultline_heartbeat(c.client, &ns), 0) << faultline_error(c.client);
  EXPECT_EQ(ns, beat);
  EXPECT_EQ(faultline_heartbeat(c.client, &ns), 0);
  EXPECT_THAT(methods(service.requests()), ElementsAre("hello", "heartbeat")) << "asked for once";
}

}  // namespace
}  // namespace faultline
