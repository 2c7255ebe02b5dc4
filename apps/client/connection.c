// SPDX-License-Identifier: BSD-3-Clause
#define _GNU_SOURCE
#include "apps/client/connection.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "apps/client/wire.h"

int fl_failed(struct faultline_client* client, int code, const char* what) {
  snprintf(client->error, sizeof client->error, "%s: %s", what, strerror(code));
  return -code;
}

static void close_fd(int fd) {
  if (fd >= 0) close(fd);
}

void fl_hang_up(struct faultline_client* client) {
  close_fd(client->socket);
  close_fd(client->beat);
  client->socket = client->beat = -1;
}

/// Receive until the answer to `id` comes; earlier ones were given up by a call that timed out.
static int wait_for_answer(struct faultline_client* client, uint64_t id, struct fl_answer* answer,
                           int* fd) {
  for (;;) {
    int fds[FL_WIRE_ANSWER_FDS];
    size_t n_fds = 0;
    const long got = fl_wire_receive(client->socket, client->text, fds, &n_fds, client->timeout_ms);
    while (n_fds > 1) close(fds[--n_fds]);  // no answer has more
    *fd = n_fds == 1 ? fds[0] : -1;
    if (got == -ETIMEDOUT) return fl_failed(client, ETIMEDOUT, "the service does not answer");
    if (got == 0 || got == -ECONNRESET || got == -EPIPE) {
      fl_hang_up(client);
      return fl_failed(client, ECONNRESET, "the service is gone");
    }
    if (got < 0) {
      fl_hang_up(client);
      return fl_failed(client, (int)-got, "the service's answer");
    }
    if (fl_answer_parse(client->text, (size_t)got, answer) != 0) {
      fl_hang_up(client);
      close_fd(*fd);
      return fl_failed(client, EPROTO, "the service's answer is none");
    }
    if (answer->id == id) return 0;
    close_fd(*fd);
    // About the connection as a whole: nothing else will come.
    if (answer->id == FL_NO_REQUEST) {
      snprintf(client->error, sizeof client->error, "%s", answer->error);
      fl_answer_free(answer);
      fl_hang_up(client);
      return -EREMOTEIO;
    }
    fl_answer_free(answer);
  }
}

int fl_call(struct faultline_client* client, cJSON* request, const int* fds, size_t n_fds,
            cJSON** result, int* fd) {
  if (fd != NULL) *fd = -1;
  const uint64_t id = ++client->last_id;
  char* text = NULL;
  if (request != NULL && cJSON_AddNumberToObject(request, "id", (double)id) != NULL) {
    text = cJSON_PrintUnformatted(request);
  }
  cJSON_Delete(request);
  if (text == NULL) return fl_failed(client, ENOMEM, "a request");
  if (client->socket < 0) {
    free(text);
    return fl_failed(client, ENOTCONN, "there is no connection");
  }
  const int sent = fl_wire_send(client->socket, text, strlen(text), fds, n_fds);
  free(text);
  if (sent == -EPIPE || sent == -ECONNRESET) {
    fl_hang_up(client);
    return fl_failed(client, ECONNRESET, "the service is gone");
  }
  if (sent != 0) return fl_failed(client, -sent, "a request cannot be sent");
  struct fl_answer answer;
  int came = -1;
  const int rc = wait_for_answer(client, id, &answer, &came);
  if (rc != 0) return rc;
  if (!answer.ok || fd == NULL) {
    close_fd(came);
    came = -1;
  }
  if (fd != NULL) *fd = came;
  if (!answer.ok) {
    snprintf(client->error, sizeof client->error, "%s", answer.error);
    fl_answer_free(&answer);
    return -EREMOTEIO;
  }
  if (result != NULL) *result = cJSON_DetachItemFromObjectCaseSensitive(answer.body, "result");
  fl_answer_free(&answer);
  return 0;
}
