// SPDX-License-Identifier: BSD-3-Clause
#include "apps/faultlined/outlets.h"

#include <cerrno>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>
#include <utility>

#include "apps/faultlined/listener.h"
#include "apps/faultlined/log.h"

namespace faultline::daemon {
namespace {

constexpr Nanos kTryAgainNs = 3'000'000'000;

std::optional<std::uint64_t> number(std::string_view text) {
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  return value;
}

}  // namespace

Result<std::string> metrics_address(const config::Options& options) {
  constexpr std::string_view kUnix = "unix:";
  constexpr std::uint64_t kPorts = 65'535;
  std::string text = with_node(options.metrics_listen, options.node);
  if (text.starts_with(kUnix)) {
    text.erase(0, kUnix.size());
    if (text.starts_with('/')) return text;
    return fail(0, "metrics.listen: '" + text + "' is no whole path: use unix:/PATH");
  }
  const std::size_t colon = text.rfind(':');
  const std::size_t plus = text.find('+', colon == std::string::npos ? 0 : colon);
  if (colon == std::string::npos || plus == std::string::npos) return text;
  const auto port = number(std::string_view(text).substr(colon + 1, plus - colon - 1));
  const auto more = number(std::string_view(text).substr(plus + 1));
  if (!port || !more || *port > kPorts || *more > kPorts || *port + *more > kPorts) {
    return fail(0, "metrics.listen: " + text + ": is no port: use ADDRESS:PORT+%N, 65535 at most");
  }
  return text.substr(0, colon + 1) + std::to_string(*port + *more);
}

Result<void> check_metrics(const config::Options& options) {
  if (options.metrics_listen.empty()) return {};
  auto address = metrics_address(options);
  if (!address) return tl::unexpected(std::move(address.error()));
  metrics::EndpointOptions endpoint;
  endpoint.listen = std::move(*address);
  endpoint.allow_remote = options.metrics_remote;
  if (auto ok = metrics::check(endpoint); !ok) return fail(std::move(ok.error()), "metrics.listen");
  return {};
}

Result<Outlets> Outlets::start(const config::Options& options,
                               const std::vector<unsigned>& housekeeping,
                               const std::function<metrics::Moment()>& moment) {
  Outlets out;
  if (!options.metrics_listen.empty()) {
    auto address = metrics_address(options);
    if (!address) return tl::unexpected(std::move(address.error()));
    out.wanted_.listen = std::move(*address);
    out.wanted_.allow_remote = options.metrics_remote;
    out.wanted_.housekeeping = housekeeping;
    out.moment_ = moment;
    if (auto ok = out.listen(); !ok) {
      const int why = ok.error().code;
      if (why != EADDRINUSE && why != EADDRNOTAVAIL) return tl::unexpected(std::move(ok.error()));
      log(Level::kWarning, ok.error().message() + "; the service goes on without, and tries again");
      out.said_ = why;
    }
  }
  if (options.telemetry) {
    auto started = metrics::Telemetry::start(moment);
    if (!started) return fail(std::move(started.error()), "metrics.telemetry");
    out.telemetry_ = std::move(*started);
  }
  return out;
}

Result<void> Outlets::listen() {
  auto started = metrics::MetricsEndpoint::start(wanted_, moment_);
  if (!started) return fail(std::move(started.error()), "metrics.listen");
  endpoint_ = std::move(*started);
  return {};
}

void Outlets::tick(Nanos now) {
  if (endpoint_ || wanted_.listen.empty() || now < next_) return;
  next_ = now + kTryAgainNs;
  if (auto ok = listen(); ok) {
    log(Level::kNotice, "metrics.listen: " + wanted_.listen + ": listens there now");
  } else if (ok.error().code != said_) {
    said_ = ok.error().code;
    log(Level::kWarning, ok.error().message());
  }
}

}  // namespace faultline::daemon
