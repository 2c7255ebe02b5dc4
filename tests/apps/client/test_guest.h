// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <gtest/gtest.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <array>
#include <cstddef>
#include <string>
#include <vector>

#include "apps/client/faultline_client.h"
#include "tests/apps/client/fake_service.h"
#include "tests/support/descriptors.h"

namespace faultline::testing_client {

using test_support::open_descriptors;

/// A guest of two memory parts and two devices.
struct TestGuest {
  TestGuest() {
    guest.name = "g0";
    guest.memory = memory;
    guest.n_memory = 2;
    guest.registers = 0x4000'0000;
    guest.vcpus = vcpus;
    guest.n_vcpus = 2;
    guest.devices = devices;
    guest.n_devices = 2;
    guest.backend_fds = &fd;
    guest.n_backend_fds = 1;
    guest.evtq_eventfd = guest.gerror_eventfd = fd;
    guest.sync_eventfd = guest.doorbell_eventfd = -1;
    guest.arm_eventfd = guest.armed_eventfd = -1;
  }
  ~TestGuest() { ::close(fd); }
  TestGuest(const TestGuest&) = delete;
  TestGuest& operator=(const TestGuest&) = delete;

  int fd = ::eventfd(0, EFD_CLOEXEC);
  int fds[3] = {fd, fd, fd};
  unsigned vcpus[2] = {4, 5};
  faultline_memory memory[2] = {{0x4000'0000, 0x10'0000, 0, fd},
                                {1'000'000'000'000'000 * 4, 4096, 0x2000, fd}};
  faultline_device devices[2] = {{"0000:01:00.0", 8, 264, fds, 3},
                                 {"0000:01:00.1", 9, 265, fds, 3}};
  faultline_guest guest{};
};

struct Connected {
  explicit Connected(const FakeService& service) {
    std::array<char, 200> why{};
    client = faultline_connect(service.path().c_str(), why.data(), why.size());
    EXPECT_NE(client, nullptr) << why.data();
    if (client != nullptr) faultline_set_timeout(client, 20'000);
  }
  ~Connected() { faultline_close(client); }
  Connected(const Connected&) = delete;
  Connected& operator=(const Connected&) = delete;
  faultline_client* client;
};

inline std::vector<std::string> methods(const std::vector<FakeService::Request>& requests) {
  std::vector<std::string> out;
  for (const auto& r : requests) out.push_back(r.body["method"]);
  return out;
}

}  // namespace faultline::testing_client
