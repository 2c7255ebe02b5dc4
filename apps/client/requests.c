// SPDX-License-Identifier: BSD-3-Clause
#define _GNU_SOURCE
#include "apps/client/requests.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { kVersion = 1 };

/// A whole number as such: a double may be printed with an exponent.
static void add_number(cJSON* to, const char* name, uint64_t value) {
  char text[24];
  snprintf(text, sizeof text, "%" PRIu64, value);
  cJSON_AddRawToObject(to, name, text);
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
  add_number(request, "registers", g->registers);
  cJSON_AddStringToObject(request, "mode", g->trapped ? "trapped" : "exitless");
  if (g->n_vcpus > 0) {
    cJSON* vcpus = cJSON_AddArrayToObject(request, "vcpus");
    for (size_t i = 0; i < g->n_vcpus; ++i) {
      cJSON_AddItemToArray(vcpus, cJSON_CreateNumber(g->vcpus[i]));
    }
  }
  if (g->n_backend_fds > 0) add_indices(request, "backend_fds", 0, g->n_backend_fds);
  for (; n_fds < g->n_backend_fds; ++n_fds) fds[n_fds] = g->backend_fds[n_fds];
  if (kept->journal >= 0) {
    add_number(request, "journal", n_fds);
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

static int add_memory(struct faultline_client* client, const char* guest,
                      const struct faultline_memory* part) {
  cJSON* request = fl_guest_request("memory.add", guest);
  add_number(request, "gpa", part->gpa);
  add_number(request, "bytes", part->bytes);
  add_number(request, "offset", part->offset);
  add_number(request, "memfd", 0);
  return fl_call(client, request, &part->memfd, 1, NULL, NULL);
}

static int add_device(struct faultline_client* client, const char* guest,
                      const struct faultline_device* device) {
  cJSON* request = fl_guest_request("device.add", guest);
  cJSON_AddStringToObject(request, "name", device->name);
  add_number(request, "vsid", device->vsid);
  add_number(request, "host_sid", device->host_sid);
  add_indices(request, "fds", 0, device->n_fds);
  return fl_call(client, request, device->fds, device->n_fds, NULL, NULL);
}

static int set_interrupts(struct faultline_client* client, const struct faultline_guest* g) {
  const struct {
    const char* name;
    int fd;
  } all[] = {{"evtq", g->evtq_eventfd},
             {"gerror", g->gerror_eventfd},
             {"sync", g->sync_eventfd},
             {"doorbell", g->doorbell_eventfd}};
  int fds[4];
  size_t n = 0;
  cJSON* request = fl_guest_request("interrupts", g->name);
  for (size_t i = 0; i < 4; ++i) {
    if (all[i].fd < 0) continue;
    add_number(request, all[i].name, n);
    fds[n++] = all[i].fd;
  }
  return fl_call(client, request, fds, n, NULL, NULL);
}

/// The journal of an answer takes the place of an earlier one.
static void note_journal(struct fl_kept_guest* kept, int journal) {
  if (journal < 0) return;
  if (kept->journal >= 0) close(kept->journal);
  kept->journal = journal;
}

int fl_start_guest(struct faultline_client* client, struct fl_kept_guest* kept) {
  const struct faultline_guest* g = &kept->guest;
  int rc = add_guest(client, kept);
  if (rc != 0) return rc;
  for (size_t i = 0; rc == 0 && i < g->n_memory; ++i) {
    rc = add_memory(client, g->name, &g->memory[i]);
  }
  for (size_t i = 0; rc == 0 && i < g->n_devices; ++i) {
    rc = add_device(client, g->name, &g->devices[i]);
  }
  if (rc == 0) rc = set_interrupts(client, g);
  int journal = -1;
  if (rc == 0) rc = fl_call(client, fl_guest_request("start", g->name), NULL, 0, NULL, &journal);
  if (rc == 0) {
    note_journal(kept, journal);
    return 0;
  }
  char why[sizeof client->error];
  memcpy(why, client->error, sizeof why);
  (void)fl_call(client, fl_guest_request("guest.remove", g->name), NULL, 0, NULL, NULL);
  memcpy(client->error, why, sizeof why);
  return rc;
}

int fl_take_over(struct faultline_client* client, struct fl_kept_guest* kept) {
  cJSON* request = fl_guest_request("guest.attach", kept->guest.name);
  cJSON_AddStringToObject(request, "token", kept->token);
  int journal = -1;
  const int rc = fl_call(client, request, NULL, 0, NULL, &journal);
  if (rc == 0) {
    note_journal(kept, journal);
    return 0;
  }
  // The service's supervisor kept nothing of it: the journal says where it stood.
  if (rc != -EREMOTEIO || strncmp(client->error, "no guest", 8) != 0) return rc;
  const int started = fl_start_guest(client, kept);
  if (started != 0 || !kept->paused) return started;
  return fl_call(client, fl_guest_request("pause", kept->guest.name), NULL, 0, NULL, NULL);
}
