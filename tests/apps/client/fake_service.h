// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <cstdint>
#include <cstring>
#include <functional>
#include <mutex>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace faultline {

/// A service that says what a test wants it to say.
class FakeService {
 public:
  using json = nlohmann::json;
  struct Request {
    json body;
    std::size_t fds = 0;
    std::uint64_t last_inode = 0;  ///< of the last descriptor
  };
  struct Answer {
    std::string text;
    int fds = 0;  ///< descriptors beside it, all of them of one file
  };
  /// What to say to a request; an empty list: nothing. Called by the service's thread.
  using Script = std::function<std::vector<Answer>(const json& request)>;

  static Answer result(const json& request, const json& result, int fds = 0) {
    return {json{{"id", request["id"]}, {"result", result}}.dump(), fds};
  }
  static Answer error(const json& request, const std::string& why) {
    return {json{{"id", request["id"]}, {"error", why}}.dump()};
  }
  /// One that is content with everything.
  static std::vector<Answer> polite(const json& request) {
    const std::string method = request["method"];
    if (method == "hello") return {result(request, {{"version", 1}})};
    if (method == "guest.add") return {result(request, {{"token", "secret"}})};
    if (method == "start" || method == "guest.attach" || method == "heartbeat") {
      return {result(request, {{"journal", 0}}, 1)};
    }
    return {result(request, json::object())};
  }

  explicit FakeService(Script script = polite) : script_(std::move(script)) {
    char folder[] = "/tmp/faultline-client-XXXXXX";
    folder_ = ::mkdtemp(folder);
    path_ = folder_ + "/socket";
    int ends[2] = {-1, -1};
    if (::pipe2(ends, O_CLOEXEC) != 0) std::abort();
    extra_ = ends[0];
    stop_ = ends[1];
    listen();
  }
  ~FakeService() {
    stop();
    ::close(extra_);
    ::close(stop_);
    ::rmdir(folder_.c_str());
  }
  FakeService(const FakeService&) = delete;
  FakeService& operator=(const FakeService&) = delete;

  /// Begin, and end: all connections are closed.
  void listen() {
    listener_ = ::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::strncpy(address.sun_path, path_.c_str(), sizeof address.sun_path - 1);
    if (::bind(listener_, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0 ||
        ::listen(listener_, 4) != 0) {
      std::abort();
    }
    thread_ = std::jthread([this](const std::stop_token& stop) { serve(stop); });
  }
  void stop() {
    thread_ = {};
    if (listener_ >= 0) ::close(std::exchange(listener_, -1));
    ::unlink(path_.c_str());
  }
  void say(Script script) {
    const std::lock_guard lock(mutex_);
    script_ = std::move(script);
  }

  static std::uint64_t inode(int fd) {
    struct stat file {};
    return ::fstat(fd, &file) == 0 ? file.st_ino : 0;
  }
  /// Whoever connects from now on is told this, and let go: at once, or while its request waits
  /// unread.
  void turn_away(std::string why, bool unread) {
    const std::lock_guard lock(mutex_);
    away_ = std::move(why);
    unread_ = unread;
  }
  /// Descriptors beside answers are of this file from now on. Owned.
  void pass(int fd) {
    const std::lock_guard lock(mutex_);
    ::close(std::exchange(extra_, fd));
  }

  [[nodiscard]] const std::string& path() const noexcept { return path_; }
  /// What was asked since the last call.
  std::vector<Request> requests() {
    const std::lock_guard lock(mutex_);
    return std::exchange(requests_, {});
  }

 private:
  void serve(const std::stop_token& stop) {
    int peer = -1;
    while (!stop.stop_requested()) {
      std::array<pollfd, 2> p = {pollfd{listener_, POLLIN, 0}, pollfd{peer, POLLIN, 0}};
      ::poll(p.data(), p.size(), 5);
      if (p[0].revents != 0) {
        if (peer >= 0) ::close(peer);
        peer = ::accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
        if (turned_away(peer)) ::close(std::exchange(peer, -1));
      } else if (p[1].revents != 0 && !answer(peer)) {
        ::close(std::exchange(peer, -1));
      }
    }
    if (peer >= 0) ::close(peer);
  }

  bool turned_away(int peer) {
    const std::lock_guard lock(mutex_);
    if (away_.empty()) return false;
    pollfd request{peer, POLLIN, 0};
    if (unread_) ::poll(&request, 1, 5000);
    send(peer, {away_}, -1);
    return true;
  }

  bool answer(int peer) {
    std::vector<char> text(1 << 17);
    alignas(cmsghdr) std::array<char, CMSG_SPACE(256 * sizeof(int))> control{};
    iovec part{text.data(), text.size()};
    msghdr message{};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    message.msg_control = control.data();
    message.msg_controllen = control.size();
    const ssize_t got = ::recvmsg(peer, &message, MSG_CMSG_CLOEXEC);
    if (got <= 0) return false;
    Request request{json::parse(std::string(text.data(), static_cast<std::size_t>(got))), 0, 0};
    for (cmsghdr* head = CMSG_FIRSTHDR(&message); head != nullptr;
         head = CMSG_NXTHDR(&message, head)) {
      request.fds = (head->cmsg_len - CMSG_LEN(0)) / sizeof(int);
      for (std::size_t i = 0; i < request.fds; ++i) {
        int fd = -1;
        std::memcpy(&fd, CMSG_DATA(head) + i * sizeof fd, sizeof fd);
        request.last_inode = inode(fd);
        ::close(fd);
      }
    }
    Script script;
    int extra = -1;
    {
      const std::lock_guard lock(mutex_);
      requests_.push_back(request);
      script = script_;
      extra = extra_;
    }
    for (const Answer& a : script(request.body)) {
      if (a.text == kHangUp) return false;
      send(peer, a, extra);
    }
    return true;
  }

  static void send(int peer, const Answer& a, int extra) {
    alignas(cmsghdr) std::array<char, CMSG_SPACE(64 * sizeof(int))> control{};
    iovec part{const_cast<char*>(a.text.data()), a.text.size()};
    msghdr message{};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    if (a.fds > 0) {
      const std::size_t bytes = sizeof(int) * static_cast<std::size_t>(a.fds);
      message.msg_control = control.data();
      message.msg_controllen = CMSG_SPACE(bytes);
      cmsghdr* head = CMSG_FIRSTHDR(&message);
      head->cmsg_level = SOL_SOCKET;
      head->cmsg_type = SCM_RIGHTS;
      head->cmsg_len = CMSG_LEN(bytes);
      for (int i = 0; i < a.fds; ++i) {
        std::memcpy(CMSG_DATA(head) + static_cast<std::size_t>(i) * sizeof(int), &extra,
                    sizeof(int));
      }
    }
    (void)::sendmsg(peer, &message, MSG_NOSIGNAL);
  }

 public:
  static constexpr const char* kHangUp = "hang up";

 private:
  std::string folder_;
  std::string path_;
  int listener_ = -1;
  int extra_ = -1;
  int stop_ = -1;
  std::mutex mutex_;
  std::string away_;  ///< empty: everybody may stay
  bool unread_ = false;
  Script script_;
  std::vector<Request> requests_;
  std::jthread thread_;
};

}  // namespace faultline
