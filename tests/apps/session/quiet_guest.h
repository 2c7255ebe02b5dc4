// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <unistd.h>

#include <cstddef>

#include "apps/guest/memory.h"
#include "apps/guest/observation.h"
#include "apps/guest/registers.h"
#include "apps/guest/smmu_driver.h"
#include "apps/wiring/host_guest.h"

namespace faultline::session::testing_vmm {

/// One guest's driver without a workload: it can be stopped and looked at between two commands.
class QuietGuest {
 public:
  explicit QuietGuest(const HostGuest& host)
      : memory_(HostGuest::kBase, host.memory, host.bytes),
        registers_(static_cast<std::byte*>(host.memory) +
                   (host.registers().value - HostGuest::kBase.value)),
        driver(memory_, registers_, observations_, {}) {}

 private:
  guest::GuestMemory memory_;
  guest::Registers registers_;
  guest::ObservationQueue observations_{64};

 public:
  guest::SmmuDriver driver;
  guest::SmmuDriver::Idle idle = [] { ::usleep(100); };
};

}  // namespace faultline::session::testing_vmm
