// SPDX-License-Identifier: BSD-3-Clause
#define _GNU_SOURCE
#include "apps/client/result_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/// returns  its bytes, or -EPROTO
static long long sealed_bytes(int file) {
  struct stat info;
  const int needed = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE;
  const int seals = fcntl(file, F_GET_SEALS);
  if (seals < 0 || (seals & needed) != needed || fstat(file, &info) != 0 ||
      !S_ISREG(info.st_mode) || info.st_size < 0 || info.st_size > FL_MOST_RESULT_BYTES) {
    return -EPROTO;
  }
  return info.st_size;
}

static int read_whole(int file, char* text, size_t bytes) {
  size_t have = 0;
  while (have < bytes) {
    const ssize_t got = pread(file, text + have, bytes - have, (off_t)have);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return -EPROTO;
    have += (size_t)got;
  }
  text[bytes] = '\0';
  return 0;
}

int fl_read_result_file(int file, cJSON** result) {
  const long long bytes = sealed_bytes(file);
  if (bytes < 0) return -EPROTO;
  char* text = malloc((size_t)bytes + 1);
  if (text == NULL) return -ENOMEM;
  int rc = read_whole(file, text, (size_t)bytes);
  if (rc == 0) {
    *result = memchr(text, '\0', (size_t)bytes) == NULL
                  ? cJSON_ParseWithLengthOpts(text, (size_t)bytes + 1, NULL, 1)
                  : NULL;
    if (*result == NULL) rc = -EPROTO;
  }
  free(text);
  return rc;
}
