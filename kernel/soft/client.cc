// SPDX-License-Identifier: BSD-3-Clause
#include "kernel/soft/client.h"

#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

namespace faultline::soft {

Client::Session::~Session() {
  if (fd >= 0) close(fd);
}

bool Client::is_file(int fd) noexcept {
  int type = 0;
  socklen_t size = sizeof type;
  if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) != 0 || type != SOCK_SEQPACKET)
    return false;
  int domain = 0;
  size = sizeof domain;
  return getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &size) == 0 && domain == AF_UNIX;
}

std::shared_ptr<Client::Session> Client::session(int fd) {
  struct stat status {};
  if (fstat(fd, &status) != 0) return nullptr;
  const std::lock_guard lock(mutex_);
  const pid_t process = getpid();
  if (const auto it = sessions_.find(fd); it != sessions_.end()) {
    // A session that was inherited by fork is the parent's.
    if (it->second->file == status.st_ino && it->second->process == process) return it->second;
    sessions_.erase(it);
  }
  if (!is_file(fd)) return nullptr;
  int ends[2] = {-1, -1};
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0) return nullptr;
  auto made = std::make_shared<Session>();
  made->fd = ends[0];
  made->file = status.st_ino;
  made->process = process;
  MessageHeader hello;
  hello.kind = MessageKind::kHello;
  const int sent = send_message(fd, bytes_of(hello), {}, std::span<const int>(&ends[1], 1));
  close(ends[1]);
  if (sent == 0) sessions_[fd] = made;
  return made;  // where sending failed the call on it fails: nobody has the other end
}

void Client::forget(int fd) noexcept {
  std::shared_ptr<Session> gone;
  const std::lock_guard lock(mutex_);
  const auto it = sessions_.find(fd);
  if (it == sessions_.end()) return;
  gone = std::move(it->second);
  sessions_.erase(it);
}

Reply Client::call(int fd, const MessageHeader& header, std::span<const std::byte> payload,
                   std::span<const int> fds) noexcept {
  Reply reply;
  errno = 0;
  const std::shared_ptr<Session> s = session(fd);
  if (s == nullptr) {
    // A session takes two descriptors; that there are none left is not the fault of this one.
    reply.result = errno == EMFILE || errno == ENFILE ? -errno : -EBADF;
    return reply;
  }
  std::byte buffer[sizeof(ReplyHeader) + kMaxPayload];
  Descriptors came;
  ssize_t got = 0;
  {
    const std::lock_guard lock(s->mutex);
    const int sent = send_message(s->fd, bytes_of(header), payload, fds);
    got = sent == 0 ? receive_message(s->fd, buffer, came) : sent;
  }
  ReplyHeader head;
  if (got == -EBADF) {  // a descriptor that was to be passed
    reply.result = -EBADF;
    return reply;
  }
  if (got < static_cast<ssize_t>(sizeof head)) {
    forget(fd);
    reply.result = -EIO;
    return reply;
  }
  std::memcpy(&head, buffer, sizeof head);
  reply.result = head.result;
  reply.value = head.value;
  reply.bytes.assign(buffer + sizeof head, buffer + got);
  reply.fd = came.take(0);
  return reply;
}

}  // namespace faultline::soft
