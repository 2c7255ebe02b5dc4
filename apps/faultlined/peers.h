// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <functional>
#include <nlohmann/json_fwd.hpp>
#include <string>

#include "apps/faultlined/peer_log.h"
#include "apps/session/server.h"
#include "config/options.h"

namespace faultline::daemon {

/// Who of a line of the session server pays for it: the user behind it, where it says one. Not the
/// session: a peer that comes again and again is one.
[[nodiscard]] std::string payer_of(const std::string& line);

[[nodiscard]] PeerLogOptions peer_log_options(const config::Options& options);

/// What the session server has to know of the configuration.
[[nodiscard]] session::ServerOptions server_options(
    const config::Options& options, std::function<void(const std::string& line)> log,
    std::function<nlohmann::json()> status);

}  // namespace faultline::daemon
