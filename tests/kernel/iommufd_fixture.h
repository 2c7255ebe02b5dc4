// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "kernel/iommufd/guest_iommu.h"
#include "tests/kernel/iommufd_fake.h"

namespace faultline::testing {

/// A fake kernel and one guest's IOMMU on it. At the end nothing may be left of either.
struct IommufdFixture : ::testing::Test {
  using Guest = iommufd::GuestIommu<ScriptedSys>;
  using Kind = FakeIommufd::Kind;

  ScriptedSys sys;
  FakeIommufd kernel{sys};
  std::unique_ptr<Guest> guest;
  std::vector<iommufd::GuestRange> memory = {
      {.gpa = Gpa{0x40000000}, .size = 0x100000, .at = &kernel}};

  ~IommufdFixture() override {
    guest.reset();
    EXPECT_EQ(kernel.things.size(), 0U) << "objects left in the kernel";
    EXPECT_EQ(sys.leaks(), 0U);
    EXPECT_EQ(sys.bad_closes(), 0);
  }

  /// Devices vfio0, vfio1… with StreamIDs 0x10, 0x18…
  static iommufd::Parts named(std::size_t devices) {
    iommufd::Parts parts;
    for (std::size_t i = 0; i < devices; ++i) {
      parts.devices.push_back({"/dev/vfio/devices/vfio" + std::to_string(i),
                               StreamId{0x10 + 8 * static_cast<std::uint32_t>(i)}});
    }
    return parts;
  }

  /// Returns the error's line, empty when it went well.
  std::string open(std::size_t devices = 2) { return make(named(devices)); }
  std::string make(iommufd::Parts parts) {
    auto made = Guest::make(sys, std::move(parts), memory);
    if (!made) return made.error().message();
    guest = std::move(*made);
    return "";
  }

  /// As a guest driver writes it: attributes, shareability and all.
  static Stage1Config translate(std::uint64_t cd_table) {
    Stage1Config c;
    c.mode = Stage1Config::Mode::kTranslate;
    c.cd_table = cd_table;
    c.ste[0] = cd_table | 0xb;
    c.ste[1] = 0x0000'1000'8000'0056;  // SHCFG and STRW, too: the kernel takes neither
    return c;
  }
  static Stage1Config mode(Stage1Config::Mode m) {
    Stage1Config c;
    c.mode = m;
    return c;
  }
};

}  // namespace faultline::testing
