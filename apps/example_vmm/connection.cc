// SPDX-License-Identifier: BSD-3-Clause
#include "apps/example_vmm/connection.h"

#include <fmt/format.h>
#include <unistd.h>

#include <array>
#include <cstdint>
#include <cstdio>

namespace faultline::vmm {

Result<std::unique_ptr<Connection>> Connection::open(const std::string& socket) {
  std::array<char, 256> why{};
  faultline_client* client = faultline_connect(socket.c_str(), why.data(), why.size());
  if (client == nullptr) return fail(0, why.data());
  return std::unique_ptr<Connection>(new Connection(client));
}

Connection::~Connection() {
  thread_.request_stop();
  if (thread_.joinable()) thread_.join();
  faultline_close(client_);
}

Result<void> Connection::attach(const faultline_guest& guest) {
  if (faultline_attach(client_, &guest) == 0) return {};
  return fail(0, faultline_error(client_));
}

void Connection::watch() {
  thread_ = std::jthread([this](const std::stop_token& stop) { main(stop); });
}

void Connection::main(const std::stop_token& stop) {
  while (!stop.stop_requested()) {
    if (faultline_lost(client_) != 0) reattach();
    if (!lost_) mind_heartbeat();
    ::usleep(20'000);
  }
}

void Connection::reattach() {
  if (!lost_) fmt::print(stderr, "faultline-vmm: the service is gone; waiting for it\n");
  lost_ = true;
  if (faultline_reconnect(client_) != 0) return;
  lost_ = false;
  ++reattached_;
  fmt::print(stderr, "faultline-vmm: the guests are attached again\n");
}

void Connection::mind_heartbeat() {
  std::uint64_t beat = 0;
  if (faultline_heartbeat(client_, &beat) != 0) return;
  const Nanos now = monotonic_ns();
  const bool silent = beat < now && now - beat > kDeadMan;
  if (silent && !silent_) ++silences_;
  silent_ = silent;
}

}  // namespace faultline::vmm
