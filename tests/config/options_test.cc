// SPDX-License-Identifier: BSD-3-Clause
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <iterator>
#include <set>
#include <string>
#include <vector>

#include "config/keys.h"
#include "config/parse.h"

namespace faultline::config {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

std::string source_file(const std::string& name) {
  const char* root = std::getenv("FAULTLINE_SOURCE_ROOT");
  return std::string(root == nullptr ? "." : root) + '/' + name;
}

std::string contents(const std::string& path) {
  std::ifstream in(path);
  EXPECT_TRUE(in.good()) << path;
  return {std::istreambuf_iterator<char>(in), {}};
}

std::vector<std::string> errors_of(const std::string& text) {
  return parse(text, "f.toml").errors;
}

/// A value other than the default, for each key.
std::string other_value(const Key& key) {
  if (std::holds_alternative<Flag>(key.member)) {
    return value_of({}, key) == "true" ? "false" : "true";
  }
  if (std::holds_alternative<List>(key.member)) {
    return '[' + std::to_string(key.most) + ']';
  }
  if (std::holds_alternative<Text>(key.member)) {
    if (key.choices.empty()) return "\"a \\\"text\\\" \\\\ of \\u0001 its own\"";
    return '"' + std::string(key.choices.substr(key.choices.rfind(' ') + 1)) + '"';
  }
  return std::to_string(std::to_string(key.least) == value_of({}, key) ? key.most : key.least);
}

TEST(Config, AnEmptyFileMeansTheDefaults) {
  const Parsed parsed = parse("", "f.toml");
  EXPECT_THAT(parsed.errors, IsEmpty());
  EXPECT_EQ(parsed.options, Options{});
}

TEST(Config, EveryKeyIsTakenAndPrintedAgain) {
  std::size_t keys = 0;
  for (const Table& table : tables()) {
    for (const Key& key : table.keys) {
      ++keys;
      SCOPED_TRACE(key.name);
      EXPECT_EQ(find_key(key.name), &key);
      EXPECT_EQ(key.name.substr(0, table.name.size() + 1), std::string(table.name) + '.');
      const std::string value = other_value(key);
      const Parsed parsed = parse(std::string(key.name) + " = " + value + '\n', "f.toml");
      // A group wants its user beside it, and an instance is no text of any kind.
      const bool alone = key.name != "service.group" && key.name != "service.instance";
      EXPECT_THAT(parsed.errors, testing::SizeIs(alone ? 0 : 1));
      EXPECT_NE(value_of(parsed.options, key), value_of({}, key));
      EXPECT_NE(parsed.options, Options{});
      if (!parsed.errors.empty()) continue;
      const Parsed again = parse(to_toml(parsed.options), "again.toml");
      EXPECT_THAT(again.errors, IsEmpty());
      EXPECT_EQ(again.options, parsed.options);
    }
  }
  EXPECT_GT(keys, 40U);
}

TEST(Config, NamesAreUniqueAndDefaultsAreInTheirOwnRange) {
  std::set<std::string_view> names;
  for (const Table& table : tables()) {
    for (const Key& key : table.keys) EXPECT_TRUE(names.insert(key.name).second) << key.name;
  }
  EXPECT_THAT(parse(to_toml({}), "defaults").errors, IsEmpty());
  EXPECT_EQ(find_key("service.nod"), nullptr);
}

TEST(Config, AnUnknownKeyIsRefusedWithTheNearestName) {
  EXPECT_THAT(errors_of("[merge]\ncapp = 2.0\n"),
              ElementsAre("f.toml:2:1: unknown key 'capp' in [merge]: did you mean 'cap'?"));
  EXPECT_THAT(errors_of("[sessions]\nlinger-sm = 2\n"),
              ElementsAre("f.toml:2:1: unknown key 'linger-sm' in [sessions]: did you mean "
                          "'linger-ms'?"));
  EXPECT_THAT(errors_of("[sesions]\nuids = [1]\n"),
              ElementsAre("f.toml:1:2: unknown table 'sesions': did you mean 'sessions'?"));
  EXPECT_THAT(errors_of("uids = [1]\n"),
              ElementsAre("f.toml:1:1: key 'uids' belongs in [sessions]"));
  EXPECT_THAT(errors_of("merge = 3\n"),
              ElementsAre("f.toml:1:9: merge is a table: write [merge], and keys below it"));
}

TEST(Config, EveryErrorIsOneLineWithItsPlace) {
  EXPECT_THAT(errors_of("[merge]\ncap = 0.5\nlinger = \"maybe\"\n\n[placement]\nshards = -1\n"
                        "cpus = [1, \"2\"]\n"),
              testing::UnorderedElementsAre(
                  "f.toml:2:7: merge.cap is a number, 1 to 1000000",
                  "f.toml:3:10: merge.linger is \"auto\", \"on\" or \"off\"",
                  "f.toml:6:10: placement.shards is a whole number, 0 to 64",
                  "f.toml:7:12: placement.cpus is a list of whole numbers, 0 to 4095"));
  EXPECT_THAT(errors_of("[merge]\ncap = nan\n"),
              ElementsAre("f.toml:2:7: merge.cap is a number, 1 to 1000000"));
  EXPECT_THAT(errors_of("[service]\nseccomp = 1\n"),
              ElementsAre("f.toml:2:11: service.seccomp is true or false"));
  EXPECT_THAT(errors_of("[service]\nsocket-mode = 0o1777\n"),
              ElementsAre("f.toml:2:15: service.socket-mode is a whole number, 0o0 to 0o777"));
  EXPECT_THAT(errors_of("[service]\nsocket = \"a\\u0000b\"\n"),
              ElementsAre("f.toml:2:10: service.socket is a text"));
  const auto broken = errors_of("[merge\n");
  ASSERT_EQ(broken.size(), 1U);
  EXPECT_THAT(broken[0], HasSubstr("f.toml:1:"));
  EXPECT_THAT(broken[0], HasSubstr("no TOML: "));
}

TEST(Config, AnInstanceIsPartOfFileNames) {
  for (const char* name : {"a/b", "a b", "..\\n", "\u00fc", ""}) {
    const auto errors = errors_of("[service]\ninstance = \"" + std::string(name) + "\"\n");
    EXPECT_EQ(errors.empty(), *name == '\0') << name;
    for (const std::string& e : errors) {
      EXPECT_EQ(e, "f.toml:2:12: service.instance is at most 64 letters, digits, '.', '_' and '-'");
    }
  }
  EXPECT_THAT(errors_of("[service]\ninstance = \"Az09._-\"\n"), IsEmpty());
  EXPECT_THAT(errors_of("[service]\ninstance = \"" + std::string(64, 'a') + "\"\n"), IsEmpty());
  EXPECT_EQ(errors_of("[service]\ninstance = \"" + std::string(65, 'a') + "\"\n").size(), 1U);
}

TEST(Config, WhatNoKeyAloneIsWrongAbout) {
  EXPECT_THAT(errors_of("[service]\ngroup = \"g\"\n"),
              ElementsAre("f.toml:2:9: service.group without service.user: name the user, too"));
  EXPECT_THAT(errors_of("[idle]\nsleep-longest-us = 200000\n[service]\nstall-ms = 200\n"),
              ElementsAre(HasSubstr("f.toml:2:20: idle.sleep-longest-us is no less than")));
  EXPECT_THAT(errors_of("[placement]\ncpus = [1, 2]\nhousekeeping = [2]\n"),
              ElementsAre(HasSubstr("f.toml:3:16: CPU 2 is in placement.housekeeping and")));
  EXPECT_THAT(errors_of("[placement]\ncpus = [1, 2, 1]\n"),
              ElementsAre("f.toml:2:15: placement.cpus has 1 twice: leave one away"));
  EXPECT_THAT(errors_of("[placement]\ncpus = [1]\nshards = 2\nstrict-cores = true\n"),
              ElementsAre(HasSubstr("f.toml:3:10: placement.shards is more than")));
}

TEST(Config, AReloadTakesWhatItCanAndNamesTheRest) {
  Options now;
  Options next;
  next.linger_ms = 1;
  next.uids = {7};
  next.node = 3;
  next.merge_cap = 2;
  EXPECT_THAT(reload(now, next), ElementsAre("service.node", "merge.cap"));
  EXPECT_EQ(now.linger_ms, 1U);
  EXPECT_THAT(now.uids, ElementsAre(7U));
  EXPECT_EQ(now.node, 0U);
  EXPECT_EQ(now.merge_cap, 1.25);
  EXPECT_THAT(reload(now, now), IsEmpty());
}

TEST(Config, EditDistanceCountsInsertedDroppedReplacedAndSwapped) {
  EXPECT_EQ(edit_distance("", ""), 0U);
  EXPECT_EQ(edit_distance("abc", ""), 3U);
  EXPECT_EQ(edit_distance("kitten", "sitting"), 3U);
  EXPECT_EQ(edit_distance("linger", "lniger"), 1U);
}

TEST(Config, AFileThatIsNotThereIsSaid) {
  const auto errors = parse_file("/nonexistent/f.toml").errors;
  ASSERT_EQ(errors.size(), 1U);
  EXPECT_THAT(errors[0], HasSubstr("/nonexistent/f.toml: cannot be read: No such file"));
  EXPECT_THAT(parse_file("/").errors, testing::SizeIs(1));
}

TEST(Config, TheExamplesAreValid) {
  for (const char* name : {"faultline.toml", "dense-host.toml", "latency.toml"}) {
    EXPECT_THAT(parse_file(source_file(std::string("config/") + name)).errors, IsEmpty()) << name;
  }
  EXPECT_EQ(parse_file(source_file("config/faultline.toml")).options, Options{});
  EXPECT_EQ(contents(source_file("config/faultline.toml")), to_toml({}))
      << "it is what `faultlined --print-config` says without a file";
}

TEST(Config, ThePageHasTheTableOfKeys) {
  EXPECT_THAT(contents(source_file("doc/configuration.md")), HasSubstr(to_markdown()))
      << "it is what `faultlined --print-keys` says";
}

}  // namespace
}  // namespace faultline::config
