// SPDX-License-Identifier: BSD-3-Clause
// `faultline status` and `faultline drain` where nothing, nobody or a fake service is.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "apps/faultline/status_tables.h"
#include "apps/metrics/moment_json.h"
#include "tests/apps/client/fake_service.h"
#include "tests/apps/faultline/moments.h"
#include "tests/apps/faultline/program.h"

namespace faultline {
namespace {

using json = FakeService::json;
using Answers = std::vector<FakeService::Answer>;
using testing::HasSubstr;
using testing::MatchesRegex;
using testing::StartsWith;

/// A service that says this of itself, and is polite otherwise.
FakeService::Script telling(std::function<Answers(const json& request)> status) {
  return [status = std::move(status)](const json& request) {
    return request["method"] == "status" ? status(request) : FakeService::polite(request);
  };
}
FakeService::Script telling(const metrics::Moment& moment) {
  return telling([status = json::parse(metrics::to_json(moment))](const json& request) {
    return Answers{FakeService::result(request, status)};
  });
}

Finished ask(const std::string& command, const std::string& socket,
             std::vector<std::string> more = {}) {
  more.insert(more.begin(), {command, "--socket", socket});
  return run_program(more, 30);
}

/// Exit status 1 and one line that says so.
void expect_refusal(const Finished& f, const std::string& why) {
  EXPECT_EQ(f.status, 1) << f.out;
  EXPECT_THAT(f.out, StartsWith("faultline: "));
  EXPECT_THAT(f.out, HasSubstr(why));
  EXPECT_EQ(std::ranges::count(f.out, '\n'), 1) << f.out;
}

TEST(Status, PrintsTheTablesOfOneSecond) {
  FakeService service(telling(testing_views::later()));
  const Finished f = ask("status", service.path());
  EXPECT_EQ(f.status, 0) << f.out;
  EXPECT_EQ(f.out, status_text(testing_views::later(), testing_views::later()));
  std::vector<std::string> methods;
  while (methods.empty() || methods.back() != "goodbye") {
    for (const auto& r : service.requests()) methods.push_back(r.body["method"]);
  }
  EXPECT_EQ(methods, (std::vector<std::string>{"hello", "status", "status", "goodbye"}))
      << "a service must not count it as a VMM that was lost";
}

TEST(Status, AsJsonIsTheServicesOwnAnswer) {
  FakeService service(telling(testing_views::later()));
  const Finished f = ask("status", service.path(), {"--json"});
  EXPECT_EQ(f.status, 0) << f.out;
  EXPECT_EQ(json::parse(f.out), json::parse(metrics::to_json(testing_views::later())));
}

TEST(Status, AnAnswerLongerThanAPacketComesInAFile) {
  metrics::Moment moment = testing_views::later();
  while (moment.engine.guests.size() < 64) {
    moment.engine.guests.push_back(moment.engine.guests[0]);
    moment.engine.guests.back().name = "g" + std::to_string(moment.engine.guests.size());
  }
  const std::string text = metrics::to_json(moment);
  ASSERT_GT(text.size(), 65536U);
  FakeService service(telling([](const json& request) {
    return Answers{{json{{"id", request["id"]}, {"result_file", 0}}.dump(), 1}};
  }));
  const int file = ::memfd_create("answer", MFD_CLOEXEC);
  ASSERT_EQ(::write(file, text.data(), text.size()), static_cast<ssize_t>(text.size()));
  service.pass(file);
  const Finished f = ask("status", service.path(), {"--json"});
  EXPECT_EQ(f.status, 0) << f.out.substr(0, 200);
  EXPECT_EQ(json::parse(f.out), json::parse(text));
}

TEST(Status, SaysInOneLineThatNoServiceIsThere) {
  for (const char* command : {"status", "drain"}) {
    expect_refusal(ask(command, "/nonexistent/s.sock"),
                   "/nonexistent/s.sock: no service listens there (systemctl status");
    expect_refusal(ask(command, std::string(200, 'x')), "--socket xxx");
    expect_refusal(ask(command, "/dev/null"), "/dev/null: no service listens there");
  }
  expect_refusal(ask("status", "/nonexistent/s.sock", {"--json"}), "no service listens there");
  EXPECT_EQ(ask("status", "/nonexistent/s.sock", {"--nothing"}).status, 2);
}

TEST(Status, SaysInOneLineThatItDoesNotAnswer) {
  FakeService service(telling([](const json&) { return Answers{}; }));
  for (const char* command : {"status", "drain"}) {
    expect_refusal(ask(command, service.path()), ": the service does not answer");
  }
  service.say([](const json&) { return Answers{}; });
  expect_refusal(ask("status", service.path(), {"--json"}), ": the service does not answer");
}

TEST(Status, SaysItAlsoWhereNoConnectionIsTakenAnyMore) {
  std::string path = std::filesystem::temp_directory_path() / "faultline-views-XXXXXX";
  ASSERT_NE(::mkdtemp(path.data()), nullptr);
  path += "/s.sock";
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::strncpy(address.sun_path, path.c_str(), sizeof address.sun_path - 1);
  const auto* at = reinterpret_cast<const sockaddr*>(&address);
  const int listener = ::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
  ASSERT_EQ(::bind(listener, at, sizeof address), 0);
  ASSERT_EQ(::listen(listener, 0), 0);
  // As a service that hangs: its queue is full of those who wait.
  std::vector<int> waiting;
  for (;;) {
    waiting.push_back(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (::connect(waiting.back(), at, sizeof address) != 0) break;
  }
  expect_refusal(ask("status", path), ": the service does not answer");
  expect_refusal(ask("drain", path, {"--timeout", "1"}), ": the service does not answer");
  for (const int fd : waiting) ::close(fd);
  ::close(listener);
  std::filesystem::remove_all(std::filesystem::path(path).parent_path());
}

TEST(Status, SaysInOneLineThatTheAnswerIsRubbish) {
  FakeService service;
  const auto both = [&](const std::string& why) {
    expect_refusal(ask("status", service.path()), why);
    expect_refusal(ask("status", service.path(), {"--json"}), why);
  };
  const auto says = [&](const std::string& text, int files = 0) {
    service.say(telling([text, files](const json&) { return Answers{{text, files}}; }));
  };
  for (const char* text : {"rubbish", "[]", "null", "7", "{", "\xff\xfe", "\x1b[2J"}) {
    says(text);
    both("an answer that is no JSON object");
  }
  for (const char* text : {"{}", R"({"id":77,"result":{}})", R"({"id":1})"}) {
    says(text);
    both("an answer to nothing that was asked");
  }
  says(R"({"id":1,"result_file":0})");
  both("its file is no JSON object");
  service.say(telling([](const json& r) { return Answers{FakeService::result(r, {{"a", 1}})}; }));
  both("moment.json is damaged");
  service.say(telling([](const json& r) {
    return Answers{FakeService::result(r, {{"version", 2}})};
  }));
  both("another version of moment.json");
  service.say(telling(
      [](const json& r) { return Answers{FakeService::error(r, "no\nsuch \x1b[31mluck")}; }));
  both("no?such ?[31mluck");
  service.say(telling([](const json&) { return Answers{{FakeService::kHangUp}}; }));
  both("the service closed the connection");
  service.say(
      [](const json& r) { return Answers{FakeService::error(r, "hello: nobody you are")}; });
  both("hello: nobody you are");
}

TEST(Status, APeerThatIsTurnedAwaySeesWhy) {
  FakeService service;
  for (const bool unread : {false, true}) {
    service.turn_away(R"({"id": null, "error": "uid 65534 may not attach guests here"})", unread);
    for (const char* command : {"status", "drain"}) {
      const Finished f = ask(command, service.path());
      EXPECT_EQ(f.status, 1);
      EXPECT_EQ(f.out, "faultline: " + service.path() + ": uid 65534 may not attach guests here\n");
    }
  }
}

TEST(Status, AServiceThatGoesAwayInBetweenIsNoTable) {
  unsigned asked = 0;
  const json status = json::parse(metrics::to_json(testing_views::later()));
  FakeService service(telling([&](const json& r) {
    return ++asked == 1 ? Answers{FakeService::result(r, status), {FakeService::kHangUp}}
                        : Answers{};
  }));
  expect_refusal(ask("status", service.path()), "the service went away");
}

TEST(Drain, AsksAndWaitsUntilTheServiceHasEnded) {
  const json status = json::parse(metrics::to_json(testing_views::later()));
  FakeService service([&](const json& r) {
    if (r["method"] == "status") return Answers{FakeService::result(r, status)};
    if (r["method"] == "drain") {
      return Answers{FakeService::result(r, json::object()), {FakeService::kHangUp}};
    }
    return FakeService::polite(r);
  });
  const Finished f = ask("drain", service.path());
  EXPECT_EQ(f.status, 0) << f.out;
  EXPECT_EQ(f.out, "draining 2 guests on node 1\ndrained: the service has ended\n");
}

TEST(Drain, OneThatIsGoneBeforeItAnsweredHasEndedToo) {
  FakeService service([](const json& r) {
    return r["method"] == "drain" ? Answers{{FakeService::kHangUp}} : FakeService::polite(r);
  });
  const Finished f = ask("drain", service.path());
  EXPECT_EQ(f.status, 0) << f.out;
  EXPECT_EQ(f.out, "drained: the service has ended\n") << "it tells no status, and is drained";
}

TEST(Drain, SaysThatItIsRefused) {
  FakeService service([](const json& r) {
    return r["method"] == "drain"
               ? Answers{FakeService::error(r, "drain: only root and the service's own user may")}
               : FakeService::polite(r);
  });
  expect_refusal(ask("drain", service.path()), "drain: only root and the service's own user may");
}

TEST(Drain, EndsWaitingAfterItsTime) {
  FakeService service;
  const Nanos before = monotonic_ns();
  const Finished f = ask("drain", service.path(), {"--timeout", "2"});
  EXPECT_EQ(f.status, 1);
  EXPECT_GE(monotonic_ns() - before, Nanos{2'000'000'000});
  EXPECT_THAT(f.out, MatchesRegex("1 s\nfaultline: .*: still there after 2 s.*\n"));
  for (const char* wrong : {"0", "-1", "3601", "soon"}) {
    EXPECT_EQ(ask("drain", service.path(), {"--timeout", wrong}).status, 2) << wrong;
  }
}

TEST(Drain, AServiceThatDoesNotAnswerIsNotWaitedForAnyLonger) {
  FakeService service(
      [](const json& r) { return r["method"] == "drain" ? Answers{} : FakeService::polite(r); });
  expect_refusal(ask("drain", service.path(), {"--timeout", "1"}), "the service does not answer");
}

TEST(Top, WantsATerminal) {
  const FakeService service;
  expect_refusal(ask("top", service.path()), "top draws on a terminal; use faultline status");
}

}  // namespace
}  // namespace faultline
