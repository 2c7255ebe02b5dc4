// SPDX-License-Identifier: BSD-3-Clause
// The requests of doc/session.md.
#ifndef FAULTLINE_CLIENT_REQUESTS_H
#define FAULTLINE_CLIENT_REQUESTS_H

#include "apps/client/connection.h"

#ifdef __cplusplus
extern "C" {
#endif

/// A request of one method; the caller adds its fields. NULL: out of memory.
cJSON* fl_request(const char* method);
/// The same with the field `guest`.
cJSON* fl_guest_request(const char* method, const char* guest);

/// A whole number as such: a double may be printed with an exponent.
void fl_add_number(cJSON* to, const char* name, uint64_t value);
/// What of a budget is not the operator's.
void fl_add_budget(cJSON* to, const struct faultline_budget* budget);

/// The first request on a connection.
int fl_greet(struct faultline_client* client);
/// Ends the guests of this connection.
void fl_say_goodbye(struct faultline_client* client);

/// Put a guest together and start it: all or nothing. Its token and journal are noted.
int fl_start_guest(struct faultline_client* client, struct fl_kept_guest* kept);
/// journal  of a served guest, to be closed; -1: none came
int fl_add_memory(struct faultline_client* client, const char* guest,
                  const struct faultline_memory* part, int* journal);
int fl_add_device(struct faultline_client* client, const char* guest,
                  const struct faultline_device* device, int* journal);

/// Take over a guest that a lost connection left, as soon as the service has seen that one end, or
/// have it start where its journal says. A change of it that was not answered is settled: as the
/// service says; where that knows nothing of the guest, one that was to be removed is let go, and
/// any other is what it was before the change.
int fl_take_over(struct faultline_client* client, struct fl_kept_guest* kept);

#ifdef __cplusplus
}
#endif

#endif
