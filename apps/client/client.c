// SPDX-License-Identifier: BSD-3-Clause
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "apps/client/connection.h"
#include "apps/client/faultline_client.h"
#include "apps/client/requests.h"
#include "apps/client/wire.h"

static int open_connection(struct faultline_client* client) {
  const int socket = fl_wire_connect(client->path);
  if (socket < 0) {
    snprintf(client->error, sizeof client->error, "%s: %s", client->path, strerror(-socket));
    return socket;
  }
  client->socket = socket;
  const int rc = fl_greet(client);
  if (rc != 0) fl_hang_up(client);
  return rc;
}

faultline_client* faultline_connect(const char* path, char* error, size_t error_bytes) {
  struct faultline_client* client = calloc(1, sizeof *client);
  const char* why = "out of memory";
  if (client != NULL) {
    client->socket = client->beat = -1;
    client->timeout_ms = 10000;
    client->path = strdup(path);
    client->text = malloc(FL_WIRE_BYTES + 1);
    if (client->path != NULL && client->text != NULL) {
      if (open_connection(client) == 0) return client;
      why = client->error;
    }
  }
  if (error != NULL && error_bytes > 0) snprintf(error, error_bytes, "%s", why);
  faultline_close(client);
  return NULL;
}

void faultline_close(faultline_client* client) {
  if (client == NULL) return;
  if (client->socket >= 0) fl_say_goodbye(client);
  fl_hang_up(client);
  while (client->guests != NULL) {
    struct fl_kept_guest* next = client->guests->next;
    fl_let_go(client->guests);
    client->guests = next;
  }
  free(client->path);
  free(client->text);
  free(client);
}

const char* faultline_error(const faultline_client* client) {
  return client->error;
}

void faultline_set_timeout(faultline_client* client, int ms) {
  client->timeout_ms = ms;
}

int faultline_attach(faultline_client* client, const struct faultline_guest* guest) {
  struct fl_kept_guest* kept = fl_keep(guest);
  if (kept == NULL) return fl_failed(client, errno, "a guest's descriptors cannot be kept");
  const int rc = fl_start_guest(client, kept);
  if (rc != 0) {
    fl_let_go(kept);
    return rc;
  }
  kept->next = client->guests;
  client->guests = kept;
  return 0;
}

/// A method whose only field is its guest.
static int ask_of(faultline_client* client, const char* method, const char* name) {
  return fl_call(client, fl_guest_request(method, name), NULL, 0, NULL, NULL);
}

static void note_paused(faultline_client* client, const char* name, int paused) {
  for (struct fl_kept_guest* g = client->guests; g != NULL; g = g->next) {
    if (strcmp(g->guest.name, name) == 0) g->paused = paused;
  }
}

int faultline_detach(faultline_client* client, const char* name) {
  const int rc = ask_of(client, "guest.remove", name);
  if (rc != 0) return rc;
  for (struct fl_kept_guest** at = &client->guests; *at != NULL; at = &(*at)->next) {
    if (strcmp((*at)->guest.name, name) != 0) continue;
    struct fl_kept_guest* gone = *at;
    *at = gone->next;
    fl_let_go(gone);
    break;
  }
  return 0;
}

int faultline_pause(faultline_client* client, const char* name) {
  const int rc = ask_of(client, "pause", name);
  if (rc == 0) note_paused(client, name, 1);
  return rc;
}

int faultline_resume(faultline_client* client, const char* name) {
  const int rc = ask_of(client, "resume", name);
  if (rc == 0) note_paused(client, name, 0);
  return rc;
}

int faultline_reset(faultline_client* client, const char* name) {
  return ask_of(client, "reset", name);
}

int faultline_get_state(faultline_client* client, const char* name, char** state) {
  cJSON* result = NULL;
  const int rc = fl_call(client, fl_guest_request("get-state", name), NULL, 0, &result, NULL);
  if (rc != 0) return rc;
  const cJSON* text = cJSON_GetObjectItemCaseSensitive(result, "state");
  *state = cJSON_IsString(text) ? strdup(text->valuestring) : NULL;
  const int told = cJSON_IsString(text);
  cJSON_Delete(result);
  if (*state != NULL) return 0;
  return fl_failed(client, told ? ENOMEM : EPROTO, "the state of a guest");
}

int faultline_set_state(faultline_client* client, const char* name, const char* state) {
  cJSON* request = fl_guest_request("set-state", name);
  cJSON_AddStringToObject(request, "state", state);
  return fl_call(client, request, NULL, 0, NULL, NULL);
}

/// Send a request and give its result as text.
static int call_for_text(faultline_client* client, cJSON* request, char** text) {
  cJSON* result = NULL;
  const int rc = fl_call(client, request, NULL, 0, &result, NULL);
  if (rc != 0 || text == NULL) {
    cJSON_Delete(result);
    return rc;
  }
  *text = result != NULL ? cJSON_PrintUnformatted(result) : NULL;
  cJSON_Delete(result);
  return *text != NULL ? 0 : fl_failed(client, EPROTO, "an answer without a result");
}

int faultline_query(faultline_client* client, const char* name, char** json) {
  return call_for_text(client, fl_guest_request("query", name), json);
}

int faultline_call(faultline_client* client, const char* method, const char* fields,
                   char** result) {
  cJSON* request = cJSON_Parse(fields != NULL ? fields : "{}");
  if (!cJSON_IsObject(request)) {
    cJSON_Delete(request);
    return fl_failed(client, EINVAL, "the fields are no JSON object");
  }
  cJSON_AddStringToObject(request, "method", method);
  return call_for_text(client, request, result);
}

int faultline_heartbeat(faultline_client* client, uint64_t* ns) {
  if (client->beat < 0) {
    const int rc = fl_call(client, fl_request("heartbeat"), NULL, 0, NULL, &client->beat);
    if (rc != 0) return rc;
    if (client->beat < 0) return fl_failed(client, EPROTO, "a heartbeat without memory");
  }
  // Not mapped: memory that its maker cuts off would kill whoever looks at it.
  const ssize_t got = pread(client->beat, ns, sizeof *ns, 0);
  if (got == (ssize_t)sizeof *ns) return 0;
  return fl_failed(client, got < 0 ? errno : EPROTO, "the heartbeat's memory");
}

int faultline_lost(faultline_client* client) {
  if (client->socket < 0) return 1;
  struct pollfd p = {.fd = client->socket, .events = 0};
  if (poll(&p, 1, 0) == 1 && (p.revents & (POLLHUP | POLLERR | POLLNVAL)) != 0) {
    fl_hang_up(client);
    return 1;
  }
  return 0;
}

int faultline_reconnect(faultline_client* client) {
  fl_hang_up(client);
  int rc = open_connection(client);
  for (struct fl_kept_guest* kept = client->guests; rc == 0 && kept != NULL; kept = kept->next) {
    rc = fl_take_over(client, kept);
  }
  if (rc != 0) fl_hang_up(client);  // the next attempt begins anew
  return rc;
}
