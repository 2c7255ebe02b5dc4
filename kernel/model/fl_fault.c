// SPDX-License-Identifier: BSD-3-Clause OR GPL-2.0-only
#include "kernel/model/fl_fault.h"

#define IPA_FIELD UINT64_C(0x000ffffffffff000)
#define FETCH_FIELD UINT64_C(0x000ffffffffffff8)

void fl_event_fill(const struct fl_origin* o, const struct fl_fault* f, struct fl_event* event) {
  const bool read = !(o->access & FL_ACCESS_WRITE);
  uint64_t w0 = (uint64_t)o->sid << 32 | f->id;
  uint64_t w1 = 0;

  event->w[0] = w0;
  event->w[1] = event->w[2] = event->w[3] = 0;
  if (f->id == FL_EVT_F_STREAM_DISABLED) return;

  // C_BAD_SUBSTREAMID has no SSV qualifier: its SubstreamID always counts.
  if (o->ssv) w0 |= (uint64_t)(o->ssid & 0xfffff) << 12;
  if (o->ssv && f->id != FL_EVT_C_BAD_SUBSTREAMID) w0 |= UINT64_C(1) << 11;
  event->w[0] = w0;
  if (f->id == FL_EVT_F_CD_FETCH) event->w[3] = f->addr2 & FETCH_FIELD;
  if (f->id < FL_EVT_F_WALK_EABT) return;

  if (o->access & FL_ACCESS_PRIV) w1 |= UINT64_C(1) << 33;
  if (read && (o->access & FL_ACCESS_EXEC)) w1 |= UINT64_C(1) << 34;
  if (read) w1 |= UINT64_C(1) << 35;
  if (f->s2) w1 |= UINT64_C(1) << 39;
  w1 |= (uint64_t)f->class_ << 40;
  // TTRnW: the model only ever reads translation tables.
  if (f->id == FL_EVT_F_PERMISSION && f->s2 && f->class_ == FL_CLASS_TT) w1 |= UINT64_C(1) << 44;
  event->w[1] = w1;
  event->w[2] = o->iova;
  event->w[3] = f->addr2 & (f->id == FL_EVT_F_WALK_EABT ? FETCH_FIELD : IPA_FIELD);
}
