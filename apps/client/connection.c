// SPDX-License-Identifier: BSD-3-Clause
#define _GNU_SOURCE
#include "apps/client/connection.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "apps/client/result_file.h"
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

/// An answer with what came beside it.
struct reply {
  struct fl_answer answer;
  int fds[FL_WIRE_ANSWER_FDS];
  size_t n_fds;
};

static void close_fds(struct reply* reply) {
  while (reply->n_fds > 0) close_fd(reply->fds[--reply->n_fds]);
}

static void free_reply(struct reply* reply) {
  close_fds(reply);
  fl_answer_free(&reply->answer);
}

/// Receive until the answer to `id` comes; earlier ones were given up by a call that timed out.
static int wait_for_answer(struct faultline_client* client, uint64_t id, struct reply* reply) {
  for (;;) {
    const long got = fl_wire_receive(client->socket, client->text, reply->fds, &reply->n_fds,
                                     client->timeout_ms);
    if (got == -ETIMEDOUT) return fl_failed(client, ETIMEDOUT, "the service does not answer");
    if (got == 0 || got == -ECONNRESET || got == -EPIPE) {
      close_fds(reply);
      fl_hang_up(client);
      return fl_failed(client, ECONNRESET, "the service is gone");
    }
    if (got < 0) {
      fl_hang_up(client);
      return fl_failed(client, (int)-got, "the service's answer");
    }
    if (fl_answer_parse(client->text, (size_t)got, &reply->answer) != 0) {
      close_fds(reply);
      fl_hang_up(client);
      return fl_failed(client, EPROTO, "the service's answer is none");
    }
    if (reply->answer.id == id) return 0;
    // About the connection as a whole: nothing else will come.
    if (reply->answer.id == FL_NO_REQUEST) {
      snprintf(client->error, sizeof client->error, "%s", reply->answer.error);
      free_reply(reply);
      fl_hang_up(client);
      return -EREMOTEIO;
    }
    free_reply(reply);
  }
}

/// The result of an answer: in it, or in a file beside it, which is then closed.
static int take_result(struct faultline_client* client, struct reply* reply, cJSON** result) {
  const cJSON* index = cJSON_GetObjectItemCaseSensitive(reply->answer.body, "result_file");
  if (index == NULL) {
    *result = cJSON_DetachItemFromObjectCaseSensitive(reply->answer.body, "result");
    return 0;
  }
  const double at = cJSON_IsNumber(index) ? index->valuedouble : -1;
  if (!(at >= 0 && at < (double)reply->n_fds) || at != (double)(size_t)at) {
    return fl_failed(client, EPROTO, "a result as a file that did not come");
  }
  int* file = &reply->fds[(size_t)at];
  const int rc = fl_read_result_file(*file, result);
  close_fd(*file);
  *file = -1;
  return rc == 0 ? 0 : fl_failed(client, -rc, "a result as a file");
}

int fl_call(struct faultline_client* client, cJSON* request, const int* fds, size_t n_fds,
            cJSON** result, int* fd) {
  if (fd != NULL) *fd = -1;
  client->unanswered = 0;
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
  // One that is gone may have said why: that packet waits, or else the end of the connection does.
  if (sent != 0 && sent != -EPIPE && sent != -ECONNRESET) {
    return fl_failed(client, -sent, "a request cannot be sent");
  }
  struct reply reply;
  memset(&reply, 0, sizeof reply);
  client->unanswered = 1;
  int rc = wait_for_answer(client, id, &reply);
  if (rc != 0) return rc;
  client->unanswered = 0;
  if (!reply.answer.ok) {
    snprintf(client->error, sizeof client->error, "%s", reply.answer.error);
    rc = -EREMOTEIO;
  } else {
    cJSON* told = NULL;
    rc = take_result(client, &reply, &told);
    client->unanswered = rc != 0;
    if (rc == 0 && fd != NULL && reply.n_fds > 0) {
      *fd = reply.fds[0];
      reply.fds[0] = -1;
    }
    if (rc == 0 && result != NULL) {
      *result = told;
    } else {
      cJSON_Delete(told);
    }
  }
  free_reply(&reply);
  return rc;
}
