// SPDX-License-Identifier: BSD-3-Clause
#include "engine/topology_drawing.h"

#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <regex>

#include "engine/topology_handle.h"

extern char** environ;

namespace faultline::engine {
namespace {

constexpr const char* kPolling = "Background=#e4572e;Text=#ffffff";
constexpr const char* kQuiet = "Background=#f6c5b6;Text=#000000";
constexpr const char* kHousekeeping = "Background=#76b041;Text=#000000";
constexpr const char* kVcpu = "Background=#4c78a8;Text=#ffffff";

std::map<unsigned, const char*> styles(const Plan& plan,
                                       const std::vector<GuestPlacement>& guests) {
  std::map<unsigned, const char*> out;
  for (const unsigned cpu : plan.housekeeping) out[cpu] = kHousekeeping;
  for (const unsigned cpu : plan.quiet) out[cpu] = kQuiet;
  for (const GuestPlacement& guest : guests) {
    for (const unsigned cpu : guest.vcpus) out[cpu] = kVcpu;
  }
  for (const ShardPlan& shard : plan.shards) out[shard.cpu] = kPolling;
  return out;
}

/// One row for each shard: lstopo draws legend lines below the picture.
std::vector<std::string> legend(const Plan& plan) {
  std::vector<std::string> out = {
      "red: polling; pale red: its SMT sibling, left idle; green: housekeeping; blue: vCPUs"};
  for (std::size_t s = 0; s < plan.shards.size(); ++s) {
    std::string line = "shard " + std::to_string(s) + " on CPU " +
                       std::to_string(plan.shards[s].cpu) + ", load " +
                       std::to_string(plan.shards[s].load) + ":";
    for (const GuestPlan& guest : plan.guests) {
      if (guest.event_shard == s) line += " " + guest.name + "/events";
      if (guest.command_shard == s) line += " " + guest.name + "/commands";
    }
    out.push_back(std::move(line));
  }
  return out;
}

/// A file of its own that is gone with it.
class Scratch {
 public:
  Scratch() : path_((std::filesystem::temp_directory_path() / "faultline-XXXXXX.xml").string()) {
    fd_ = ::mkstemps(path_.data(), 4);
  }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  ~Scratch() {
    if (fd_ < 0) return;
    ::close(fd_);
    ::unlink(path_.c_str());
  }

  [[nodiscard]] bool made() const noexcept { return fd_ >= 0; }
  [[nodiscard]] const std::string& path() const noexcept { return path_; }

 private:
  std::string path_;
  int fd_ = -1;
};

/// lstopo writes viewBox='0 0 10px 20px'; units are not allowed there and some programs then draw
/// nothing.
Result<void> mend_view_box(const std::string& file) {
  std::ifstream in(file);
  const std::string svg((std::istreambuf_iterator<char>(in)), {});
  if (!in) return fail(errno, "picture: read " + file);
  in.close();
  static const std::regex units("(viewBox='0 0 [0-9]+)px ([0-9]+)px'");
  std::ofstream out(file);
  out << std::regex_replace(svg, units, "$1 $2'", std::regex_constants::format_first_only);
  if (!out.flush()) return fail(errno, "picture: write " + file);
  return {};
}

/// Exit status, or -errno when it could not be started. What it says of errors goes to `said`.
int run(std::vector<std::string> words, const std::string& said) {
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, said.c_str(), O_WRONLY | O_TRUNC, 0);
  pid_t pid = 0;
  const int e = ::posix_spawnp(&pid, argv[0], &actions, nullptr, argv.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  if (e != 0) return -e;
  int status = 0;
  while (::waitpid(pid, &status, 0) < 0) {
    if (errno != EINTR) return -errno;
  }
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128;
}

}  // namespace

Result<void> draw_placement(const std::string& xml, const Plan& plan,
                            const std::vector<GuestPlacement>& guests, const std::string& file) {
  auto topology = xml.empty() ? load_machine() : load_xml(xml);
  if (!topology) return tl::unexpected(topology.error());
  for (const auto& [cpu, style] : styles(plan, guests)) {
    const hwloc_obj_t pu = hwloc_get_pu_obj_by_os_index(topology->get(), cpu);
    if (pu != nullptr) hwloc_obj_add_info(pu, "lstopoStyle", style);
  }
  const Scratch scratch;
  if (!scratch.made() ||
      hwloc_topology_export_xml(topology->get(), scratch.path().c_str(), 0) != 0) {
    return fail(errno, "picture: write " + scratch.path());
  }
  // Cores that look alike would be drawn as one.
  std::vector<std::string> words = {"lstopo", "-i", scratch.path(), "--no-factorize", "--force"};
  for (const std::string& line : legend(plan)) {
    words.emplace_back("--append-legend");
    words.push_back(line);
  }
  words.push_back(file);
  const Scratch said;
  int status = run(words, said.path());
  if (status == -ENOENT) {
    words.front() = "lstopo-no-graphics";
    status = run(words, said.path());
  }
  if (status == -ENOENT) {
    return fail(0, "picture: lstopo is missing; get it with: apt-get install hwloc-nox");
  }
  if (status < 0) return fail(-status, "picture: start lstopo");
  if (status != 0) {
    std::string why;
    std::getline(std::ifstream(said.path()) >> std::ws, why);
    if (why.starts_with("Usage:")) why.clear();
    return fail(0, "picture: lstopo cannot write " + file + (why.empty() ? "" : " (" + why + ")") +
                       ": .svg works with each; .png and .pdf want the graphical one: apt-get "
                       "install hwloc");
  }
  return file.ends_with(".svg") ? mend_view_box(file) : Result<void>{};
}

}  // namespace faultline::engine
