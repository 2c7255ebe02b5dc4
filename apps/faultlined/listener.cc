// SPDX-License-Identifier: BSD-3-Clause
#include "apps/faultlined/listener.h"

#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>

#include "apps/faultlined/privileges.h"

namespace faultline::daemon {
namespace {

constexpr int kBacklog = 256;

/// Of service.socket-owner, which is not empty.
Result<Identity> owner_of(const std::string& owner) {
  const std::size_t colon = owner.find(':');
  const std::string group = colon == std::string::npos ? "" : owner.substr(colon + 1);
  auto who = find_identity(owner.substr(0, colon), group);
  if (!who) return fail(std::move(who.error()), "service.socket-owner");
  return who;
}

Result<void> give_to_owner(const std::string& path, const std::string& owner) {
  if (owner.empty()) return {};
  const auto who = owner_of(owner);
  if (!who) return tl::unexpected(who.error());
  if (::chown(path.c_str(), who->uid, who->gid) != 0) {
    return fail(errno, path + ": give it to " + owner + " (service.socket-owner)");
  }
  return {};
}

}  // namespace

std::string with_node(std::string text, std::uint64_t node) {
  for (std::size_t at = 0; (at = text.find("%N", at)) != std::string::npos;) {
    const std::string number = std::to_string(node);
    text.replace(at, 2, number);
    at += number.size();
  }
  return text;
}

std::string socket_path(const config::Options& options) {
  if (!options.socket.empty()) return with_node(options.socket, options.node);
  const char* run = std::getenv("XDG_RUNTIME_DIR");
  return with_node(
      std::string(run != nullptr && *run != '\0' ? run : "/tmp") + "/faultline-%N.sock",
      options.node);
}

Result<void> check_socket(const config::Options& options) {
  const std::string path = socket_path(options);
  if (path.size() >= sizeof sockaddr_un::sun_path) {
    return fail(0,
                path + ": is longer than a socket's name may be (107 bytes): set service.socket");
  }
  if (options.socket_owner.empty()) return {};
  const auto who = owner_of(options.socket_owner);
  if (!who) return tl::unexpected(who.error());
  return {};
}

Result<session::Fd> make_listener(const config::Options& options) {
  const std::string path = socket_path(options);
  if (auto ok = check_socket(options); !ok) return tl::unexpected(std::move(ok.error()));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, path.data(), path.size());
  const auto* at = reinterpret_cast<const sockaddr*>(&address);

  session::Fd socket(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (socket.get() < 0) return fail(errno, "a socket for sessions");
  // Nobody may connect before owner and permissions are set: only listen() lets anybody in.
  if (::bind(socket.get(), at, sizeof address) != 0) {
    if (errno == ENOENT) {
      return fail(0, path +
                         ": its folder is not there: create it (a unit's RuntimeDirectory= does)"
                         ", or set service.socket");
    }
    if (errno != EADDRINUSE) return fail(errno, path + ": listen there (service.socket)");
    const session::Fd probe(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (::connect(probe.get(), at, sizeof address) == 0 || errno != ECONNREFUSED) {
      return fail(0, path + ": is in use: set service.socket to another path");
    }
    if (::unlink(path.c_str()) != 0) return fail(errno, path + ": remove what was left there");
    if (::bind(socket.get(), at, sizeof address) != 0) {
      return fail(errno, path + ": listen there (service.socket)");
    }
  }
  if (::chmod(path.c_str(), static_cast<mode_t>(options.socket_mode)) != 0) {
    return fail(errno, path + ": its permissions (service.socket-mode)");
  }
  if (auto ok = give_to_owner(path, options.socket_owner); !ok) {
    return tl::unexpected(std::move(ok.error()));
  }
  if (::listen(socket.get(), kBacklog) != 0) return fail(errno, path + ": listen");
  return socket;
}

void remove_listener(const config::Options& options) noexcept {
  ::unlink(socket_path(options).c_str());
}

}  // namespace faultline::daemon
