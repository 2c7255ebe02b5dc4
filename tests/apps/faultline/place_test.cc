// SPDX-License-Identifier: BSD-3-Clause
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>

#include "apps/faultline/place_command.h"
#include "apps/faultline/place_report.h"
#include "tests/apps/faultline/program.h"

namespace faultline {
namespace {

std::string recorded(const std::string& name) {
  const char* root = std::getenv("FAULTLINE_SOURCE_ROOT");
  return std::string(root != nullptr ? root : ".") + "/config/topologies/" + name;
}

std::string contents(const std::string& path) {
  std::ifstream in(path);
  return {std::istreambuf_iterator<char>(in), {}};
}

TEST(PlaceCommandGuest, ReadsEveryKey) {
  const auto guest =
      parse_guest("web vcpus=2-4,8 devices=0000:01:00.0,0000:01:00.1 faults=4 commands=2");
  ASSERT_TRUE(guest) << guest.error().message();
  EXPECT_EQ(guest->name, "web");
  EXPECT_EQ(guest->vcpus, (std::vector<unsigned>{2, 3, 4, 8}));
  EXPECT_EQ(guest->devices, (std::vector<std::string>{"0000:01:00.0", "0000:01:00.1"}));
  EXPECT_EQ(guest->fault_load, 4U);
  EXPECT_EQ(guest->command_load, 2U);
}

TEST(PlaceCommandGuest, RefusesWhatItCannotReadAndSaysWhatCouldStandThere) {
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"", "a name comes first"},
      {"vcpus=1", "a name comes first"},
      {"a vcpus", "no key=value"},
      {"a vcpus=", "no list of CPUs"},
      {"a vcpus=4-2", "no list of CPUs"},
      {"a vcpus=1,x", "no list of CPUs"},
      {"a vcpus=1,,2", "no list of CPUs"},
      {"a vcpus=3,1", "no list of CPUs"},
      {"a vcpus=1--2", "no list of CPUs"},
      {"a vcpus=1,4-2", "no list of CPUs"},
      {"a faults=0", "no load from 1 to 1000"},
      {"a commands=1001", "no load from 1 to 1000"},
      {"a faults=2x", "no load from 1 to 1000"},
      {"a colour=red", "use vcpus, devices, faults, commands"},
  };
  for (const auto& [text, expected] : cases) {
    const auto guest = parse_guest(text);
    ASSERT_FALSE(guest) << text;
    EXPECT_NE(guest.error().what.find(expected), std::string::npos) << guest.error().what;
  }
}

TEST(PlaceReport, WritesCpuListsAsTheKernelDoes) {
  EXPECT_EQ(cpu_list({}), "");
  EXPECT_EQ(cpu_list({3}), "3");
  EXPECT_EQ(cpu_list({0, 1, 2, 5, 7, 8}), "0-2,5,7-8");
}

TEST(Place, ShowsThePlanOfThisMachine) {
  const Finished f = run_program({"place"});
  EXPECT_EQ(f.status, 0) << f.out;
  EXPECT_NE(f.out.find("topology   this machine"), std::string::npos) << f.out;
  EXPECT_NE(f.out.find("shard 0"), std::string::npos);
  EXPECT_NE(f.out.find("housekeeping on CPUs"), std::string::npos);
}

TEST(Place, PutsEachGuestNearItsVcpusOnEveryTopologyThatComesWithIt) {
  for (const char* name : {"synthetic-desktop-8core.xml", "synthetic-2socket-epyc-nps4.xml",
                           "synthetic-2socket-xeon-snc2.xml", "synthetic-arm-server-80core.xml"}) {
    const std::string json = testing::TempDir() + "/plan.json";
    const Finished f = run_program({"place", "--topology", recorded(name), "--guest",
                                    "web vcpus=8-11", "--guest", "db vcpus=2", "--json", json});
    ASSERT_EQ(f.status, 0) << f.out;
    const auto plan = nlohmann::json::parse(contents(json));
    ASSERT_EQ(plan["guests"].size(), 2U);
    for (const auto& guest : plan["guests"]) {
      EXPECT_NE(guest["events"]["shard"], guest["commands"]["shard"]) << name;
    }
    ASSERT_FALSE(plan["shards"].empty());
    for (const auto& shard : plan["shards"]) {
      EXPECT_FALSE(shard["rejected"].empty()) << name << ": every choice had an alternative";
      EXPECT_EQ(shard["reason"].get<std::string>().find("shares"), std::string::npos) << name;
    }
    EXPECT_TRUE(plan["warnings"].empty()) << plan["warnings"];
  }
}

TEST(Place, HasLstopoDrawItWithThePollingCpusColoured) {
  const std::string picture = testing::TempDir() + "/plan.svg";
  const Finished f = run_program({"place", "--topology", recorded("synthetic-desktop-8core.xml"),
                                  "--guest", "web vcpus=2", "--picture", picture});
  if (f.status != 0 && f.out.find("apt-get install hwloc-nox") != std::string::npos) {
    GTEST_SKIP() << "lstopo is not installed";
  }
  ASSERT_EQ(f.status, 0) << f.out;
  const std::string svg = contents(picture);
  EXPECT_NE(svg.find("rgb(228,87,46)"), std::string::npos) << "a polling CPU";
  EXPECT_NE(svg.find("rgb(246,197,182)"), std::string::npos) << "its sibling";
  EXPECT_NE(svg.find("rgb(118,176,65)"), std::string::npos) << "housekeeping";
  EXPECT_NE(svg.find("rgb(76,120,168)"), std::string::npos) << "a vCPU";
  EXPECT_NE(svg.find("web/events"), std::string::npos) << "the legend";
  EXPECT_EQ(svg.substr(0, svg.find("<rect")).find("px "), std::string::npos) << "a valid viewBox";
}

TEST(Place, RefusesWhatMakesNoSenseInOneLine) {
  const std::vector<std::pair<std::vector<std::string>, std::string>> cases = {
      {{"--topology", "/nonexistent.xml"}, "cannot be read"},
      {{"--node", "77"}, "node 77 has no CPU"},
      {{"--cpus", "9999"}, "CPU 9999 is not in"},
      {{"--cpus", "3-1"}, "no list of CPUs"},
      {{"--isolated", "x"}, "no list of CPUs"},
      {{"--devices", "0000:ff:1f.7"}, "device 0000:ff:1f.7 is not in this machine; it has "},
      {{"--devices", "0000:ff:1f.7", "--topology", recorded("synthetic-2socket-epyc-nps4.xml")},
       "; it has 0000:01:00.0, 0000:01:00.1"},
      {{"--devices", "0000:01:00.0,0000:01:00.0", "--guests", "2", "--topology",
        recorded("synthetic-2socket-epyc-nps4.xml")},
       "device 0000:01:00.0 is given to guest0 and to guest1: one guest has it"},
      {{"--isolated", "999"}, "--isolated: CPU 999 is not in this machine"},
      {{"--guest", "a", "--guest", "a"}, "is there twice"},
      {{"--guest", "a vcpus=9999"}, "CPU 9999 is not in"},
      {{"--shards", "500", "--strict-cores"}, "--strict-cores"},
      {{"--json", "/nonexistent/plan.json"}, "--json"},
  };
  for (const auto& [arguments, expected] : cases) {
    std::vector<std::string> all = {"place"};
    all.insert(all.end(), arguments.begin(), arguments.end());
    const Finished f = run_program(all);
    EXPECT_EQ(f.status, 2) << f.out;
    EXPECT_NE(f.out.find(expected), std::string::npos) << f.out;
    EXPECT_EQ(std::ranges::count(f.out, '\n'), 1) << f.out;
  }
}

TEST(Place, APictureThatLstopoCannotDrawIsOneLine) {
  for (const char* name : {"plan.bmp", "plan.nothing"}) {
    const std::string picture = testing::TempDir() + "/" + name;
    const Finished f = run_program(
        {"place", "--topology", recorded("synthetic-desktop-8core.xml"), "--picture", picture});
    if (f.out.find("apt-get install hwloc-nox") != std::string::npos) {
      GTEST_SKIP() << "lstopo is not installed";
    }
    EXPECT_EQ(f.status, 1) << f.out;
    EXPECT_NE(f.out.find("faultline: picture: lstopo cannot write " + picture), std::string::npos)
        << f.out;
    EXPECT_EQ(f.out.find("Usage:"), std::string::npos) << f.out;
  }
}

TEST(Place, WritesItsPlanToStandardOutput) {
  const Finished f = run_program({"place", "--json", "-"});
  ASSERT_EQ(f.status, 0) << f.out;
  const std::size_t at = f.out.find("\n{\n");
  ASSERT_NE(at, std::string::npos) << f.out;
  EXPECT_LT(f.out.find("shard 0"), at);
  EXPECT_TRUE(nlohmann::json::parse(f.out.substr(at))["shards"].is_array());
  EXPECT_FALSE(std::ifstream("-").good());
}

}  // namespace
}  // namespace faultline
