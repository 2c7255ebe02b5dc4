// SPDX-License-Identifier: BSD-3-Clause
#include "apps/faultlined/peers.h"

#include <nlohmann/json.hpp>
#include <utility>

namespace faultline::daemon {

std::string payer_of(const std::string& line) {
  const std::string who = line.substr(0, line.find(": "));
  const std::size_t at = who.rfind("uid ");
  if (at == std::string::npos) return "sessions";
  return who.substr(at, who.find_first_of(",)", at) - at);
}

PeerLogOptions peer_log_options(const config::Options& o) {
  PeerLogOptions p;
  p.lines_per_second = static_cast<unsigned>(o.log_lines_per_second);
  p.burst = static_cast<unsigned>(o.log_burst);
  p.total_lines_per_second = static_cast<unsigned>(o.log_total_lines_per_second);
  return p;
}

session::ServerOptions server_options(const config::Options& o,
                                      std::function<void(const std::string& line)> log,
                                      std::function<nlohmann::json()> status) {
  session::ServerOptions s;
  s.node = static_cast<unsigned>(o.node);
  s.uids = o.uids;
  s.gids = o.gids;
  s.limits.sessions = static_cast<unsigned>(o.sessions);
  s.limits.sessions_per_uid = static_cast<unsigned>(o.sessions_per_uid);
  s.limits.descriptors_per_uid = o.descriptors_per_uid;
  s.limits.guests_per_session = static_cast<unsigned>(o.guests_per_session);
  s.limits.devices_per_guest = static_cast<unsigned>(o.devices_per_guest);
  s.limits.memory_parts = static_cast<unsigned>(o.memory_parts);
  s.limits.memory_bytes = o.memory_mib << 20U;
  s.limits.messages_per_second = static_cast<unsigned>(o.messages_per_second);
  s.linger_ns = o.linger_ms * 1'000'000;
  s.log = std::move(log);
  s.status = std::move(status);
  return s;
}

}  // namespace faultline::daemon
