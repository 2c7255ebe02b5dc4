// SPDX-License-Identifier: BSD-3-Clause
// What a VMM uses of a Faultline service: a connection over which it attaches its guests.
//
//   faultline_client *c = faultline_connect("/run/faultline/node-0.sock", error, sizeof error);
//   faultline_attach(c, &guest);             // everything that the guest consists of
//   …
//   if (faultline_lost(c)) faultline_reconnect(c);   // the service was restarted: go on
//   faultline_close(c);
//
// Calls wait for the answer, at most the timeout. They return 0, or a negative errno, and
// faultline_error() then says in one line what went wrong: -EREMOTEIO where the service refused,
// and nothing was done. After any other error, a change of a guest (its parts, its budget, pause,
// resume, detach) may have been done all the same. Where that is not known the connection is ended:
// faultline_lost() says so, and faultline_reconnect() finds out what the service has, which is
// what the guest then is. The library keeps duplicates of all
// descriptors that were passed, so that faultline_reconnect() can attach every guest again.
//
// thread   one at a time for each client
#ifndef FAULTLINE_CLIENT_H
#define FAULTLINE_CLIENT_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct faultline_client faultline_client;

// One piece of guest memory: a memfd that is sealed with F_SEAL_SHRINK.
struct faultline_memory {
  uint64_t gpa;
  uint64_t bytes;
  uint64_t offset;  // in the memfd
  int memfd;
};

struct faultline_device {
  const char* name;   // PCI address, "0000:01:00.0"
  uint32_t vsid;      // StreamID that the guest calls it by
  uint32_t host_sid;  // and the host
  const int* fds;     // soft, vfio: container, group, device; iommufd: device
  size_t n_fds;
};

// An MSI to an address that is no memory of the guest (an ITS, say), and the eventfd it signals.
struct faultline_route {
  uint64_t address;
  uint32_t data;
  int eventfd;
};

// How much of a polling core's round a guest may have beside others; each 0: as much as the
// operator gives every guest, which is also the most.
struct faultline_budget {
  uint32_t commands;
  uint32_t records;
  uint32_t submissions;
  uint32_t weight;
};

struct faultline_guest {
  const char* name;
  const struct faultline_memory* memory;
  size_t n_memory;
  uint64_t registers;     // guest-physical address of the 128 KiB register page, inside its memory
  int trapped;            // 0: the page is mapped into the guest; 1: the VMM handles the writes
  const unsigned* vcpus;  // host CPUs that its vCPUs run on
  size_t n_vcpus;
  const struct faultline_device* devices;
  size_t n_devices;
  const int* backend_fds;  // soft: the kernel's socket; iommufd: /dev/iommu; vfio: none
  size_t n_backend_fds;
  int evtq_eventfd;  // each of these six -1: none
  int gerror_eventfd;
  int sync_eventfd;
  int doorbell_eventfd;
  int arm_eventfd;    // both or none, and with a doorbell: doc/session.md, "interrupts"
  int armed_eventfd;  // says what a VMM does that passes them
  const struct faultline_route* routes;
  size_t n_routes;
  struct faultline_budget budget;
};

// Connect and greet.
//
// path     of the service's socket
// error    error_bytes for one line, filled when NULL is returned; may be NULL
faultline_client* faultline_connect(const char* path, char* error, size_t error_bytes);

// Say goodbye, which ends the guests that are still attached, and free everything.
void faultline_close(faultline_client* client);

// One line about the last call that failed; valid until the next call.
const char* faultline_error(const faultline_client* client);

// How long each call waits for its answer. At first 10 s; -1: for ever.
void faultline_set_timeout(faultline_client* client, int ms);

// Have a guest served: all or nothing. What it points to, and its descriptors, stay the caller's.
int faultline_attach(faultline_client* client, const struct faultline_guest* guest);
int faultline_detach(faultline_client* client, const char* name);

// Change what an attached guest consists of, while it is served: all or nothing. What is passed
// stays the caller's. A part is removed as it was added.
int faultline_memory_add(faultline_client* client, const char* name,
                         const struct faultline_memory* part);
int faultline_memory_remove(faultline_client* client, const char* name, uint64_t gpa,
                            uint64_t bytes);
int faultline_device_add(faultline_client* client, const char* name,
                         const struct faultline_device* device);
int faultline_device_remove(faultline_client* client, const char* name, const char* device);
int faultline_set_budget(faultline_client* client, const char* name,
                         const struct faultline_budget* budget);

// Nothing is polled for a paused guest; what comes meanwhile stays where it is.
int faultline_pause(faultline_client* client, const char* name);
int faultline_resume(faultline_client* client, const char* name);

// As after a reset of the machine.
int faultline_reset(faultline_client* client, const char* name);

// Of a paused guest: what another service has to know to go on. state is to be freed with free().
int faultline_get_state(faultline_client* client, const char* name, char** state);
int faultline_set_state(faultline_client* client, const char* name, const char* state);

// What the service says of a guest (state, counters, …), as JSON; to be freed with free().
int faultline_query(faultline_client* client, const char* name, char** json);

// Any other method of doc/session.md without descriptors: `fields` is a JSON object with all but
// method and id, or NULL. result is to be freed with free(); NULL: it does not matter. What such a
// call changes of an attached guest is known to faultline_reconnect(), too.
int faultline_call(faultline_client* client, const char* method, const char* fields, char** result);

// When the slowest polling core was last seen alive: ns of CLOCK_MONOTONIC. A VMM that sees it
// stand for 300 ms pauses its vCPUs until it moves again. cost: one pread(2) after the first call
int faultline_heartbeat(faultline_client* client, uint64_t* ns);

// Whether the connection has ended, and every call but faultline_reconnect() and faultline_close()
// fails. cost: one poll(2)
int faultline_lost(faultline_client* client);

// Connect again and attach every guest again, where it stood, as it was changed since; paused ones
// stay paused. While a
// service has not yet seen the old connection's end it waits, at most the timeout. While there is
// no service yet it fails, and may be called again.
int faultline_reconnect(faultline_client* client);

#ifdef __cplusplus
}
#endif

#endif
