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

static void forget(struct faultline_client* client, struct fl_kept_guest* gone) {
  struct fl_kept_guest** at = &client->guests;
  while (*at != gone) at = &(*at)->next;
  *at = gone->next;
  fl_let_go(gone);
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
    kept->guest.budget.commands = (uint32_t)number_of(request, "commands");
    kept->guest.budget.records = (uint32_t)number_of(request, "records");
    kept->guest.budget.submissions = (uint32_t)number_of(request, "submissions");
    kept->guest.budget.weight = (uint32_t)number_of(request, "weight");
  } else if (strcmp(method, "guest.remove") == 0) {
    forget(client, kept);
  } else if (strcmp(method, "memory.remove") == 0) {
    fl_drop_memory(kept, number_of(request, "gpa"), number_of(request, "bytes"));
    fl_keep_journal(kept, journal);
    return 1;
  } else if (strcmp(method, "device.remove") == 0) {
    fl_drop_device(kept, text_of(request, "name"));
    fl_keep_journal(kept, journal);
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
  cJSON_Delete(said);
  return rc;
}
