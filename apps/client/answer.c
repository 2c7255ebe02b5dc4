// SPDX-License-Identifier: BSD-3-Clause
#include "apps/client/answer.h"

#include <errno.h>
#include <string.h>

/// One line without control characters, whatever the service sent.
static void take_line(char* to, size_t bytes, const char* from) {
  size_t n = 0;
  if (from[0] == '\0') from = "the service refused and did not say why";
  for (; from[n] != '\0' && n + 1 < bytes; ++n) {
    const unsigned char c = (unsigned char)from[n];
    to[n] = c < 0x20 || c == 0x7f ? ' ' : from[n];
  }
  to[n] = '\0';
}

int fl_answer_parse(const char* text, size_t bytes, struct fl_answer* answer) {
  memset(answer, 0, sizeof *answer);
  if (memchr(text, '\0', bytes) != NULL) return -EPROTO;
  cJSON* body = cJSON_ParseWithLengthOpts(text, bytes + 1, NULL, 1);  // and nothing behind it
  const cJSON* id = cJSON_GetObjectItemCaseSensitive(body, "id");
  const cJSON* error = cJSON_GetObjectItemCaseSensitive(body, "error");
  const int of_nobody = cJSON_IsNull(id) && error != NULL;
  const int of_request = cJSON_IsNumber(id) && id->valuedouble >= 0 &&
                         id->valuedouble < 9007199254740992.0 &&
                         (double)(uint64_t)id->valuedouble == id->valuedouble;
  if (!cJSON_IsObject(body) || (!of_nobody && !of_request) ||
      (error != NULL && !cJSON_IsString(error))) {
    cJSON_Delete(body);
    return -EPROTO;
  }
  answer->id = of_request ? (uint64_t)id->valuedouble : FL_NO_REQUEST;
  answer->ok = error == NULL;
  if (error != NULL) take_line(answer->error, sizeof answer->error, error->valuestring);
  answer->body = body;
  return 0;
}

void fl_answer_free(struct fl_answer* answer) {
  cJSON_Delete(answer->body);
  answer->body = NULL;
}
