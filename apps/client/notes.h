// SPDX-License-Identifier: BSD-3-Clause
// Calls that change what a client keeps of its guests.
#ifndef FAULTLINE_CLIENT_NOTES_H
#define FAULTLINE_CLIENT_NOTES_H

#include "apps/client/connection.h"

/// The kept guest of that name; NULL: none.
struct fl_kept_guest* fl_kept(struct faultline_client* client, const char* name);
/// One that is kept is not any more.
void fl_forget(struct faultline_client* client, struct fl_kept_guest* gone);

/// The service's word on a guest, as `query` gives it: parts that it does not have are let go.
/// returns  0, or -EPROTO: it does not say
int fl_note_query(struct fl_kept_guest* kept, const cJSON* result);

/// After a call that changes a kept guest did not come to a clear end: what the service has of the
/// guest is found out by fl_take_over(), for which the connection is ended here. Nothing where the
/// end is clear.
///
/// change   what is not known
/// returns  whether it was so
int fl_leave_open(struct faultline_client* client, struct fl_kept_guest* kept,
                  enum fl_open_change change);

/// The journal that came with a new shape; where none came, fl_take_over() gets it.
void fl_note_shape(struct faultline_client* client, struct fl_kept_guest* kept, int journal);

/// As fl_call() of a request without descriptors. What it does to a guest that is kept, it does to
/// the copy: a part less, another budget, paused or not, gone.
int fl_call_and_note(struct faultline_client* client, cJSON* request, cJSON** result);

#endif
