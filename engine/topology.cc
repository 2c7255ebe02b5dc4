// SPDX-License-Identifier: BSD-3-Clause
#include "engine/topology.h"

#include <sched.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <type_traits>

#include "engine/topology_handle.h"

namespace faultline::engine {
namespace {

Result<TopologyHandle> make_handle() {
  hwloc_topology_t raw = nullptr;
  if (hwloc_topology_init(&raw) != 0) return fail(errno, "hwloc: initialise a topology");
  TopologyHandle handle(raw);
  hwloc_topology_set_io_types_filter(handle.get(), HWLOC_TYPE_FILTER_KEEP_ALL);
  return handle;
}

std::vector<unsigned> members(hwloc_const_bitmap_t set) {
  std::vector<unsigned> out;
  if (set == nullptr) return out;
  for (int i = hwloc_bitmap_first(set); i >= 0; i = hwloc_bitmap_next(set, i)) {
    out.push_back(static_cast<unsigned>(i));
  }
  return out;
}

// The cache that CPUs hand lines over through: L3, else the package (many Arm servers and VMs
// report no L3), else the machine.
unsigned cache_domain(hwloc_topology_t t, hwloc_obj_t pu) {
  for (const hwloc_obj_type_t type : {HWLOC_OBJ_L3CACHE, HWLOC_OBJ_PACKAGE}) {
    if (const hwloc_obj_t at = hwloc_get_ancestor_obj_by_type(t, type, pu)) {
      return at->logical_index;
    }
  }
  return 0;
}

unsigned node_of(hwloc_topology_t t, hwloc_obj_t pu) {
  hwloc_obj_t node = nullptr;
  while ((node = hwloc_get_next_obj_by_type(t, HWLOC_OBJ_NUMANODE, node)) != nullptr) {
    if (node->cpuset != nullptr && hwloc_bitmap_isset(node->cpuset, pu->os_index) != 0) {
      return node->os_index;
    }
  }
  return 0;
}

Topology plain(hwloc_topology_t t, std::string source) {
  Topology out;
  out.source = std::move(source);
  const hwloc_const_cpuset_t allowed = hwloc_topology_get_allowed_cpuset(t);
  hwloc_obj_t pu = nullptr;
  while ((pu = hwloc_get_next_obj_by_type(t, HWLOC_OBJ_PU, pu)) != nullptr) {
    if (hwloc_bitmap_isset(allowed, pu->os_index) == 0) continue;
    const hwloc_obj_t core = hwloc_get_ancestor_obj_by_type(t, HWLOC_OBJ_CORE, pu);
    out.cpus.push_back(Cpu{.index = pu->os_index,
                           .core = core != nullptr ? core->logical_index : pu->logical_index,
                           .l3 = cache_domain(t, pu),
                           .node = node_of(t, pu),
                           .isolated = false});
  }
  std::ranges::sort(out.cpus, {}, &Cpu::index);
  hwloc_obj_t device = nullptr;
  while ((device = hwloc_get_next_pcidev(t, device)) != nullptr) {
    const auto& at = device->attr->pcidev;
    std::array<char, 32> address{};
    std::snprintf(address.data(), address.size(), "%04x:%02x:%02x.%x", at.domain, at.bus, at.dev,
                  at.func);
    const hwloc_obj_t near = hwloc_get_non_io_ancestor_obj(t, device);
    PciFunction function{.address = address.data(), .cpus = {}};
    // Attached to the whole machine means that nobody knows where.
    if (near != nullptr && near != hwloc_get_root_obj(t)) function.cpus = members(near->cpuset);
    out.pci.push_back(std::move(function));
  }
  std::ranges::sort(out.pci, {}, &PciFunction::address);
  return out;
}

void mark_isolated(Topology& topology) {
  for (const char* path :
       {"/sys/devices/system/cpu/isolated", "/sys/devices/system/cpu/nohz_full"}) {
    std::ifstream in(path);
    std::string text;
    if (!std::getline(in, text)) continue;
    const std::vector<unsigned> isolated = parse_cpu_list(text);
    for (Cpu& cpu : topology.cpus) {
      if (std::ranges::find(isolated, cpu.index) != isolated.end()) cpu.isolated = true;
    }
  }
}

// A file that was named to stand for this machine: threads will be bound to its CPUs.
Result<Topology> topology_instead(const std::string& path) {
  const std::string what = "HWLOC_XMLFILE: ";
  auto topology = topology_from_xml(path);
  if (!topology) return fail(std::move(topology.error()), "HWLOC_XMLFILE");
  cpu_set_t mine;
  CPU_ZERO(&mine);
  if (::sched_getaffinity(0, sizeof mine, &mine) != 0) return fail(errno, what + "this CPU set");
  std::erase_if(topology->cpus, [&](const Cpu& cpu) {
    return cpu.index >= CPU_SETSIZE || !CPU_ISSET(cpu.index, &mine);
  });
  if (topology->cpus.empty()) {
    return fail(0, what + path + " has no CPU that this process may use; unset the variable");
  }
  mark_isolated(*topology);
  return topology;
}

}  // namespace

Result<TopologyHandle> load_machine() {
  auto handle = make_handle();
  if (!handle) return tl::unexpected(handle.error());
  if (hwloc_topology_load(handle->get()) != 0) return fail(errno, "hwloc: load this machine");
  return handle;
}

Result<TopologyHandle> load_xml(const std::string& path) {
  if (!std::ifstream(path))
    return fail(errno, "topology " + path + ": cannot be read (write one with lstopo --of xml)");
  auto handle = make_handle();
  if (!handle) return tl::unexpected(handle.error());
  if (hwloc_topology_set_xml(handle->get(), path.c_str()) != 0 ||
      hwloc_topology_load(handle->get()) != 0) {
    return fail(0, "topology " + path + ": not an hwloc XML (write one with lstopo --of xml)");
  }
  return handle;
}

std::vector<unsigned> Topology::nodes() const {
  std::vector<unsigned> out;
  for (const Cpu& cpu : cpus) out.push_back(cpu.node);
  std::ranges::sort(out);
  out.erase(std::unique(out.begin(), out.end()), out.end());
  return out;
}

const Cpu* Topology::find(unsigned cpu) const {
  const auto at = std::ranges::lower_bound(cpus, cpu, {}, &Cpu::index);
  return at != cpus.end() && at->index == cpu ? &*at : nullptr;
}

std::optional<unsigned> Topology::node_of_pci(const std::string& address) const {
  const auto at = std::ranges::find(pci, address, &PciFunction::address);
  if (at == pci.end()) return std::nullopt;
  for (const unsigned cpu : at->cpus) {
    if (const Cpu* known = find(cpu)) return known->node;
  }
  return std::nullopt;
}

Result<Topology> live_topology() {
  // hwloc takes this file for the machine, and where it cannot, it says nothing and looks itself.
  if (const char* path = std::getenv("HWLOC_XMLFILE"); path != nullptr && *path != '\0') {
    return topology_instead(path);
  }
  auto handle = load_machine();
  if (!handle) return tl::unexpected(handle.error());
  Topology topology = plain(handle->get(), "this machine");
  mark_isolated(topology);
  if (topology.cpus.empty()) return fail(0, "hwloc: this machine shows no CPU to this process");
  return topology;
}

Result<Topology> topology_from_xml(const std::string& path) {
  auto handle = load_xml(path);
  if (!handle) return tl::unexpected(handle.error());
  Topology topology = plain(handle->get(), path);
  if (topology.cpus.empty()) return fail(0, "topology " + path + ": has no CPU");
  return topology;
}

std::vector<unsigned> parse_cpu_list(const std::string& text) {
  std::vector<unsigned> out;
  const char* at = text.data();
  const char* const end = at + text.size();
  while (at < end) {
    unsigned first = 0;
    const auto head = std::from_chars(at, end, first);
    if (head.ec != std::errc{}) break;
    unsigned last = first;
    at = head.ptr;
    if (at < end && *at == '-') {
      const auto tail = std::from_chars(at + 1, end, last);
      if (tail.ec != std::errc{} || last < first || last - first > 65'536) break;
      at = tail.ptr;
    }
    for (unsigned cpu = first; cpu <= last; ++cpu) out.push_back(cpu);
    if (at < end && *at != ',') break;
    ++at;
  }
  return out;
}

}  // namespace faultline::engine
