// SPDX-License-Identifier: BSD-3-Clause
// A guest as a client keeps it: a copy with duplicates of all descriptors, to attach it again.
#ifndef FAULTLINE_CLIENT_KEPT_GUEST_H
#define FAULTLINE_CLIENT_KEPT_GUEST_H

#include "apps/client/faultline_client.h"

struct fl_kept_guest {
  struct fl_kept_guest* next;
  struct faultline_guest guest;
  char* token;  // of guest.add; NULL: none
  int journal;  // of start; -1: none
  int paused;
};

/// returns  NULL, and errno, where memory or descriptors do not suffice or one is not open
struct fl_kept_guest* fl_keep(const struct faultline_guest* guest);

/// Close and free; NULL is fine.
void fl_let_go(struct fl_kept_guest* kept);

#endif
