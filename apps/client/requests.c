// SPDX-License-Identifier: BSD-3-Clause
#define _GNU_SOURCE
#include "apps/client/requests.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "apps/client/notes.h"

enum { kVersion = 1, kMostRoutes = 16, kRetryMs = 10 };

void fl_add_number(cJSON* to, const char* name, uint64_t value) {
  char text[24];
  snprintf(text, sizeof text, "%" PRIu64, value);
  cJSON_AddRawToObject(to, name, text);
}

void fl_add_budget(cJSON* to, const struct faultline_budget* budget) {
  if (budget->commands != 0) fl_add_number(to, "commands", budget->commands);
  if (budget->records != 0) fl_add_number(to, "records", budget->records);
  if (budget->submissions != 0) fl_add_number(to, "submissions", budget->submissions);
  if (budget->weight != 0) fl_add_number(to, "weight", budget->weight);
}

/// The indices first … first + n - 1.
static void add_indices(cJSON* to, const char* name, size_t first, size_t n) {
  cJSON* list = cJSON_AddArrayToObject(to, name);
  for (size_t i = 0; i < n; ++i) {
    cJSON_AddItemToArray(list, cJSON_CreateNumber((double)(first + i)));
  }
}

cJSON* fl_request(const char* method) {
  cJSON* request = cJSON_CreateObject();
  cJSON_AddStringToObject(request, "method", method);
  return request;
}

cJSON* fl_guest_request(const char* method, const char* guest) {
  cJSON* request = fl_request(method);
  cJSON_AddStringToObject(request, "guest", guest);
  return request;
}

int fl_greet(struct faultline_client* client) {
  cJSON* request = fl_request("hello");
  cJSON_AddItemToArray(cJSON_AddArrayToObject(request, "versions"), cJSON_CreateNumber(kVersion));
  cJSON* result = NULL;
  const int rc = fl_call(client, request, NULL, 0, &result, NULL);
  if (rc != 0) return rc;
  const cJSON* version = cJSON_GetObjectItemCaseSensitive(result, "version");
  const int spoken = cJSON_IsNumber(version) && version->valuedouble == kVersion;
  cJSON_Delete(result);
  return spoken ? 0 : fl_failed(client, EPROTO, "the service speaks another version");
}

void fl_say_goodbye(struct faultline_client* client) {
  (void)fl_call(client, fl_request("goodbye"), NULL, 0, NULL, NULL);
}

static int add_guest(struct faultline_client* client, struct fl_kept_guest* kept) {
  const struct faultline_guest* g = &kept->guest;
  int fds[FL_MOST_BACKEND_FDS + 1];
  size_t n_fds = 0;
  if (g->n_backend_fds > FL_MOST_BACKEND_FDS) {
    return fl_failed(client, E2BIG, "the guest's backend descriptors");
  }
  cJSON* request = fl_request("guest.add");
  cJSON_AddStringToObject(request, "name", g->name);
  fl_add_number(request, "registers", g->registers);
  cJSON_AddStringToObject(request, "mode", g->trapped ? "trapped" : "exitless");
  if (g->n_vcpus > 0) {
    cJSON* vcpus = cJSON_AddArrayToObject(request, "vcpus");
    for (size_t i = 0; i < g->n_vcpus; ++i) {
      cJSON_AddItemToArray(vcpus, cJSON_CreateNumber(g->vcpus[i]));
    }
  }
  const struct faultline_budget* b = &g->budget;
  if ((b->commands | b->records | b->submissions | b->weight) != 0) {
    fl_add_budget(cJSON_AddObjectToObject(request, "budget"), b);
  }
  if (g->n_backend_fds > 0) add_indices(request, "backend_fds", 0, g->n_backend_fds);
  for (; n_fds < g->n_backend_fds; ++n_fds) fds[n_fds] = g->backend_fds[n_fds];
  if (kept->journal >= 0) {
    fl_add_number(request, "journal", n_fds);
    fds[n_fds++] = kept->journal;
  }
  cJSON* result = NULL;
  const int rc = fl_call(client, request, fds, n_fds, &result, NULL);
  if (rc != 0) return rc;
  const cJSON* token = cJSON_GetObjectItemCaseSensitive(result, "token");
  free(kept->token);
  kept->token = strdup(cJSON_IsString(token) ? token->valuestring : "");
  cJSON_Delete(result);
  return kept->token != NULL ? 0 : fl_failed(client, ENOMEM, "a guest");
}

int fl_add_memory(struct faultline_client* client, const char* guest,
                  const struct faultline_memory* part, int* journal) {
  cJSON* request = fl_guest_request("memory.add", guest);
  fl_add_number(request, "gpa", part->gpa);
  fl_add_number(request, "bytes", part->bytes);
  fl_add_number(request, "offset", part->offset);
  fl_add_number(request, "memfd", 0);
  return fl_call(client, request, &part->memfd, 1, NULL, journal);
}

int fl_add_device(struct faultline_client* client, const char* guest,
                  const struct faultline_device* device, int* journal) {
  cJSON* request = fl_guest_request("device.add", guest);
  cJSON_AddStringToObject(request, "name", device->name);
  fl_add_number(request, "vsid", device->vsid);
  fl_add_number(request, "host_sid", device->host_sid);
  add_indices(request, "fds", 0, device->n_fds);
  return fl_call(client, request, device->fds, device->n_fds, NULL, journal);
}

static int set_interrupts(struct faultline_client* client, const struct faultline_guest* g) {
  const struct {
    const char* name;
    int fd;
  } all[] = {{"evtq", g->evtq_eventfd}, {"gerror", g->gerror_eventfd},
             {"sync", g->sync_eventfd}, {"doorbell", g->doorbell_eventfd},
             {"arm", g->arm_eventfd},   {"armed", g->armed_eventfd}};
  enum { kAll = sizeof all / sizeof *all };
  int fds[kAll + kMostRoutes];
  size_t n = 0;
  if (g->n_routes > kMostRoutes) return fl_failed(client, E2BIG, "the guest's routes");
  cJSON* request = fl_guest_request("interrupts", g->name);
  for (size_t i = 0; i < kAll; ++i) {
    if (all[i].fd < 0) continue;
    fl_add_number(request, all[i].name, n);
    fds[n++] = all[i].fd;
  }
  cJSON* routes = g->n_routes > 0 ? cJSON_AddArrayToObject(request, "routes") : NULL;
  for (size_t i = 0; i < g->n_routes; ++i) {
    cJSON* route = cJSON_CreateObject();
    fl_add_number(route, "address", g->routes[i].address);
    fl_add_number(route, "data", g->routes[i].data);
    fl_add_number(route, "eventfd", n);
    fds[n++] = g->routes[i].eventfd;
    cJSON_AddItemToArray(routes, route);
  }
  return fl_call(client, request, fds, n, NULL, NULL);
}

int fl_start_guest(struct faultline_client* client, struct fl_kept_guest* kept) {
  const struct faultline_guest* g = &kept->guest;
  int rc = add_guest(client, kept);
  if (rc != 0) return rc;
  for (size_t i = 0; rc == 0 && i < g->n_memory; ++i) {
    rc = fl_add_memory(client, g->name, &g->memory[i], NULL);
  }
  for (size_t i = 0; rc == 0 && i < g->n_devices; ++i) {
    rc = fl_add_device(client, g->name, &g->devices[i], NULL);
  }
  if (rc == 0) rc = set_interrupts(client, g);
  int journal = -1;
  if (rc == 0) {
    cJSON* request = fl_guest_request("start", g->name);
    if (kept->paused) cJSON_AddTrueToObject(request, "paused");
    rc = fl_call(client, request, NULL, 0, NULL, &journal);
  }
  if (rc == 0) {
    fl_keep_journal(kept, journal);
    return 0;
  }
  char why[sizeof client->error];
  memcpy(why, client->error, sizeof why);
  (void)fl_call(client, fl_guest_request("guest.remove", g->name), NULL, 0, NULL, NULL);
  // It may be there after all: then it lingers, and ends.
  if (client->unanswered) fl_hang_up(client);
  memcpy(client->error, why, sizeof why);
  return rc;
}

/// How the answer to a guest.attach ends while the service believes that the old connection lives.
static int is_another_sessions(const char* error) {
  static const char kEnd[] = " is another session's";
  const size_t n = strlen(error);
  return n >= sizeof kEnd - 1 && strcmp(error + n - (sizeof kEnd - 1), kEnd) == 0;
}

static int attach_again(struct faultline_client* client, struct fl_kept_guest* kept) {
  for (int waited_ms = 0;; waited_ms += kRetryMs) {
    cJSON* request = fl_guest_request("guest.attach", kept->guest.name);
    cJSON_AddStringToObject(request, "token", kept->token);
    int journal = -1;
    cJSON* result = NULL;
    const int rc = fl_call(client, request, NULL, 0, &result, &journal);
    if (rc == 0) {
      fl_keep_journal(kept, journal);
      const cJSON* state = cJSON_GetObjectItemCaseSensitive(result, "state");
      if (cJSON_IsString(state)) kept->paused = strcmp(state->valuestring, "paused") == 0;
      cJSON_Delete(result);
    }
    const int soon = rc == -EREMOTEIO && client->socket >= 0 && is_another_sessions(client->error);
    if (!soon || (client->timeout_ms >= 0 && waited_ms >= client->timeout_ms)) return rc;
    poll(NULL, 0, kRetryMs);
  }
}

/// After a change that was not answered: the guest is what the service says.
static int settle(struct faultline_client* client, struct fl_kept_guest* kept) {
  cJSON* result = NULL;
  int rc = fl_call(client, fl_guest_request("query", kept->guest.name), NULL, 0, &result, NULL);
  if (rc != 0) return rc;
  rc = fl_note_query(kept, result);
  cJSON_Delete(result);
  if (rc != 0) return fl_failed(client, -rc, "what the service says of a guest");
  kept->open = FL_NO_CHANGE;
  return 0;
}

/// Nobody can say any more whether it was done. The journal is the one from before it.
static void take_back(struct fl_kept_guest* kept) {
  if (kept->open == FL_MEMORY_CAME) fl_drop_last_memory(kept);
  if (kept->open == FL_DEVICE_CAME) fl_drop_last_device(kept);
  kept->open = FL_NO_CHANGE;
}

int fl_take_over(struct faultline_client* client, struct fl_kept_guest* kept) {
  const int rc = attach_again(client, kept);
  if (rc == 0) return kept->open == FL_NO_CHANGE ? 0 : settle(client, kept);
  // The service's supervisor kept nothing of it: the journal says where it stood.
  if (rc != -EREMOTEIO || strncmp(client->error, "no guest", 8) != 0) return rc;
  if (kept->open == FL_GUEST_GOES) {
    fl_forget(client, kept);
    return 0;
  }
  take_back(kept);
  return fl_start_guest(client, kept);
}
