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
#include "apps/client/notes.h"
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
  return fl_call_and_note(client, fl_guest_request(method, name), NULL);
}

int faultline_detach(faultline_client* client, const char* name) {
  return ask_of(client, "guest.remove", name);
}

int faultline_pause(faultline_client* client, const char* name) {
  return ask_of(client, "pause", name);
}

int faultline_resume(faultline_client* client, const char* name) {
  return ask_of(client, "resume", name);
}

int faultline_reset(faultline_client* client, const char* name) {
  return ask_of(client, "reset", name);
}

static int not_attached(faultline_client* client, const char* name) {
  snprintf(client->error, sizeof client->error, "no guest %s is attached", name);
  return -ENOENT;
}

int faultline_memory_add(faultline_client* client, const char* name,
                         const struct faultline_memory* part) {
  struct fl_kept_guest* kept = fl_kept(client, name);
  if (kept == NULL) return not_attached(client, name);
  // Before the service has it: what it serves is never more than what is attached again.
  int rc = fl_keep_memory(kept, part);
  if (rc != 0) return fl_failed(client, -rc, "a part of memory cannot be kept");
  int journal = -1;
  rc = fl_add_memory(client, name, part, &journal);
  if (rc == 0) {
    fl_note_shape(client, kept, journal);
  } else if (!fl_leave_open(client, kept, FL_MEMORY_CAME)) {
    fl_drop_last_memory(kept);
  }
  return rc;
}

int faultline_memory_remove(faultline_client* client, const char* name, uint64_t gpa,
                            uint64_t bytes) {
  cJSON* request = fl_guest_request("memory.remove", name);
  fl_add_number(request, "gpa", gpa);
  fl_add_number(request, "bytes", bytes);
  return fl_call_and_note(client, request, NULL);
}

int faultline_device_add(faultline_client* client, const char* name,
                         const struct faultline_device* device) {
  struct fl_kept_guest* kept = fl_kept(client, name);
  if (kept == NULL) return not_attached(client, name);
  int rc = fl_keep_device(kept, device);
  if (rc != 0) return fl_failed(client, -rc, "a device cannot be kept");
  int journal = -1;
  rc = fl_add_device(client, name, device, &journal);
  if (rc == 0) {
    fl_note_shape(client, kept, journal);
  } else if (!fl_leave_open(client, kept, FL_DEVICE_CAME)) {
    fl_drop_last_device(kept);
  }
  return rc;
}

int faultline_device_remove(faultline_client* client, const char* name, const char* device) {
  cJSON* request = fl_guest_request("device.remove", name);
  cJSON_AddStringToObject(request, "name", device);
  return fl_call_and_note(client, request, NULL);
}

int faultline_set_budget(faultline_client* client, const char* name,
                         const struct faultline_budget* budget) {
  cJSON* request = fl_guest_request("budget", name);
  fl_add_budget(request, budget);
  return fl_call_and_note(client, request, NULL);
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
  const int rc = fl_call_and_note(client, request, &result);
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
  cJSON_DeleteItemFromObjectCaseSensitive(request, "id");
  cJSON_DeleteItemFromObjectCaseSensitive(request, "method");
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
  for (struct fl_kept_guest *kept = client->guests, *next; rc == 0 && kept != NULL; kept = next) {
    next = kept->next;  // one that was to be removed goes here
    rc = fl_take_over(client, kept);
  }
  if (rc != 0) fl_hang_up(client);  // the next attempt begins anew
  return rc;
}
