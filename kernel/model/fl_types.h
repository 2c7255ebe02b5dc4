// SPDX-License-Identifier: BSD-3-Clause OR GPL-2.0-only
// Shared words of the model. Freestanding: a Linux module compiles the same files, so there is no
// libc, no floating point and no allocation anywhere in this folder; the caller gives all memory.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
#define FL_BEGIN_DECLS extern "C" {
#define FL_END_DECLS }
#else
#define FL_BEGIN_DECLS
#define FL_END_DECLS
#endif

FL_BEGIN_DECLS

/// Error numbers, returned negative. The values are Linux's, so a caller hands them on unchanged.
enum fl_errno {
  FL_ENOENT = 2,
  FL_EFAULT = 14,
  FL_EEXIST = 17,
  FL_EINVAL = 22,
  FL_ENOSPC = 28,
};

/// What a transaction wants; a read has FL_ACCESS_WRITE clear. EXEC with WRITE is a data write.
enum fl_access {
  FL_ACCESS_READ = 0,
  FL_ACCESS_WRITE = 1 << 0,
  FL_ACCESS_EXEC = 1 << 1,
  FL_ACCESS_PRIV = 1 << 2,
};

/// Stage-2 rights. MMIO marks a doorbell: it can be written by a transaction, never walked through.
enum fl_prot {
  FL_PROT_READ = 1 << 0,
  FL_PROT_WRITE = 1 << 1,
  FL_PROT_MMIO = 1 << 2,
};

/// Event numbers of the SMMUv3 event queue that this model raises.
enum fl_event_id {
  FL_EVT_F_STREAM_DISABLED = 0x06,
  FL_EVT_C_BAD_SUBSTREAMID = 0x08,
  FL_EVT_F_CD_FETCH = 0x09,
  FL_EVT_C_BAD_CD = 0x0a,
  FL_EVT_F_WALK_EABT = 0x0b,
  FL_EVT_F_TRANSLATION = 0x10,
  FL_EVT_F_ADDR_SIZE = 0x11,
  FL_EVT_F_ACCESS = 0x12,
  FL_EVT_F_PERMISSION = 0x13,
};

/// CLASS field of a translation event: what was being translated when it went wrong.
enum fl_event_class {
  FL_CLASS_CD = 0,
  FL_CLASS_TT = 1,
  FL_CLASS_IN = 2,
};

/// One raw SMMUv3 event record, 32 bytes as four little-endian words in host order.
struct fl_event {
  uint64_t w[4];
};

/// How the model reads host memory (page tables and context descriptors).
///
/// read64   one naturally aligned little-endian word at `host`, read as one access because a guest
///          may be writing it; returns 0, or a negative error which is taken as an external abort
///
/// `host` is a handle made of what the stage-2 maps hold: the handle of byte k of a mapping is the
/// mapping's handle plus k. The model adds to handles and compares nothing else of them.
struct fl_mem {
  int (*read64)(void* ctx, uint64_t host, uint64_t* value);
  void* ctx;
};

FL_END_DECLS
