// SPDX-License-Identifier: BSD-3-Clause
#define _GNU_SOURCE
#include "apps/client/wire.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

int fl_wire_connect(const char* path) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  if (path == NULL || path[0] == '\0') return -EINVAL;
  if (strlen(path) >= sizeof address.sun_path) return -ENAMETOOLONG;
  strcpy(address.sun_path, path);
  const int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
  if (fd < 0) return -errno;
  int rc = 0;
  do {
    rc = connect(fd, (const struct sockaddr*)&address, sizeof address);
  } while (rc != 0 && errno == EINTR);
  if (rc == 0) return fd;
  const int error = errno;
  close(fd);
  return -error;
}

int fl_wire_send(int socket, const char* text, size_t bytes, const int* fds, size_t n_fds) {
  if (n_fds > FL_WIRE_FDS) return -E2BIG;
  union {
    char bytes[CMSG_SPACE(sizeof(int) * FL_WIRE_FDS)];
    struct cmsghdr align;
  } control;
  struct iovec part = {.iov_base = (char*)text, .iov_len = bytes};
  struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
  if (n_fds > 0) {
    memset(&control, 0, sizeof control);
    message.msg_control = control.bytes;
    message.msg_controllen = CMSG_SPACE(sizeof(int) * n_fds);
    struct cmsghdr* head = CMSG_FIRSTHDR(&message);
    head->cmsg_level = SOL_SOCKET;
    head->cmsg_type = SCM_RIGHTS;
    head->cmsg_len = CMSG_LEN(sizeof(int) * n_fds);
    memcpy(CMSG_DATA(head), fds, sizeof(int) * n_fds);
  }
  for (;;) {
    const ssize_t sent = sendmsg(socket, &message, MSG_NOSIGNAL);
    if (sent >= 0) return (size_t)sent == bytes ? 0 : -EMSGSIZE;
    if (errno != EINTR) return -errno;
  }
}

static long long now_ms(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1000LL + t.tv_nsec / 1000000;
}

/// returns  0 when there is something to read, or -errno
static int wait_readable(int socket, int timeout_ms) {
  const long long until = now_ms() + timeout_ms;
  for (;;) {
    struct pollfd p = {.fd = socket, .events = POLLIN};
    const long long left = timeout_ms < 0 ? -1 : until - now_ms();
    const int n = poll(&p, 1, timeout_ms < 0 ? -1 : left > 0 ? (int)left : 0);
    if (n > 0) return 0;
    if (n == 0) return -ETIMEDOUT;
    if (errno != EINTR) return -errno;
  }
}

/// Take the descriptors out of a message; those that do not fit are closed.
/// returns  whether all of them fitted
static int take_descriptors(struct msghdr* message, int* fds, size_t* n_fds) {
  int fitted = 1;
  for (struct cmsghdr* head = CMSG_FIRSTHDR(message); head != NULL;
       head = CMSG_NXTHDR(message, head)) {
    if (head->cmsg_level != SOL_SOCKET || head->cmsg_type != SCM_RIGHTS) continue;
    const size_t n = (head->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < n; ++i) {
      int fd = -1;
      memcpy(&fd, CMSG_DATA(head) + i * sizeof fd, sizeof fd);
      if (*n_fds < FL_WIRE_ANSWER_FDS) {
        fds[(*n_fds)++] = fd;
      } else {
        close(fd);
        fitted = 0;
      }
    }
  }
  return fitted;
}

long fl_wire_receive(int socket, char* text, int* fds, size_t* n_fds, int timeout_ms) {
  *n_fds = 0;
  const int ready = wait_readable(socket, timeout_ms);
  if (ready != 0) return ready;
  union {
    char bytes[CMSG_SPACE(sizeof(int) * FL_WIRE_ANSWER_FDS)];
    struct cmsghdr align;
  } control;
  struct iovec part = {.iov_base = text, .iov_len = FL_WIRE_BYTES};
  struct msghdr message = {.msg_iov = &part,
                           .msg_iovlen = 1,
                           .msg_control = control.bytes,
                           .msg_controllen = sizeof control.bytes};
  // That the other side closed with a packet of ours unread is told once, before what it last said.
  int told = 0;
  ssize_t got = 0;
  do {
    got = recvmsg(socket, &message, MSG_CMSG_CLOEXEC);
  } while (got < 0 && (errno == EINTR || (errno == ECONNRESET && told++ == 0)));
  if (got < 0) return -errno;
  const int fitted = take_descriptors(&message, fds, n_fds);
  if (!fitted || (message.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0) {
    while (*n_fds > 0) close(fds[--*n_fds]);
    return -EMSGSIZE;
  }
  text[got] = '\0';
  return got;
}
