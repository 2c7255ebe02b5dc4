// SPDX-License-Identifier: BSD-3-Clause
#include "engine/topology.h"

#include <gtest/gtest.h>
#include <sched.h>

#include <cstdlib>
#include <fstream>
#include <string>

namespace faultline::engine {
namespace {

std::string recorded(const std::string& name) {
  const char* root = std::getenv("FAULTLINE_SOURCE_ROOT");
  return std::string(root != nullptr ? root : ".") + "/config/topologies/" + name;
}

TEST(Topology, OfThisMachineHasTheCpusThisProcessMayUse) {
  const auto topology = live_topology();
  ASSERT_TRUE(topology) << topology.error().message();
  cpu_set_t allowed;
  ASSERT_EQ(sched_getaffinity(0, sizeof allowed, &allowed), 0);
  for (const Cpu& cpu : topology->cpus) EXPECT_TRUE(CPU_ISSET(cpu.index, &allowed)) << cpu.index;
  EXPECT_EQ(topology->source, "this machine");
}

TEST(Topology, OfTwoSocketsKnowsNodesCachesAndSiblings) {
  const auto topology = topology_from_xml(recorded("synthetic-2socket-smt.xml"));
  ASSERT_TRUE(topology) << topology.error().message();
  ASSERT_EQ(topology->cpus.size(), 32U);
  EXPECT_EQ(topology->nodes(), (std::vector<unsigned>{0, 1}));
  EXPECT_EQ(topology->find(0)->core, topology->find(1)->core);
  EXPECT_NE(topology->find(1)->core, topology->find(2)->core);
  EXPECT_EQ(topology->find(0)->l3, topology->find(7)->l3);
  EXPECT_NE(topology->find(7)->l3, topology->find(8)->l3);
  EXPECT_EQ(topology->find(15)->node, 0U);
  EXPECT_EQ(topology->find(16)->node, 1U);
  EXPECT_EQ(topology->find(32), nullptr);
}

TEST(Topology, OfARecordedMachineKnowsItsPciFunctions) {
  const auto topology = topology_from_xml(recorded("recorded-vm-2cpu.xml"));
  ASSERT_TRUE(topology) << topology.error().message();
  EXPECT_EQ(topology->cpus.size(), 2U);
  EXPECT_EQ(topology->node_of_pci("ffff:ff:1f.7"), std::nullopt);
}

TEST(Topology, RefusesWhatIsNotATopologyInOneLine) {
  const auto missing = topology_from_xml("/nonexistent/x.xml");
  ASSERT_FALSE(missing);
  EXPECT_NE(missing.error().message().find("cannot be read"), std::string::npos);
  const std::string path = testing::TempDir() + "/not-a-topology.xml";
  std::ofstream(path) << "<html>";
  const auto foreign = topology_from_xml(path);
  ASSERT_FALSE(foreign);
  EXPECT_NE(foreign.error().message().find("not an hwloc XML"), std::string::npos);
  EXPECT_EQ(foreign.error().message().find('\n'), std::string::npos);
}

TEST(Topology, OfThisMachineIsTheFileThatStandsForIt) {
  ASSERT_EQ(::setenv("HWLOC_XMLFILE", "/nonexistent/x.xml", 1), 0);
  const auto missing = live_topology();
  const std::string path = testing::TempDir() + "/far-away.xml";
  std::ofstream(path) << "<html>";
  ::setenv("HWLOC_XMLFILE", path.c_str(), 1);
  const auto foreign = live_topology();
  ::unsetenv("HWLOC_XMLFILE");
  ASSERT_FALSE(missing);
  EXPECT_EQ(missing.error().what.find("HWLOC_XMLFILE: topology /nonexistent/x.xml"), 0U);
  ASSERT_FALSE(foreign);
  EXPECT_NE(foreign.error().what.find("not an hwloc XML"), std::string::npos);
  EXPECT_TRUE(live_topology());
}

TEST(Topology, CpuListsParseAsTheKernelWritesThem) {
  EXPECT_EQ(parse_cpu_list("0-3,8"), (std::vector<unsigned>{0, 1, 2, 3, 8}));
  EXPECT_EQ(parse_cpu_list("5"), (std::vector<unsigned>{5}));
  EXPECT_TRUE(parse_cpu_list("").empty());
  EXPECT_TRUE(parse_cpu_list("(null)").empty());
  EXPECT_TRUE(parse_cpu_list("9-4").empty());
  EXPECT_TRUE(parse_cpu_list("0-4294967295").empty());
}

}  // namespace
}  // namespace faultline::engine
