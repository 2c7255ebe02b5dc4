// SPDX-License-Identifier: BSD-3-Clause
// Calls that change what a client keeps of its guests.
#ifndef FAULTLINE_CLIENT_NOTES_H
#define FAULTLINE_CLIENT_NOTES_H

#include "apps/client/connection.h"

/// The kept guest of that name; NULL: none.
struct fl_kept_guest* fl_kept(struct faultline_client* client, const char* name);

/// As fl_call() of a request without descriptors. What it does to a guest that is kept, it does to
/// the copy: a part less, another budget, paused or not, gone.
int fl_call_and_note(struct faultline_client* client, cJSON* request, cJSON** result);

#endif
