// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace faultline::config {

/// What a service is told by its configuration file. What each member means, its range and its key
/// are in keys.cc, the one table of them; the values here are the defaults.
struct Options {
  std::uint64_t node = 0;
  std::string instance;
  std::string backend = "soft";
  std::string socket;
  std::uint64_t socket_mode = 0660;
  std::string socket_owner;
  std::string user;
  std::string group;
  bool seccomp = true;
  std::uint64_t stall_ms = 1000;

  std::uint64_t shards = 0;
  std::vector<unsigned> cpus;
  std::vector<unsigned> housekeeping;
  bool strict_cores = false;
  std::string hugepages = "auto";
  std::uint64_t eal_memory_mib = 64;

  std::string idle_policy = "auto";
  std::uint64_t sleep_after_us = 200;
  std::uint64_t sleep_longest_us = 100'000;
  std::uint64_t exitless_poll_us = 50;

  std::string merge_policy = "merge";
  double merge_cap = 1.25;
  std::uint64_t merge_deadline_us = 1000;
  std::uint64_t merge_wait_us = 20;
  std::string merge_linger = "auto";
  bool assume_nonglobal = false;
  std::uint64_t audit_every = 0;

  std::uint64_t budget_commands = 0;
  std::uint64_t budget_records = 0;
  std::uint64_t budget_submissions = 0;

  std::vector<unsigned> uids;
  std::vector<unsigned> gids;
  std::uint64_t sessions = 256;
  std::uint64_t sessions_per_uid = 128;
  std::uint64_t descriptors_per_uid = 16'384;
  std::uint64_t guests_per_session = 8;
  std::uint64_t devices_per_guest = 64;
  std::uint64_t memory_parts = 32;
  std::uint64_t memory_mib = 4'194'304;
  std::uint64_t messages_per_second = 1000;
  std::uint64_t linger_ms = 30'000;

  std::uint64_t log_lines_per_second = 2;
  std::uint64_t log_burst = 10;
  std::uint64_t log_total_lines_per_second = 50;

  std::string metrics_listen = "127.0.0.1:9460+%N";
  bool metrics_remote = false;
  bool telemetry = true;

  bool operator==(const Options&) const = default;
};

}  // namespace faultline::config
