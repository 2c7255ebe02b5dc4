// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <gtest/gtest.h>

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "kernel/vfio/container.h"
#include "kernel/vfio/device.h"
#include "kernel/vfio/fault_regions.h"
#include "tests/kernel/vfio_fake.h"

namespace faultline::testing {

/// A fake kernel with one container and one device, opened step by step.
struct VfioFixture : ::testing::Test {
  using Container = vfio::Container<ScriptedSys>;
  using Device = vfio::Device<ScriptedSys>;
  using Regions = vfio::FaultRegions<ScriptedSys>;

  ScriptedSys sys;
  FakeVfio kernel{sys};
  std::optional<Container> container;
  std::vector<Device> devices;
  std::optional<Regions> regions;

  ~VfioFixture() override {
    regions.reset();
    devices.clear();
    container.reset();
    EXPECT_EQ(sys.leaks(), 0U);
    EXPECT_EQ(sys.bad_closes(), 0);
  }

  /// Each returns the error's line, empty when it went well.
  std::string open_container() {
    auto opened = Container::open(sys);
    if (!opened) return opened.error().message();
    container.emplace(std::move(*opened));
    if (auto ok = container->attach_group("/dev/vfio/7"); !ok) return ok.error().message();
    if (auto ok = container->set_nesting(); !ok) return ok.error().message();
    return "";
  }
  std::string open_device() {
    if (auto error = open_container(); !error.empty()) return error;
    auto opened = Device::open(sys, *container, "0000:01:00.0");
    if (!opened) return opened.error().message();
    devices.push_back(std::move(*opened));
    return "";
  }
  std::string open_regions(vfio::AbiChoice choice = vfio::AbiChoice::kAuto,
                           const vfio::FaultOptions& options = {}) {
    if (auto error = open_device(); !error.empty()) return error;
    return reopen_regions({}, choice, options);
  }
  /// Only the fault regions, as a restarted engine does.
  std::string reopen_regions(const std::vector<SourcePosition>& positions = {},
                             vfio::AbiChoice choice = vfio::AbiChoice::kAuto,
                             const vfio::FaultOptions& options = {}) {
    regions.reset();
    sys.forget_injected();
    auto opened = Regions::open(sys, devices, choice, options, positions);
    if (!opened) return opened.error().message();
    regions.emplace(std::move(*opened));
    return "";
  }

  std::vector<FaultRecord> poll(std::size_t most = 32) {
    std::vector<FaultRecord> out(most);
    out.resize(regions->poll(0, out));
    return out;
  }
};

}  // namespace faultline::testing
