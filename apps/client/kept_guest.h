// SPDX-License-Identifier: BSD-3-Clause
// A guest as a client keeps it: a copy with duplicates of all descriptors, to attach it again.
#ifndef FAULTLINE_CLIENT_KEPT_GUEST_H
#define FAULTLINE_CLIENT_KEPT_GUEST_H

#include "apps/client/faultline_client.h"

#ifdef __cplusplus
extern "C" {
#endif

/// A change that the service was asked for and did not answer: what it has is asked for when the
/// guest is taken over again. Until then a part that is to go is kept, and so is one that came.
enum fl_open_change {
  FL_NO_CHANGE = 0,
  FL_MEMORY_CAME,  // the last part of memory
  FL_DEVICE_CAME,  // the last device
  FL_GUEST_GOES,
  FL_OTHER_CHANGE,  // a part goes, another budget, paused or not
};

struct fl_kept_guest {
  struct fl_kept_guest* next;
  struct faultline_guest guest;
  char* token;  // of guest.add; NULL: none
  int journal;  // of start, or of what changed its shape last; -1: none
  int paused;
  enum fl_open_change open;
};

/// returns  NULL, and errno, where memory or descriptors do not suffice or one is not open
struct fl_kept_guest* fl_keep(const struct faultline_guest* guest);

/// Close and free; NULL is fine.
void fl_let_go(struct fl_kept_guest* kept);

/// One part more, as its last. returns  0, or -errno with everything as before
int fl_keep_memory(struct fl_kept_guest* kept, const struct faultline_memory* part);
int fl_keep_device(struct fl_kept_guest* kept, const struct faultline_device* device);

/// Let go of a part again. One that there is not is fine.
void fl_drop_memory(struct fl_kept_guest* kept, uint64_t gpa, uint64_t bytes);
void fl_drop_device(struct fl_kept_guest* kept, const char* device);
/// Of the one that was kept last: the service refused it.
void fl_drop_last_memory(struct fl_kept_guest* kept);
void fl_drop_last_device(struct fl_kept_guest* kept);

/// The journal of an answer takes the place of an earlier one. -1: there was none
void fl_keep_journal(struct fl_kept_guest* kept, int journal);

#ifdef __cplusplus
}
#endif

#endif
