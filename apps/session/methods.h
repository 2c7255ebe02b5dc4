// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <nlohmann/json.hpp>
#include <vector>

#include "apps/session/guest_book.h"
#include "apps/session/guest_host.h"
#include "apps/session/heartbeat.h"
#include "apps/session/peer.h"
#include "apps/session/request.h"
#include "apps/session/server.h"
#include "kernel/base/result.h"

namespace faultline::session {

/// What the methods of doc/session.md work on.
struct Service {
  GuestHost* host = nullptr;
  GuestBook* guests = nullptr;
  Heartbeat* heartbeat = nullptr;
  const ServerOptions* options = nullptr;
  ServerCounters* counters = nullptr;
  bool* drain = nullptr;
};

struct Reply {
  nlohmann::json result = nlohmann::json::object();
  std::vector<Fd> fds;
};

/// Do what a request asks.
///
/// errors  one line for the peer; nothing of the request took effect
Result<Reply> answer(Service& service, Session& session, Request& request);

}  // namespace faultline::session
