// SPDX-License-Identifier: BSD-3-Clause
#include "apps/faultline/status_socket.h"

#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "apps/faultline/columns.h"
#include "apps/metrics/moment_json.h"

namespace faultline {
namespace {

using nlohmann::ordered_json;

constexpr std::size_t kPacketBytes = 65536;  // doc/session.md
constexpr std::size_t kLongest = std::size_t{64} << 20U;

/// Of a result that was longer than a packet; empty where it cannot be read.
std::string read_whole(int file) {
  struct stat info {};
  if (::fstat(file, &info) != 0 || info.st_size < 0 ||
      static_cast<std::size_t>(info.st_size) > kLongest) {
    return {};
  }
  std::string text(static_cast<std::size_t>(info.st_size), '\0');
  const ssize_t got = ::pread(file, text.data(), text.size(), 0);
  text.resize(got > 0 ? static_cast<std::size_t>(got) : 0);
  return text;
}

}  // namespace

std::string default_socket() {
  const std::string unit = "/run/faultline/node-0.sock";
  if (::access(unit.c_str(), F_OK) == 0) return unit;
  const char* run = std::getenv("XDG_RUNTIME_DIR");  // NOLINT(concurrency-mt-unsafe)
  return std::string(run != nullptr && *run != '\0' ? run : "/tmp") + "/faultline-0.sock";
}

ServiceSocket::ServiceSocket(ServiceSocket&& other) noexcept
    : fd_(std::exchange(other.fd_, -1)),
      path_(std::move(other.path_)),
      patience_(other.patience_),
      next_(other.next_) {}

ServiceSocket& ServiceSocket::operator=(ServiceSocket&& other) noexcept {
  std::swap(fd_, other.fd_);
  std::swap(path_, other.path_);
  std::swap(patience_, other.patience_);
  std::swap(next_, other.next_);
  return *this;
}

ServiceSocket::~ServiceSocket() {
  if (fd_ < 0) return;
  // Without it the service would count a lost VMM.
  const std::string goodbye = ordered_json({{"id", next_}, {"method", "goodbye"}}).dump();
  (void)::send(fd_, goodbye.data(), goodbye.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
  ::close(fd_);
}

Result<ServiceSocket> ServiceSocket::open(const std::string& path, Nanos patience) {
  sockaddr_un at{};
  at.sun_family = AF_UNIX;
  if (path.empty() || path.size() >= sizeof at.sun_path) {
    return fail(ENAMETOOLONG, "--socket " + path);
  }
  std::memcpy(at.sun_path, path.c_str(), path.size());
  ServiceSocket service(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0), path, patience);
  if (service.fd_ < 0) return fail(errno, "a socket");
  // connect() waits, too, where a service that hangs has its queue of them full.
  const timeval limit{static_cast<time_t>(patience / 1'000'000'000),
                      static_cast<suseconds_t>(patience / 1'000 % 1'000'000)};
  (void)::setsockopt(service.fd_, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
  if (::connect(service.fd_, reinterpret_cast<const sockaddr*>(&at), sizeof at) != 0) {
    const int error = errno;
    if (error == EAGAIN) return fail(ETIMEDOUT, path + ": the service does not answer");
    const bool absent = error == ENOENT || error == ECONNREFUSED;
    return fail(error, path + (absent ? ": no service listens there (systemctl status "
                                        "'faultlined@*'; --socket PATH names another)"
                                      : ": connect"));
  }
  auto hello =
      service.request({{"id", 0}, {"method", "hello"}, {"versions", {1}}, {"name", "faultline"}});
  if (!hello) return tl::unexpected(hello.error());
  return service;
}

Result<ordered_json> ServiceSocket::ask(const std::string& method) {
  return request({{"id", next_++}, {"method", method}});
}

Result<ServiceSocket::Answer> ServiceSocket::receive() {
  pollfd wait{fd_, POLLIN, 0};
  int ready = 0;
  do {
    ready = ::poll(&wait, 1, static_cast<int>(patience_ / 1'000'000));
  } while (ready < 0 && errno == EINTR);
  if (ready < 0) return fail(errno, path_);
  if (ready == 0) return fail(ETIMEDOUT, path_ + ": the service does not answer");
  Answer answer;
  answer.text.resize(kPacketBytes);
  alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int))> control{};
  iovec part{answer.text.data(), answer.text.size()};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control.data();
  message.msg_controllen = control.size();
  ssize_t got = ::recvmsg(fd_, &message, MSG_CMSG_CLOEXEC);
  // That it closed with a request unread is told once, before what it last said.
  if (got < 0 && errno == ECONNRESET) got = ::recvmsg(fd_, &message, MSG_CMSG_CLOEXEC);
  if (got < 0) return fail(errno, path_);
  if (const cmsghdr* head = CMSG_FIRSTHDR(&message);
      head != nullptr && head->cmsg_level == SOL_SOCKET && head->cmsg_type == SCM_RIGHTS) {
    std::memcpy(&answer.file, CMSG_DATA(head), sizeof answer.file);
  }
  if (got == 0) return fail(ECONNRESET, path_ + ": the service closed the connection");
  if ((message.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0) {
    if (answer.file >= 0) ::close(answer.file);
    return fail(EMSGSIZE, path_ + ": the service's answer");
  }
  answer.text.resize(static_cast<std::size_t>(got));
  return answer;
}

Result<ordered_json> ServiceSocket::request(ordered_json request) {
  const std::string text = request.dump();
  int unsent = 0;
  if (::send(fd_, text.data(), text.size(), MSG_NOSIGNAL) < 0) {
    if (errno == EAGAIN) return fail(ETIMEDOUT, path_ + ": the service does not answer");
    if (errno != EPIPE && errno != ECONNRESET) return fail(errno, path_ + ": send");
    unsent = errno;
  }
  // Also where it is gone: its last packet may say why.
  const auto answer = receive();
  if (!answer && unsent != 0) return fail(unsent, path_ + ": the service closed the connection");
  if (!answer) return tl::unexpected(answer.error());
  std::string whole;
  if (answer->file >= 0) {
    whole = read_whole(answer->file);
    ::close(answer->file);
  }
  ordered_json parsed = ordered_json::parse(answer->text, nullptr, false);
  if (!parsed.is_object()) return fail(EPROTO, path_ + ": an answer that is no JSON object");
  if (const auto error = parsed.find("error"); error != parsed.end()) {
    return fail(
        0, path_ + ": " + plain(error->is_string() ? error->get<std::string>() : error->dump()));
  }
  if (parsed.contains("result_file")) {
    parsed["result"] = ordered_json::parse(whole, nullptr, false);
    if (!parsed["result"].is_object()) return fail(EPROTO, path_ + ": its file is no JSON object");
  }
  const auto result = parsed.find("result");
  const auto id = parsed.find("id");
  if (id == parsed.end() || *id != request["id"] || result == parsed.end()) {
    return fail(EPROTO, path_ + ": an answer to nothing that was asked");
  }
  return *result;
}

bool ServiceSocket::closed_within(Nanos time) {
  const Nanos until = monotonic_ns() + time;
  char byte = 0;
  for (;;) {
    const Nanos now = monotonic_ns();
    pollfd wait{fd_, POLLIN, 0};
    const int ready =
        ::poll(&wait, 1, now < until ? static_cast<int>((until - now) / 1'000'000) : 0);
    if (ready < 0 && errno == EINTR) continue;
    if (ready <= 0) return ready < 0;
    if (::recv(fd_, &byte, 1, 0) <= 0) return true;
  }
}

Result<metrics::Moment> ask_moment(ServiceSocket& service) {
  const auto json = service.ask("status");
  if (!json) return tl::unexpected(json.error());
  return metrics::moment_from_json(json->dump());
}

}  // namespace faultline
