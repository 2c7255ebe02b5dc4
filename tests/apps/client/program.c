// SPDX-License-Identifier: BSD-3-Clause
// What a VMM author writes first: this has to compile and link as C, with nothing but what is
// installed.
#include <faultline_client.h>
#include <stdio.h>
#include <string.h>

/// What a VMM that has a connection does in its life; nobody listens here.
static int live(faultline_client* client) {
  const int fds[3] = {3, 4, 5};
  const struct faultline_memory memory = {.gpa = 0x40000000, .bytes = 0x4000000, .memfd = 6};
  const struct faultline_device device = {
      .name = "0000:01:00.0", .vsid = 8, .fds = fds, .n_fds = 3};
  const struct faultline_route route = {.address = 0x8080040, .data = 8, .eventfd = 7};
  const struct faultline_budget budget = {.weight = 2};
  const struct faultline_guest guest = {.name = "g0",
                                        .memory = &memory,
                                        .n_memory = 1,
                                        .registers = 0x40000000,
                                        .devices = &device,
                                        .n_devices = 1,
                                        .evtq_eventfd = 8,
                                        .gerror_eventfd = 9,
                                        .sync_eventfd = -1,
                                        .doorbell_eventfd = -1,
                                        .arm_eventfd = -1,
                                        .armed_eventfd = -1,
                                        .routes = &route,
                                        .n_routes = 1,
                                        .budget = budget};
  int rc = faultline_attach(client, &guest);
  if (rc == 0) rc = faultline_memory_add(client, "g0", &memory);
  if (rc == 0) rc = faultline_device_add(client, "g0", &device);
  if (rc == 0) rc = faultline_set_budget(client, "g0", &budget);
  if (rc == 0) rc = faultline_device_remove(client, "g0", device.name);
  if (rc == 0) rc = faultline_memory_remove(client, "g0", memory.gpa, memory.bytes);
  return rc;
}

int main(int argc, char** argv) {
  char error[160] = "";
  faultline_client* client = faultline_connect(argc > 1 ? argv[1] : "/", error, sizeof error);
  if (client != NULL) {
    const int rc = live(client);
    faultline_close(client);
    return rc == 0 ? 1 : 3;
  }
  puts(error);
  return strlen(error) > 0 ? 0 : 2;
}
