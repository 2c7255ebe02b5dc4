// SPDX-License-Identifier: BSD-3-Clause
#include "apps/client/notes.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct fl_kept_guest* fl_kept(struct faultline_client* client, const char* name) {
  struct fl_kept_guest* kept = client->guests;
  while (kept != NULL && strcmp(kept->guest.name, name) != 0) kept = kept->next;
  return kept;
}

static const char* text_of(const cJSON* request, const char* name) {
  const cJSON* field = cJSON_GetObjectItemCaseSensitive(request, name);
  return cJSON_IsString(field) ? field->valuestring : "";
}

/// Of a request that was found good; 0 where it is not there.
static uint64_t number_of(const cJSON* request, const char* name) {
  const cJSON* field = cJSON_GetObjectItemCaseSensitive(request, name);
  if (cJSON_IsRaw(field)) return strtoull(field->valuestring, NULL, 10);
  return cJSON_IsNumber(field) && field->valuedouble >= 0 && field->valuedouble < 0x1p53
             ? (uint64_t)field->valuedouble
             : 0;
}

void fl_forget(struct faultline_client* client, struct fl_kept_guest* gone) {
  struct fl_kept_guest** at = &client->guests;
  while (*at != gone) at = &(*at)->next;
  *at = gone->next;
  fl_let_go(gone);
}

int fl_leave_open(struct faultline_client* client, struct fl_kept_guest* kept,
                  enum fl_open_change change) {
  if (!client->unanswered) return 0;
  kept->open = change;
  fl_hang_up(client);
  return 1;
}

void fl_note_shape(struct faultline_client* client, struct fl_kept_guest* kept, int journal) {
  fl_keep_journal(kept, journal);
  if (journal < 0) fl_hang_up(client);
}

/// What a method leaves open of a guest that is kept, where its answer does not come.
static enum fl_open_change change_of(const char* method) {
  static const char* const kOthers[] = {"pause", "resume", "budget", "memory.remove",
                                        "device.remove"};
  if (strcmp(method, "guest.remove") == 0) return FL_GUEST_GOES;
  for (size_t i = 0; i < sizeof kOthers / sizeof *kOthers; ++i) {
    if (strcmp(method, kOthers[i]) == 0) return FL_OTHER_CHANGE;
  }
  return FL_NO_CHANGE;
}

static void note_budget(struct fl_kept_guest* kept, const cJSON* fields) {
  kept->guest.budget.commands = (uint32_t)number_of(fields, "commands");
  kept->guest.budget.records = (uint32_t)number_of(fields, "records");
  kept->guest.budget.submissions = (uint32_t)number_of(fields, "submissions");
  kept->guest.budget.weight = (uint32_t)number_of(fields, "weight");
}

/// returns  whether the journal is the guest's from now on
static int note(struct faultline_client* client, const cJSON* request, int journal) {
  struct fl_kept_guest* kept = fl_kept(client, text_of(request, "guest"));
  const char* method = text_of(request, "method");
  if (kept == NULL) return 0;
  if (strcmp(method, "pause") == 0) {
    kept->paused = 1;
  } else if (strcmp(method, "resume") == 0) {
    kept->paused = 0;
  } else if (strcmp(method, "budget") == 0) {
    note_budget(kept, request);
  } else if (strcmp(method, "guest.remove") == 0) {
    fl_forget(client, kept);
  } else if (strcmp(method, "memory.remove") == 0) {
    fl_drop_memory(kept, number_of(request, "gpa"), number_of(request, "bytes"));
    fl_note_shape(client, kept, journal);
    return 1;
  } else if (strcmp(method, "device.remove") == 0) {
    fl_drop_device(kept, text_of(request, "name"));
    fl_note_shape(client, kept, journal);
    return 1;
  }
  return 0;
}

int fl_call_and_note(struct faultline_client* client, cJSON* request, cJSON** result) {
  cJSON* said = cJSON_Duplicate(request, 1);
  if (said == NULL) {
    cJSON_Delete(request);
    return fl_failed(client, ENOMEM, "a request");
  }
  int journal = -1;
  const int rc = fl_call(client, request, NULL, 0, result, &journal);
  if ((rc != 0 || !note(client, said, journal)) && journal >= 0) close(journal);
  struct fl_kept_guest* kept = rc != 0 ? fl_kept(client, text_of(said, "guest")) : NULL;
  const enum fl_open_change change = change_of(text_of(said, "method"));
  if (kept != NULL && change != FL_NO_CHANGE) fl_leave_open(client, kept, change);
  cJSON_Delete(said);
  return rc;
}

static int has_memory(const cJSON* list, const struct faultline_memory* part) {
  const cJSON* item = NULL;
  cJSON_ArrayForEach(item, list) {
    if (number_of(item, "gpa") == part->gpa && number_of(item, "bytes") == part->bytes) return 1;
  }
  return 0;
}

static int has_device(const cJSON* list, const struct faultline_device* device) {
  const cJSON* item = NULL;
  cJSON_ArrayForEach(item, list) {
    if (strcmp(text_of(item, "name"), device->name) == 0) return 1;
  }
  return 0;
}

int fl_note_query(struct fl_kept_guest* kept, const cJSON* result) {
  const cJSON* memory = cJSON_GetObjectItemCaseSensitive(result, "memory");
  const cJSON* devices = cJSON_GetObjectItemCaseSensitive(result, "devices");
  const cJSON* budget = cJSON_GetObjectItemCaseSensitive(result, "budget");
  if (!cJSON_IsArray(memory) || !cJSON_IsArray(devices) || !cJSON_IsObject(budget)) return -EPROTO;
  const struct faultline_guest* g = &kept->guest;
  for (size_t i = g->n_memory; i-- > 0;) {
    if (!has_memory(memory, &g->memory[i])) {
      fl_drop_memory(kept, g->memory[i].gpa, g->memory[i].bytes);
    }
  }
  for (size_t i = g->n_devices; i-- > 0;) {
    if (!has_device(devices, &g->devices[i])) fl_drop_device(kept, g->devices[i].name);
  }
  note_budget(kept, budget);
  return 0;
}
