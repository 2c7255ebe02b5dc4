// SPDX-License-Identifier: BSD-3-Clause
#include "kernel/soft/process_server.h"

#include <poll.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <string>
#include <system_error>
#include <thread>
#include <utility>

#include "kernel/soft/remote_call.h"

namespace faultline::soft {
namespace {

constexpr std::size_t kMaxSessions = 4096;
constexpr std::size_t kMaxConnections = 4096;

// Split a received message; false: it is not one of ours.
bool parse(std::span<const std::byte> message, MessageHeader& header,
           std::vector<std::byte>& payload) {
  if (message.size() < sizeof header) return false;
  std::memcpy(&header, message.data(), sizeof header);
  if (header.magic != kProtocolMagic) return false;
  payload.assign(message.begin() + sizeof header, message.end());
  return true;
}

// Whether nobody holds the other end any more, even if there is something left to read.
bool gone(int fd) {
  pollfd end{fd, 0, 0};
  return poll(&end, 1, 0) == 1 && (end.revents & (POLLHUP | POLLNVAL)) != 0;
}

}  // namespace

ProcessServer::Session::~Session() {
  close(fd);
}

ProcessServer::ProcessServer(SoftKernel& kernel, int root)
    : kernel_(kernel), epoll_(epoll_create1(EPOLL_CLOEXEC)) {
  adopt(root, nullptr, 0);
}

ProcessServer::~ProcessServer() {
  close(epoll_);
}

bool ProcessServer::adopt(int server_end, const FilePtr& file, ino_t peer) {
  const std::lock_guard lock(mutex_);
  if (connections_.size() >= kMaxConnections) return false;
  connections_[server_end] = Connection{file, peer, {}};
  idle_.notify_all();  // settle() compares files with connections
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.fd = server_end;
  if (epoll_ctl(epoll_, EPOLL_CTL_ADD, server_end, &event) == 0) return true;
  connections_.erase(server_end);
  return false;
}

// A pointer that tells when the last user of the file has let go of it.
FilePtr ProcessServer::tracked(FilePtr file) {
  {
    const std::lock_guard lock(mutex_);
    ++files_;
  }
  File* const at = file.get();
  return FilePtr(at, [this, file = std::move(file)](File*) mutable {
    file.reset();
    const std::lock_guard lock(mutex_);
    --files_;
    idle_.notify_all();
  });
}

// close() of a file is not answered, so a client that closed one and needs that to have happened
// asks here. Its end of the connection was closed before it asked: we find it so.
void ProcessServer::settle() {
  std::vector<int> fds;
  {
    const std::lock_guard lock(mutex_);
    for (const auto& [fd, connection] : connections_) {
      if (connection.file != nullptr) fds.push_back(fd);
    }
  }
  for (const int fd : fds) {
    const std::lock_guard events(events_);
    if (known(fd) && gone(fd)) drop(fd);
  }
  std::unique_lock lock(mutex_);
  idle_.wait_for(lock, std::chrono::seconds(5), [this] {
    const auto open = std::count_if(connections_.begin(), connections_.end(),
                                    [](const auto& c) { return c.second.file != nullptr; });
    return files_ <= static_cast<std::size_t>(open);
  });
}

int ProcessServer::connect(const FilePtr& file) {
  int ends[2] = {-1, -1};
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0) return -errno;
  struct stat status {};
  if (fstat(ends[1], &status) != 0 || !adopt(ends[0], file, status.st_ino)) {
    close(ends[0]);
    close(ends[1]);
    return -ENFILE;
  }
  return ends[1];
}

FilePtr ProcessServer::find(int fd) {
  struct stat status {};
  if (fstat(fd, &status) != 0 || !S_ISSOCK(status.st_mode)) return nullptr;
  const std::lock_guard lock(mutex_);
  for (const auto& [_, connection] : connections_) {
    if (connection.file != nullptr && connection.peer == status.st_ino) return connection.file;
  }
  return nullptr;
}

void ProcessServer::run() {
  for (;;) {
    {
      const std::lock_guard lock(mutex_);
      if (connections_.empty()) break;
    }
    epoll_event events[32];
    const int n = epoll_wait(epoll_, events, 32, -1);
    for (int i = 0; i < n; ++i) on_message(events[i].data.fd);
  }
  // Every session was told to end; they hold files, so the kernel waits for them.
  std::unique_lock lock(mutex_);
  idle_.wait_for(lock, std::chrono::seconds(5), [this] { return sessions_ == 0; });
}

bool ProcessServer::known(int fd) {
  const std::lock_guard lock(mutex_);
  return connections_.contains(fd);
}

void ProcessServer::on_message(int fd) {
  // settle() may have closed it since the event came, and the number may be another's by now.
  const std::lock_guard events(events_);
  if (!known(fd)) return;
  std::byte buffer[sizeof(MessageHeader) + 64];
  Descriptors fds;
  const ssize_t got = receive_message(fd, buffer, fds, MSG_DONTWAIT);
  if (got == -EMSGSIZE || got == -EAGAIN) return;
  if (got <= 0) {
    // An empty message reads like an end; only an end is one.
    if (got < 0 || gone(fd)) drop(fd);
    return;
  }
  MessageHeader header;
  std::vector<std::byte> payload;
  if (!parse({buffer, static_cast<std::size_t>(got)}, header, payload)) return;
  if (header.kind != MessageKind::kHello || fds.get(0) < 0) return;
  auto session = std::make_shared<Session>(fds.take(0));
  FilePtr file;
  {
    const std::lock_guard lock(mutex_);
    if (sessions_ >= kMaxSessions) return;  // closing its end tells the client
    Connection& connection = connections_[fd];
    std::erase_if(connection.sessions, [](const auto& s) { return s.expired(); });
    connection.sessions.push_back(session);
    file = connection.file;
    ++sessions_;
  }
  try {
    std::thread([this, session = std::move(session), file = std::move(file)]() mutable {
      serve(*session, file);
      session.reset();
      file.reset();  // may close the file
      const std::lock_guard lock(mutex_);
      --sessions_;
      idle_.notify_all();
    }).detach();
  } catch (const std::system_error&) {  // no thread to be had: the client sees its session end
    const std::lock_guard lock(mutex_);
    --sessions_;
  }
}

void ProcessServer::drop(int fd) {
  Connection dropped;  // its file is released after the lock
  {
    const std::lock_guard lock(mutex_);
    const auto it = connections_.find(fd);
    if (it == connections_.end()) return;
    dropped = std::move(it->second);
    connections_.erase(it);
    epoll_ctl(epoll_, EPOLL_CTL_DEL, fd, nullptr);
    close(fd);
  }
  for (const auto& weak : dropped.sessions) {
    if (const auto session = weak.lock()) shutdown(session->fd, SHUT_RDWR);
  }
}

void ProcessServer::serve(const Session& session, const FilePtr& file) {
  std::vector<std::byte> buffer(sizeof(MessageHeader) + kMaxPayload);
  for (;;) {
    Descriptors fds;
    MessageHeader header;
    std::vector<std::byte> payload;
    const ssize_t got = receive_message(session.fd, buffer, fds);
    if (got <= 0) return;  // gone, or it broke the protocol
    if (!parse({buffer.data(), static_cast<std::size_t>(got)}, header, payload)) return;
    if (!serve_one(session.fd, file, header, std::move(payload), fds)) return;
  }
}

// One call; false: the client broke the protocol, or is gone.
bool ProcessServer::serve_one(int socket, const FilePtr& file, const MessageHeader& header,
                              std::vector<std::byte> payload, Descriptors& fds) {
  ReplyHeader reply;
  std::vector<std::byte> bytes;
  const auto answer = [&](std::span<const std::byte> out, int fd) {
    if (fd >= 0) reply.descriptors = 1;
    return send_message(socket, bytes_of(reply), out,
                        std::span<const int>(&fd, fd >= 0 ? 1U : 0U)) == 0;
  };
  if (header.kind == MessageKind::kOpen) {
    if (file != nullptr) return false;
    const std::string path(reinterpret_cast<const char*>(payload.data()), payload.size());
    FilePtr opened;
    reply.result = kernel_.open(path.c_str(), opened);
    if (reply.result != 0) return answer({}, -1);
    const int fd = connect(tracked(std::move(opened)));
    if (fd < 0) reply.result = fd;
    const bool ok = answer({}, fd);
    if (fd >= 0) close(fd);
    return ok;
  }
  if (header.kind == MessageKind::kSettle && file == nullptr) {
    settle();
    return answer({}, -1);
  }
  if (file == nullptr) return false;
  switch (header.kind) {
    case MessageKind::kIoctl: {
      RemoteCall call(
          header, std::move(payload), fds, [this](int fd) { return find(fd); },
          [this](const FilePtr& f) { return connect(tracked(f)); });
      reply.result = kernel_.ioctl(file, header.number, call);
      return answer(call.changed(), call.installed());
    }
    case MessageKind::kPread:
      if (header.size > kMaxPayload) return false;
      bytes.resize(header.size);
      reply.result = kernel_.pread(file, bytes.data(), bytes.size(), header.at);
      bytes.resize(reply.result > 0 ? static_cast<std::size_t>(reply.result) : 0);
      return answer(bytes, -1);
    case MessageKind::kPwrite:
      reply.result = kernel_.pwrite(file, payload.data(), payload.size(), header.at);
      return answer({}, -1);
    case MessageKind::kMmap: {
      RegionMapping mapping;
      reply.result = kernel_.mmap(file, header.size, header.prot, header.flags, header.at, mapping);
      reply.value = static_cast<std::uint64_t>(mapping.at);
      return answer({}, reply.result == 0 ? mapping.fd : -1);
    }
    default:
      return false;
  }
}

}  // namespace faultline::soft
