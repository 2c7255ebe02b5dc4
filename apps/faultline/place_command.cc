// SPDX-License-Identifier: BSD-3-Clause
#include "apps/faultline/place_command.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <charconv>
#include <cstdio>
#include <map>
#include <optional>
#include <regex>
#include <sstream>

#include "apps/faultline/options.h"
#include "apps/faultline/place_report.h"
#include "apps/faultline/result_file.h"
#include "engine/topology_drawing.h"

namespace faultline {
namespace {

constexpr unsigned kMostLoad = 1000;

std::vector<std::string> split(const std::string& text, char at) {
  std::vector<std::string> out;
  std::istringstream in(text);
  for (std::string part; std::getline(in, part, at);) {
    if (!part.empty()) out.push_back(part);
  }
  return out;
}

Result<std::vector<unsigned>> cpus_of(const std::string& option, const std::string& text) {
  static const std::regex form("[0-9]+(-[0-9]+)?(,[0-9]+(-[0-9]+)?)*");
  std::vector<unsigned> cpus;
  bool whole = std::regex_match(text, form);
  for (const std::string& part : split(text, ',')) {
    const std::vector<unsigned> some = engine::parse_cpu_list(part);
    whole = whole && !some.empty() && (cpus.empty() || cpus.back() < some.front());
    cpus.insert(cpus.end(), some.begin(), some.end());
  }
  if (!whole) {
    return fail(kUsageError, option + ": '" + text + "' is no list of CPUs in order, like 2-5,8");
  }
  return cpus;
}

Result<unsigned> load_of(const std::string& where, const std::string& text) {
  unsigned value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size() || value < 1 || value > kMostLoad) {
    return fail(kUsageError,
                where + ": '" + text + "' is no load from 1 to " + std::to_string(kMostLoad));
  }
  return value;
}

Result<void> set_field(const std::string& where, const std::string& key, const std::string& value,
                       engine::GuestPlacement& guest) {
  if (key == "vcpus") {
    auto cpus = cpus_of(where + ": vcpus", value);
    if (!cpus) return tl::unexpected(cpus.error());
    guest.vcpus = std::move(*cpus);
    return {};
  }
  if (key == "devices") {
    guest.devices = split(value, ',');
    return {};
  }
  if (key == "faults" || key == "commands") {
    const auto load = load_of(where + ": " + key, value);
    if (!load) return tl::unexpected(load.error());
    (key == "faults" ? guest.fault_load : guest.command_load) = *load;
    return {};
  }
  return fail(kUsageError, where + ": unknown '" + key + "'; use vcpus, devices, faults, commands");
}

Result<engine::Topology> topology_of(const PlaceCommand& command) {
  auto topology = command.topology == "live" ? engine::live_topology()
                                             : engine::topology_from_xml(command.topology);
  if (!topology) return fail(kUsageError, topology.error().message());
  if (command.isolated.empty()) return topology;
  const auto isolated = cpus_of("--isolated", command.isolated);
  if (!isolated) return tl::unexpected(isolated.error());
  for (const unsigned cpu : *isolated) {
    if (topology->find(cpu) != nullptr) continue;
    return fail(kUsageError, fmt::format("--isolated: CPU {} is not in {}", cpu, topology->source));
  }
  for (engine::Cpu& cpu : topology->cpus) {
    if (std::ranges::find(*isolated, cpu.index) != isolated->end()) cpu.isolated = true;
  }
  return topology;
}

std::string those_there(const engine::Topology& topology) {
  constexpr std::size_t kMost = 16;
  if (topology.pci.empty()) return "it has none";
  std::string out = "it has";
  for (std::size_t i = 0; i < topology.pci.size() && i < kMost; ++i) {
    out += (i == 0 ? " " : ", ") + topology.pci[i].address;
  }
  const std::size_t more = topology.pci.size() - std::min(topology.pci.size(), kMost);
  return more == 0 ? out : fmt::format("{} and {} more", out, more);
}

Result<engine::PlacementOptions> options_of(const PlaceCommand& command) {
  engine::PlacementOptions options;
  if (command.node >= 0) options.node = static_cast<unsigned>(command.node);
  options.shards = command.shards;
  options.strict_cores = command.strict_cores;
  if (!command.cpus.empty()) {
    auto cpus = cpus_of("--cpus", command.cpus);
    if (!cpus) return tl::unexpected(cpus.error());
    options.cpus = std::move(*cpus);
  }
  return options;
}

}  // namespace

void declare_place(CLI::App& command, PlaceCommand& to) {
  command
      .add_option("--topology", to.topology,
                  "live, or an XML that `lstopo --of xml` wrote on another machine")
      ->capture_default_str();
  command.add_option("--node", to.node, "NUMA node to serve (default: that of most devices)")
      ->check(CLI::Range(0, 1023));
  command.add_option("--shards", to.shards, "polling shards (default: as many as are useful)")
      ->check(CLI::Range(1, 512));
  command.add_flag("--strict-cores", to.strict_cores, "refuse more shards than polling cores");
  command.add_option("--cpus", to.cpus, "poll on these CPUs only, like 2-5,8");
  command.add_option("--isolated", to.isolated,
                     "CPUs to take as isolated, which an XML does not tell");
  command.add_option("--devices", to.devices, "PCI addresses, dealt to the guests in turn")
      ->delimiter(',');
  command.add_option("--guests", to.guests, "that many guests of which nothing is known")
      ->check(CLI::Range(1, 256));
  command.add_option("--guest", to.guest,
                     "one guest: \"NAME [vcpus=0-3] [devices=ADDRESS,...] [faults=N] "
                     "[commands=N]\"; loads are relative");
  command.add_option("--json", to.json, "write the plan to this file, too, - for standard output");
  command.add_option("--picture", to.picture,
                     "have lstopo draw it with its CPUs coloured (.svg; .png and .pdf with the "
                     "graphical lstopo)");
}

Result<engine::GuestPlacement> parse_guest(const std::string& text) {
  std::istringstream in(text);
  engine::GuestPlacement guest;
  if (!(in >> guest.name) || guest.name.find('=') != std::string::npos) {
    return fail(kUsageError, "--guest '" + text + "': a name comes first");
  }
  const std::string where = "--guest " + guest.name;
  for (std::string word; in >> word;) {
    const std::size_t at = word.find('=');
    if (at == std::string::npos) {
      return fail(kUsageError, where + ": '" + word + "' is no key=value");
    }
    if (auto ok = set_field(where, word.substr(0, at), word.substr(at + 1), guest); !ok) {
      return tl::unexpected(ok.error());
    }
  }
  return guest;
}

Result<std::vector<engine::GuestPlacement>> guests_of(const PlaceCommand& command,
                                                      const engine::Topology& topology) {
  std::vector<engine::GuestPlacement> guests;
  for (const std::string& text : command.guest) {
    auto guest = parse_guest(text);
    if (!guest) return tl::unexpected(guest.error());
    if (std::ranges::find(guests, guest->name, &engine::GuestPlacement::name) != guests.end()) {
      return fail(kUsageError, "--guest " + guest->name + " is there twice");
    }
    guests.push_back(std::move(*guest));
  }
  unsigned unnamed = command.guests;
  if (unnamed == 0 && guests.empty()) unnamed = 1;
  for (unsigned i = 0; i < unnamed; ++i) guests.push_back({.name = fmt::format("guest{}", i)});
  for (std::size_t i = 0; i < command.devices.size(); ++i) {
    guests[i % guests.size()].devices.push_back(command.devices[i]);
  }
  std::map<std::string, std::string> owners;
  for (const engine::GuestPlacement& guest : guests) {
    for (const std::string& device : guest.devices) {
      if (std::ranges::find(topology.pci, device, &engine::PciFunction::address) ==
          topology.pci.end()) {
        return fail(kUsageError, "device " + device + " is not in " + topology.source + "; " +
                                     those_there(topology));
      }
      const auto [at, first] = owners.emplace(device, guest.name);
      if (first) continue;
      return fail(kUsageError, fmt::format("device {} is given to {} and to {}: one guest has it",
                                           device, at->second, guest.name));
    }
    for (const unsigned cpu : guest.vcpus) {
      if (topology.find(cpu) != nullptr) continue;
      return fail(kUsageError,
                  fmt::format("--guest {}: CPU {} is not in {}", guest.name, cpu, topology.source));
    }
  }
  return guests;
}

Result<void> place_command(const PlaceCommand& command) {
  const auto topology = topology_of(command);
  if (!topology) return tl::unexpected(topology.error());
  const auto guests = guests_of(command, *topology);
  if (!guests) return tl::unexpected(guests.error());
  const auto options = options_of(command);
  if (!options) return tl::unexpected(options.error());
  std::optional<ResultFile> json;
  if (!command.json.empty()) {
    auto file = ResultFile::open(command.json);
    if (!file) return fail(kUsageError, "--json: " + file.error().message());
    json.emplace(std::move(*file));
  }
  const auto plan = engine::place(*topology, *guests, *options);
  if (!plan) return fail(kUsageError, plan.error().message());
  fmt::print("{}", plan_text(*topology, *plan));
  std::fflush(stdout);
  if (json) {
    if (auto ok = json->commit(plan_json(*topology, *plan)); !ok) {
      return fail(std::move(ok.error()), "--json");
    }
  }
  if (command.picture.empty()) return {};
  const std::string xml = command.topology == "live" ? std::string{} : command.topology;
  return engine::draw_placement(xml, *plan, *guests, command.picture);
}

}  // namespace faultline
