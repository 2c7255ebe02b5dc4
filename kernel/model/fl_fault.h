// SPDX-License-Identifier: BSD-3-Clause OR GPL-2.0-only
// A translation gone wrong, and the event words it becomes.
#pragma once

#include "kernel/model/fl_stage2.h"
#include "kernel/model/fl_types.h"

FL_BEGIN_DECLS

/// What went wrong in a translation, before it is made into event words.
struct fl_fault {
  uint8_t id;      ///< enum fl_event_id
  uint8_t class_;  ///< enum fl_event_class
  bool s2;         ///< at stage 2; never told to the guest by the seed's interface
  uint64_t addr2;  ///< IPA of a stage-2 fault; host handle of an external abort; else 0
};

/// Who made the faulting transaction, as its event tells it.
struct fl_origin {
  uint64_t iova;
  uint32_t sid;
  uint32_t ssid;
  bool ssv;
  uint8_t access;  ///< enum fl_access
};

/// Make the event record: only the fields that its kind has, the rest 0.
///
/// source   Arm IHI 0070, 7.3 "Event records"
void fl_event_fill(const struct fl_origin* origin, const struct fl_fault* fault,
                   struct fl_event* event);

static inline uint8_t fl_event_id(const struct fl_event* e) {
  return (uint8_t)(e->w[0] & 0xff);
}
static inline bool fl_event_ssv(const struct fl_event* e) {
  return (e->w[0] >> 11) & 1;
}
static inline uint32_t fl_event_ssid(const struct fl_event* e) {
  return (uint32_t)(e->w[0] >> 12) & 0xfffff;
}
static inline uint32_t fl_event_sid(const struct fl_event* e) {
  return (uint32_t)(e->w[0] >> 32);
}
static inline bool fl_event_pnu(const struct fl_event* e) {
  return (e->w[1] >> 33) & 1;
}
static inline bool fl_event_ind(const struct fl_event* e) {
  return (e->w[1] >> 34) & 1;
}
static inline bool fl_event_rnw(const struct fl_event* e) {
  return (e->w[1] >> 35) & 1;
}
static inline bool fl_event_s2(const struct fl_event* e) {
  return (e->w[1] >> 39) & 1;
}
static inline uint8_t fl_event_class_of(const struct fl_event* e) {
  return (uint8_t)(e->w[1] >> 40) & 3;
}

FL_END_DECLS
