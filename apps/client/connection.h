// SPDX-License-Identifier: BSD-3-Clause
// A client's connection: requests go out, each waits for its answer.
#ifndef FAULTLINE_CLIENT_CONNECTION_H
#define FAULTLINE_CLIENT_CONNECTION_H

#include <cJSON.h>
#include <stddef.h>
#include <stdint.h>

#include "apps/client/answer.h"
#include "apps/client/kept_guest.h"

#ifdef __cplusplus
extern "C" {
#endif

struct faultline_client {
  char* path;
  int socket;  // -1: none
  int timeout_ms;
  uint64_t last_id;
  struct fl_kept_guest* guests;  // attached, the newest first
  char* text;                    // FL_WIRE_BYTES + 1
  int beat;                      // the service's heartbeat memory; -1: not asked for yet
  int unanswered;  // the last request may have been done, and how it ended is not known
  char error[512];
};

enum { FL_MOST_BACKEND_FDS = 8 };

/// Note what went wrong. returns  -code
int fl_failed(struct faultline_client* client, int code, const char* what);

/// Close the socket: the connection cannot be used any more.
void fl_hang_up(struct faultline_client* client);

/// Send a request and wait for its answer. The request is freed.
///
/// request    an object with its method; NULL: there was no memory for it
/// result     where to put the answer's result, to be freed; NULL: it does not matter
/// fd         where to put the answer's descriptor, -1 where it has none; NULL: it is closed
/// returns    0, or the negative errno with client->error set: -EREMOTEIO the service refused,
///            -EPROTO it does not speak the protocol, -ECONNRESET it is gone. Where it may have
///            done what was asked, client->unanswered is set
int fl_call(struct faultline_client* client, cJSON* request, const int* fds, size_t n_fds,
            cJSON** result, int* fd);

#ifdef __cplusplus
}
#endif

#endif
