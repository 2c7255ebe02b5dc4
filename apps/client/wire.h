// SPDX-License-Identifier: BSD-3-Clause
// One SOCK_SEQPACKET connection: a message is one JSON text with descriptors beside it.
#ifndef FAULTLINE_CLIENT_WIRE_H
#define FAULTLINE_CLIENT_WIRE_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { FL_WIRE_BYTES = 65536, FL_WIRE_FDS = 253, FL_WIRE_ANSWER_FDS = 16 };

/// Connect to a listening socket. returns  the descriptor, or -errno
int fl_wire_connect(const char* path);

/// Send one message. fds: n_fds of them, at most FL_WIRE_FDS; they stay the caller's.
/// returns  0 or -errno; never raises SIGPIPE
int fl_wire_send(int socket, const char* text, size_t bytes, const int* fds, size_t n_fds);

/// Wait for one message, at most timeout_ms (-1: for ever).
///
/// text     FL_WIRE_BYTES + 1 bytes; ended by a 0
/// fds      FL_WIRE_ANSWER_FDS of them; the first *n_fds are filled and are the caller's to close
/// returns  its bytes; 0: the other side is gone; -EMSGSIZE: longer than fits, or with more
///          descriptors (they are closed); -ETIMEDOUT; other -errno
long fl_wire_receive(int socket, char* text, int* fds, size_t* n_fds, int timeout_ms);

#ifdef __cplusplus
}
#endif

#endif
