// SPDX-License-Identifier: BSD-3-Clause
#include "apps/metrics/endpoint.h"

#include <arpa/inet.h>
#include <httplib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <chrono>
#include <optional>
#include <thread>

#include "apps/metrics/moment_json.h"
#include "apps/metrics/table.h"
#include "engine/engine.h"

namespace faultline::metrics {
namespace {

constexpr std::size_t kThreads = 2;
constexpr int kTimeoutSeconds = 2;

struct Address {
  std::string host;  ///< or the path
  int port = 0;
  bool local = false;
};

std::optional<Address> parse_tcp(const std::string& text) {
  const std::size_t colon = text.rfind(':');
  if (colon == std::string::npos) return std::nullopt;
  Address a;
  a.host = text.substr(0, colon);
  const char* end = text.data() + text.size();
  const auto [rest, error] = std::from_chars(text.data() + colon + 1, end, a.port);
  if (error != std::errc{} || rest != end || a.port < 0 || a.port > 65535) return std::nullopt;
  const bool brackets = a.host.size() > 2 && a.host.front() == '[' && a.host.back() == ']';
  if (brackets) a.host = a.host.substr(1, a.host.size() - 2);
  in_addr four{};
  in6_addr six{};
  if (!brackets && ::inet_pton(AF_INET, a.host.c_str(), &four) == 1) {
    a.local = (ntohl(four.s_addr) >> 24) == 127;
  } else if (brackets && ::inet_pton(AF_INET6, a.host.c_str(), &six) == 1) {
    a.local = IN6_IS_ADDR_LOOPBACK(&six);
  } else {
    return std::nullopt;
  }
  return a;
}

/// A socket that a dead process left behind goes away; a live one, or a file, stays.
void remove_stale(const std::string& path) {
  struct stat st {};
  if (::lstat(path.c_str(), &st) != 0 || !S_ISSOCK(st.st_mode)) return;
  sockaddr_un to{};
  to.sun_family = AF_UNIX;
  path.copy(to.sun_path, sizeof to.sun_path - 1);
  const int fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return;
  const int rc = ::connect(fd, reinterpret_cast<const sockaddr*>(&to), sizeof to);
  if (rc != 0 && errno == ECONNREFUSED) ::unlink(path.c_str());
  ::close(fd);
}

/// httplib says only that it failed; the errno of the call that failed is still there. `errno` is 0
/// before it is asked.
tl::unexpected<Error> cannot_listen(const std::string& where) {
  const int why = errno != 0 ? errno : EADDRNOTAVAIL;
  return fail(why, where + ": cannot listen there, choose another metrics.listen");
}

}  // namespace

struct MetricsEndpoint::State {
  httplib::Server server;
  std::function<Moment()> moment;
  std::string path;  ///< of the UNIX socket
  int port = 0;
  std::thread thread;
};

Result<void> check(const EndpointOptions& options) {
  const std::string& where = options.listen;
  if (where.starts_with('/')) {
    if (where.size() < sizeof(sockaddr_un::sun_path)) return {};
    return fail(ENAMETOOLONG, where + ": longer than a socket's path may be: use a shorter one");
  }
  const std::optional<Address> address = parse_tcp(where);
  if (!address) {
    return fail(EINVAL, where + ": is no address: use 127.0.0.1:PORT, [::1]:PORT or unix:/PATH");
  }
  if (address->local || options.allow_remote) return {};
  return fail(EPERM, where + ": is not loopback: use 127.0.0.1:PORT, or allow it (metrics.remote)");
}

Result<std::unique_ptr<MetricsEndpoint>> MetricsEndpoint::start(const EndpointOptions& options,
                                                                std::function<Moment()> moment) {
  const std::string& where = options.listen;
  auto state = std::make_unique<State>();
  State& s = *state;
  s.moment = std::move(moment);
  s.server.new_task_queue = [] { return new httplib::ThreadPool(kThreads); };
  s.server.set_read_timeout(kTimeoutSeconds);
  s.server.set_write_timeout(kTimeoutSeconds);
  s.server.set_keep_alive_timeout(1);
  s.server.set_keep_alive_max_count(16);
  s.server.set_payload_max_length(0);
  s.server.Get("/metrics", [&s](const httplib::Request&, httplib::Response& response) {
    response.set_content(to_prometheus(s.moment()), "text/plain; version=0.0.4");
  });
  s.server.Get("/moment.json", [&s](const httplib::Request&, httplib::Response& response) {
    response.set_content(to_json(s.moment()), "application/json");
  });
  if (auto ok = check(options); !ok) return tl::unexpected(std::move(ok.error()));
  if (options.listen.starts_with('/')) {
    remove_stale(options.listen);
    s.server.set_address_family(AF_UNIX);
    errno = 0;
    if (!s.server.bind_to_port(options.listen, 80)) return cannot_listen(where);
    s.path = options.listen;
  } else {
    const std::optional<Address> address = parse_tcp(options.listen);  // checked above
    // Not SO_REUSEPORT, httplib's default: two services would share a port.
    s.server.set_socket_options([](socket_t fd) {
      const int yes = 1;
      (void)::setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    });
    s.port = address->port;
    errno = 0;
    const bool bound = s.port == 0 ? (s.port = s.server.bind_to_any_port(address->host)) > 0
                                   : s.server.bind_to_port(address->host, s.port);
    if (!bound) return cannot_listen(where);
  }
  s.thread = std::thread([&s, cpus = options.housekeeping] {
    engine::stay_on(cpus);  // the threads that answer are started by this one
    s.server.listen_after_bind();
  });
  for (int ms = 0; !s.server.is_running(); ++ms) {
    if (ms == kTimeoutSeconds * 1000) {
      s.server.stop();
      s.thread.join();
      return fail(ETIMEDOUT, where + ": it does not begin to listen");
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return std::unique_ptr<MetricsEndpoint>(new MetricsEndpoint(std::move(state)));
}

MetricsEndpoint::MetricsEndpoint(std::unique_ptr<State> state) : state_(std::move(state)) {}

MetricsEndpoint::~MetricsEndpoint() {
  state_->server.stop();
  state_->thread.join();
  if (!state_->path.empty()) ::unlink(state_->path.c_str());
}

int MetricsEndpoint::port() const noexcept {
  return state_->port;
}

}  // namespace faultline::metrics
