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

/// A copy whose fds are NULL, or some of them -1, where `bad` is set.
static struct faultline_device keep_device(const struct faultline_device* from, int* bad) {
  struct faultline_device to = *from;
  to.name = keep_text(from->name, bad);
  to.fds = keep_fds(from->fds, from->n_fds, bad);
  if (to.fds == NULL) to.n_fds = 0;
  return to;
}

static void drop_device(const struct faultline_device* device) {
  for (size_t k = 0; k < device->n_fds; ++k) close_fd(device->fds[k]);
  free((void*)device->fds);
  free((char*)device->name);
}

static void keep_devices(struct faultline_guest* to, const struct faultline_guest* from, int* bad) {
  struct faultline_device* devices =
      keep_items(from->devices, from->n_devices, sizeof *devices, bad);
  to->devices = devices;
  to->n_devices = devices != NULL ? from->n_devices : 0;
  for (size_t i = 0; i < to->n_devices; ++i) devices[i] = keep_device(&from->devices[i], bad);
}

static void keep_memory(struct faultline_guest* to, const struct faultline_guest* from, int* bad) {
  struct faultline_memory* memory = keep_items(from->memory, from->n_memory, sizeof *memory, bad);
  to->memory = memory;
  to->n_memory = memory != NULL ? from->n_memory : 0;
  for (size_t i = 0; i < to->n_memory; ++i) memory[i].memfd = keep_fd(memory[i].memfd, bad);
}

static void keep_routes(struct faultline_guest* to, const struct faultline_guest* from, int* bad) {
  struct faultline_route* routes = keep_items(from->routes, from->n_routes, sizeof *routes, bad);
  to->routes = routes;
  to->n_routes = routes != NULL ? from->n_routes : 0;
  for (size_t i = 0; i < to->n_routes; ++i) routes[i].eventfd = keep_fd(routes[i].eventfd, bad);
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
  to->arm_eventfd = keep_fd(guest->arm_eventfd, &bad);
  to->armed_eventfd = keep_fd(guest->armed_eventfd, &bad);
  keep_routes(to, guest, &bad);
  to->budget = guest->budget;
  if (bad == 0) return kept;
  fl_let_go(kept);
  errno = bad;
  return NULL;
}

void fl_let_go(struct fl_kept_guest* kept) {
  if (kept == NULL) return;
  struct faultline_guest* g = &kept->guest;
  for (size_t i = 0; i < g->n_memory; ++i) close_fd(g->memory[i].memfd);
  for (size_t i = 0; i < g->n_devices; ++i) drop_device(&g->devices[i]);
  for (size_t i = 0; i < g->n_routes; ++i) close_fd(g->routes[i].eventfd);
  for (size_t i = 0; i < g->n_backend_fds; ++i) close_fd(g->backend_fds[i]);
  close_fd(g->evtq_eventfd);
  close_fd(g->gerror_eventfd);
  close_fd(g->sync_eventfd);
  close_fd(g->doorbell_eventfd);
  close_fd(g->arm_eventfd);
  close_fd(g->armed_eventfd);
  free((void*)g->memory);
  free((void*)g->devices);
  free((void*)g->routes);
  free((void*)g->vcpus);
  free((void*)g->backend_fds);
  free((char*)g->name);
  close_fd(kept->journal);
  free(kept->token);
  free(kept);
}

int fl_keep_memory(struct fl_kept_guest* kept, const struct faultline_memory* part) {
  struct faultline_guest* g = &kept->guest;
  int bad = 0;
  struct faultline_memory* all = realloc((void*)g->memory, (g->n_memory + 1) * sizeof *all);
  if (all == NULL) return -ENOMEM;
  g->memory = all;
  all[g->n_memory] = *part;
  all[g->n_memory].memfd = keep_fd(part->memfd, &bad);
  if (bad != 0) return -bad;
  ++g->n_memory;
  return 0;
}

int fl_keep_device(struct fl_kept_guest* kept, const struct faultline_device* device) {
  struct faultline_guest* g = &kept->guest;
  int bad = 0;
  struct faultline_device* all = realloc((void*)g->devices, (g->n_devices + 1) * sizeof *all);
  if (all == NULL) return -ENOMEM;
  g->devices = all;
  all[g->n_devices] = keep_device(device, &bad);
  if (bad != 0) {
    drop_device(&all[g->n_devices]);
    return -bad;
  }
  ++g->n_devices;
  return 0;
}

static void drop_memory_at(struct faultline_guest* g, size_t i) {
  struct faultline_memory* all = (struct faultline_memory*)g->memory;
  close_fd(all[i].memfd);
  --g->n_memory;
  memmove(&all[i], &all[i + 1], (g->n_memory - i) * sizeof *all);
}

static void drop_device_at(struct faultline_guest* g, size_t i) {
  struct faultline_device* all = (struct faultline_device*)g->devices;
  drop_device(&all[i]);
  --g->n_devices;
  memmove(&all[i], &all[i + 1], (g->n_devices - i) * sizeof *all);
}

void fl_drop_memory(struct fl_kept_guest* kept, uint64_t gpa, uint64_t bytes) {
  struct faultline_guest* g = &kept->guest;
  for (size_t i = 0; i < g->n_memory; ++i) {
    if (g->memory[i].gpa != gpa || g->memory[i].bytes != bytes) continue;
    drop_memory_at(g, i);
    return;
  }
}

void fl_drop_device(struct fl_kept_guest* kept, const char* device) {
  struct faultline_guest* g = &kept->guest;
  for (size_t i = 0; i < g->n_devices; ++i) {
    if (strcmp(g->devices[i].name, device) != 0) continue;
    drop_device_at(g, i);
    return;
  }
}

void fl_drop_last_memory(struct fl_kept_guest* kept) {
  drop_memory_at(&kept->guest, kept->guest.n_memory - 1);
}

void fl_drop_last_device(struct fl_kept_guest* kept) {
  drop_device_at(&kept->guest, kept->guest.n_devices - 1);
}

void fl_keep_journal(struct fl_kept_guest* kept, int journal) {
  if (journal < 0) return;
  close_fd(kept->journal);
  kept->journal = journal;
}
