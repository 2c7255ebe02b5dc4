// SPDX-License-Identifier: BSD-3-Clause
// The conversation in doc/session.md, played against the server as it stands there.
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <sstream>

#include "tests/apps/session/peer_end.h"

namespace faultline::session {
namespace {

using testing::Bench;
using testing::event;
using testing::json;
using testing::memfd;
using testing::PeerEnd;

std::string page_path() {
  const char* root = std::getenv("FAULTLINE_SOURCE_ROOT");  // NOLINT(concurrency-mt-unsafe)
  return std::string(root != nullptr ? root : ".") + "/doc/session.md";
}

/// A line of the conversation: direction, JSON, and what goes along.
struct Line {
  bool request = false;
  json body;
  std::vector<std::string> fds;
};

std::vector<Line> conversation(const std::string& path) {
  std::ifstream file(path);
  EXPECT_TRUE(file) << path;
  std::vector<Line> out;
  for (std::string text; std::getline(file, text);) {
    const bool request = text.rfind("    → ", 0) == 0;
    if (!request && text.rfind("    ← ", 0) != 0) continue;
    const std::size_t end = text.rfind('}') + 1;
    const std::size_t begin = text.find('{');
    Line line{request, json::parse(text.substr(begin, end - begin)), {}};
    std::istringstream rest(text.substr(end));
    for (std::string plus, kind; rest >> plus;) {
      if (plus != "+fd") continue;
      rest >> kind;
      line.fds.push_back(kind);
    }
    out.push_back(std::move(line));
  }
  return out;
}

Fd make(const std::string& kind) {
  return kind == "memfd" ? memfd(64U << 20U) : event();
}

/// Everything that the page shows is in the answer; the answer may have more.
void expect_within(const json& shown, const json& got) {
  if (!shown.is_object()) {
    EXPECT_EQ(shown, got);
    return;
  }
  for (const auto& [name, value] : shown.items()) {
    ASSERT_TRUE(got.contains(name)) << name << " in " << got;
    expect_within(value, got[name]);
  }
}

TEST(Conversation, IsAsThePageSays) {
  const std::vector<Line> lines = conversation(page_path());
  ASSERT_GE(lines.size(), 20U);
  Bench bench;
  PeerEnd vmm(bench, false);
  unsigned requests = 0;
  for (const Line& line : lines) {
    if (line.request) {
      ++requests;
      std::vector<Fd> fds;
      for (const std::string& kind : line.fds) fds.push_back(make(kind));
      ASSERT_TRUE(vmm.post(line.body.dump(), fds));
      continue;
    }
    const auto answer = vmm.next();
    ASSERT_TRUE(answer) << line.body;
    expect_within(line.body, *answer);
    EXPECT_EQ(answer->contains("error"), line.body.contains("error")) << *answer;
    EXPECT_EQ(vmm.fds.size(), line.fds.size()) << line.body;
  }
  EXPECT_EQ(requests * 2, lines.size());
  EXPECT_FALSE(vmm.next());  // after the goodbye
}

TEST(Conversation, EveryMethodHasItsPlaceOnThePage) {
  std::ifstream file(page_path());
  std::stringstream page;
  page << file.rdbuf();
  std::string headings;
  for (std::string text; std::getline(page, text);) {
    if (text.rfind("### ", 0) == 0) headings += text + ",";
  }
  Bench bench;
  PeerEnd vmm(bench, false);
  ASSERT_TRUE(vmm.ok({{"method", "hello"}, {"versions", {1}}}));
  ASSERT_GE(vmm.result["methods"].size(), 20U);
  for (const json& method : vmm.result["methods"]) {
    EXPECT_NE(headings.find(method.get<std::string>()), std::string::npos) << method;
  }
}

}  // namespace
}  // namespace faultline::session
