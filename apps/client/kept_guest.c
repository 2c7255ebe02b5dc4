// SPDX-License-Identifier: BSD-3-Clause
#define _GNU_SOURCE
#include "apps/client/kept_guest.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/// A duplicate; -1 stays -1. `bad` is set when there is none.
static int keep_fd(int fd, int* bad) {
  if (fd < 0) return -1;
  const int copy = fcntl(fd, F_DUPFD_CLOEXEC, 3);
  if (copy < 0) *bad = errno;
  return copy;
}

static void close_fd(int fd) {
  if (fd >= 0) close(fd);
}

/// A copy of n items; at least one byte, so that NULL is a failure.
static void* keep_items(const void* items, size_t n, size_t size, int* bad) {
  void* copy = calloc(n > 0 ? n : 1, size);
  if (copy == NULL) {
    *bad = ENOMEM;
  } else if (n > 0) {
    memcpy(copy, items, n * size);
  }
  return copy;
}

static char* keep_text(const char* text, int* bad) {
  char* copy = strdup(text != NULL ? text : "");
  if (copy == NULL) *bad = ENOMEM;
  return copy;
}

/// Duplicates of n descriptors. What could not be made is -1.
static int* keep_fds(const int* fds, size_t n, int* bad) {
  int* copy = keep_items(fds, n, sizeof *fds, bad);
  for (size_t i = 0; copy != NULL && i < n; ++i) copy[i] = keep_fd(fds[i], bad);
  return copy;
}

static void keep_devices(struct faultline_guest* to, const struct faultline_guest* from, int* bad) {
  struct faultline_device* devices =
      keep_items(from->devices, from->n_devices, sizeof *devices, bad);
  to->devices = devices;
  to->n_devices = devices != NULL ? from->n_devices : 0;
  for (size_t i = 0; i < to->n_devices; ++i) {
    devices[i].name = keep_text(from->devices[i].name, bad);
    devices[i].fds = keep_fds(from->devices[i].fds, from->devices[i].n_fds, bad);
    if (devices[i].fds == NULL) devices[i].n_fds = 0;
  }
}

static void keep_memory(struct faultline_guest* to, const struct faultline_guest* from, int* bad) {
  struct faultline_memory* memory = keep_items(from->memory, from->n_memory, sizeof *memory, bad);
  to->memory = memory;
  to->n_memory = memory != NULL ? from->n_memory : 0;
  for (size_t i = 0; i < to->n_memory; ++i) memory[i].memfd = keep_fd(memory[i].memfd, bad);
}

struct fl_kept_guest* fl_keep(const struct faultline_guest* guest) {
  struct fl_kept_guest* kept = calloc(1, sizeof *kept);
  if (kept == NULL) return NULL;
  int bad = 0;
  kept->journal = -1;
  struct faultline_guest* to = &kept->guest;
  to->name = keep_text(guest->name, &bad);
  to->registers = guest->registers;
  to->trapped = guest->trapped;
  keep_memory(to, guest, &bad);
  to->vcpus = keep_items(guest->vcpus, guest->n_vcpus, sizeof *guest->vcpus, &bad);
  to->n_vcpus = to->vcpus != NULL ? guest->n_vcpus : 0;
  keep_devices(to, guest, &bad);
  to->backend_fds = keep_fds(guest->backend_fds, guest->n_backend_fds, &bad);
  to->n_backend_fds = to->backend_fds != NULL ? guest->n_backend_fds : 0;
  to->evtq_eventfd = keep_fd(guest->evtq_eventfd, &bad);
  to->gerror_eventfd = keep_fd(guest->gerror_eventfd, &bad);
  to->sync_eventfd = keep_fd(guest->sync_eventfd, &bad);
  to->doorbell_eventfd = keep_fd(guest->doorbell_eventfd, &bad);
  if (bad == 0) return kept;
  fl_let_go(kept);
  errno = bad;
  return NULL;
}

void fl_let_go(struct fl_kept_guest* kept) {
  if (kept == NULL) return;
  struct faultline_guest* g = &kept->guest;
  for (size_t i = 0; i < g->n_memory; ++i) close_fd(g->memory[i].memfd);
  for (size_t i = 0; i < g->n_devices; ++i) {
    for (size_t k = 0; k < g->devices[i].n_fds; ++k) close_fd(g->devices[i].fds[k]);
    free((void*)g->devices[i].fds);
    free((char*)g->devices[i].name);
  }
  for (size_t i = 0; i < g->n_backend_fds; ++i) close_fd(g->backend_fds[i]);
  close_fd(g->evtq_eventfd);
  close_fd(g->gerror_eventfd);
  close_fd(g->sync_eventfd);
  close_fd(g->doorbell_eventfd);
  free((void*)g->memory);
  free((void*)g->devices);
  free((void*)g->vcpus);
  free((void*)g->backend_fds);
  free((char*)g->name);
  close_fd(kept->journal);
  free(kept->token);
  free(kept);
}
