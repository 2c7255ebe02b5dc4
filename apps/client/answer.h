// SPDX-License-Identifier: BSD-3-Clause
// What a service says, taken apart. It is not trusted: a service may be another program by now.
#ifndef FAULTLINE_CLIENT_ANSWER_H
#define FAULTLINE_CLIENT_ANSWER_H

#include <cJSON.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define FL_NO_REQUEST UINT64_MAX

struct fl_answer {
  uint64_t id;      // of the request that it answers; FL_NO_REQUEST: it is about the connection
  int ok;           // 0: refused, and error says why
  char error[256];  // one line of printable characters
  cJSON* body;      // the whole message; free with fl_answer_free()
};

/// text     ended by a 0 that `bytes` does not count
/// returns  0; -EPROTO: it is no answer, and nothing has to be freed
int fl_answer_parse(const char* text, size_t bytes, struct fl_answer* answer);
void fl_answer_free(struct fl_answer* answer);

#ifdef __cplusplus
}
#endif

#endif
