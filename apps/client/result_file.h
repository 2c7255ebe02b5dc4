// SPDX-License-Identifier: BSD-3-Clause
// A result that is longer than a packet comes as a file beside its answer.
#ifndef FAULTLINE_CLIENT_RESULT_FILE_H
#define FAULTLINE_CLIENT_RESULT_FILE_H

#include <cJSON.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { FL_MOST_RESULT_BYTES = 16 << 20 };

/// Read the JSON that a sealed memfd holds. Nothing of it can change meanwhile, and a read of it
/// never waits: any other file is refused.
///
/// file     stays the caller's
/// result   to be freed with cJSON_Delete()
/// returns  0; -EPROTO: it is no such file, longer than FL_MOST_RESULT_BYTES, or not JSON; -ENOMEM
int fl_read_result_file(int file, cJSON** result);

#ifdef __cplusplus
}
#endif

#endif
