// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "kernel/base/result.h"

namespace faultline::engine {

/// One logical CPU and where it sits.
struct Cpu {
  unsigned index = 0;     ///< the operating system's number
  unsigned core = 0;      ///< physical core; SMT siblings share it
  unsigned l3 = 0;        ///< last-level cache; CPUs without one share that of their package
  unsigned node = 0;      ///< NUMA node
  bool isolated = false;  ///< in isolcpus or nohz_full
};

/// Where one PCI function is attached. cpus: those near it; empty when the platform does not say.
struct PciFunction {
  std::string address;  ///< "0000:01:00.0"
  std::vector<unsigned> cpus;
};

/// A host as placement sees it: plain data, from the machine itself or from a recorded XML.
struct Topology {
  std::string source;            ///< "this machine" or the XML's path
  std::vector<Cpu> cpus;         ///< sorted by index; only those this process may run on
  std::vector<PciFunction> pci;  ///< sorted by address

  [[nodiscard]] std::vector<unsigned> nodes() const;  ///< sorted, distinct
  [[nodiscard]] const Cpu* find(unsigned cpu) const;  ///< null when there is no such CPU
  [[nodiscard]] std::optional<unsigned> node_of_pci(const std::string& address) const;
};

/// Ask hwloc about this machine, or the XML that HWLOC_XMLFILE names in its place.
///
/// errors   hwloc cannot load a topology; that file is missing, foreign, or of other CPUs
Result<Topology> live_topology();

/// Read what `lstopo --of xml` wrote on another machine. errors: unreadable or not an hwloc XML
Result<Topology> topology_from_xml(const std::string& path);

/// Parse the kernel's CPU list form, "0-3,8". returns the CPUs in order; what does not parse ends
/// the list
std::vector<unsigned> parse_cpu_list(const std::string& text);

}  // namespace faultline::engine
