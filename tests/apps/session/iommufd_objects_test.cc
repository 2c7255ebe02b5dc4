// SPDX-License-Identifier: BSD-3-Clause
// A guest on iommufd through a kill of its service: its objects stay in /dev/iommu, the next life
// goes on with them. The kernel is the fake of tests/kernel.
#include "apps/session/iommufd_objects.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "apps/session/iommufd_guest.h"
#include "tests/kernel/iommufd_fake.h"

namespace faultline::session {
namespace {

using faultline::testing::FakeIommufd;
using faultline::testing::ScriptedSys;
using ::testing::HasSubstr;
using Kind = FakeIommufd::Kind;
using KernelGuest = IommufdGuest<ScriptedSys>;

constexpr std::size_t kDevices = 2;

class IommufdObjects : public ::testing::Test {
 protected:
  IommufdObjects() {
    sys.on_mmap = [](int, std::size_t, int, std::uint64_t) {
      return reinterpret_cast<std::intptr_t>(ram().data());
    };
    iommufd = sys.open("/dev/iommu", 0);
    for (std::size_t i = 0; i < kDevices; ++i) {
      files.push_back(sys.open(("/dev/vfio/devices/vfio" + std::to_string(i)).c_str(), 0));
    }
  }
  static std::vector<unsigned char>& ram() {
    static std::vector<unsigned char> memory(0x200000);
    return memory;
  }

  [[nodiscard]] GuestRequest request() const {
    GuestRequest r;
    r.name = "g";
    r.memory.push_back({Gpa{0x40000000}, ram().size(), 0, 9});
    r.registers = Gpa{0x40000000};
    r.backend_fds = {iommufd};
    for (std::size_t i = 0; i < kDevices; ++i) {
      r.devices.push_back({"0000:01:00." + std::to_string(i),
                           StreamId{static_cast<std::uint32_t>(8 + i)},
                           0,
                           {files[i]}});
    }
    return r;
  }
  /// A life that ends by SIGKILL: nothing of it is destroyed, and it is not a leak.
  KeptObjects life_that_is_killed() {
    GuestRequest r = request();
    auto opened = KernelGuest::open(sys, r);
    EXPECT_TRUE(opened) << opened.error().message();
    killed().push_back(std::make_unique<KernelGuest>(std::move(*opened)).release());
    EXPECT_EQ(killed().back()->sink().set_stage1(1, bypass()).error, 0);
    return killed().back()->objects();
  }
  static std::vector<KernelGuest*>& killed() {
    static auto* const all = new std::vector<KernelGuest*>;  // reachable to the very end
    return *all;
  }
  static Stage1Config bypass() {
    Stage1Config c;
    c.mode = Stage1Config::Mode::kBypass;
    return c;
  }
  std::string refusal(const KeptObjects& kept) {
    GuestRequest r = request();
    r.objects = kept.record;
    r.object_fds = kept.fds;
    auto opened = KernelGuest::open(sys, r);
    return opened ? "" : opened.error().message();
  }

  ScriptedSys sys;
  FakeIommufd kernel{sys};
  int iommufd = -1;
  std::vector<int> files;
};

TEST_F(IommufdObjects, TheNextLifeGoesOnWithThem) {
  kernel.idr[0] &= ~(3U << 24);  // this one can stall: a fault queue, too
  const KeptObjects kept = life_that_is_killed();
  ASSERT_EQ(kept.fds.size(), 2U);
  const auto before = kernel.things.size();
  const auto attached = kernel.devices[1].attached;
  ASSERT_NE(attached, 0U);
  {
    GuestRequest r = request();
    r.objects = kept.record;
    r.object_fds = kept.fds;
    auto guest = KernelGuest::open(sys, r);
    ASSERT_TRUE(guest) << guest.error().message();
    EXPECT_TRUE(r.object_fds.empty()) << "they are the guest's now";
    EXPECT_EQ(kernel.things.size(), before) << "nothing is made a second time";
    EXPECT_EQ(kernel.devices[1].attached, attached) << "no moment without its table";
    EXPECT_EQ(kernel.devices[0].attached, 0U);
    EXPECT_EQ(guest->sink().set_stage1(0, bypass()).error, 0);
    EXPECT_EQ(kernel.devices[0].attached, attached) << "the same bypass table";
    EXPECT_EQ(guest->objects().record, kept.record);
    EXPECT_EQ(guest->objects().fds, kept.fds);
  }
  EXPECT_TRUE(kernel.things.empty()) << "a guest that is let go takes all of it along";
}

TEST_F(IommufdObjects, StayWhenAServiceIsDrained) {
  GuestRequest r = request();
  std::size_t made = 0;
  {
    auto guest = KernelGuest::open(sys, r);
    ASSERT_TRUE(guest) << guest.error().message();
    EXPECT_EQ(guest->objects().fds.size(), 1U) << "it cannot stall: events only";
    made = kernel.things.size();
    guest->keep();
  }
  EXPECT_EQ(kernel.things.size(), made);
}

TEST_F(IommufdObjects, ARecordThatIsNotTheirsIsOneLineAndClosesWhatItWasGiven) {
  KeptObjects kept;
  {
    GuestRequest r = request();
    auto guest = KernelGuest::open(sys, r);
    ASSERT_TRUE(guest);
    kept = guest->objects();
  }
  const nlohmann::json good = nlohmann::json::parse(kept.record);
  const auto changed = [&](const char* at, const nlohmann::json& to) {
    nlohmann::json j = good;
    j[nlohmann::json::json_pointer(at)] = to;
    return j.dump();
  };
  for (const auto& [record, says] : std::vector<std::pair<std::string, std::string>>{
           {"null", "not a record"},
           {"[1]", "not a record"},
           {"{\"iommufd_objects\":1", "not a record"},
           {changed("/iommufd_objects", 2), "another version"},
           {changed("/viommu", 0), "an id is missing"},
           {changed("/ioas", -1), "an id is missing"},
           {changed("/abort", 1ULL << 32U), "an id is missing"},
           {changed("/devices/1/id", "7"), "an id is missing"},
           {changed("/devices/1/name", "0000:02:00.0"), "other devices"},
           {changed("/devices", nlohmann::json::array()), "other devices"},
           {changed("/fault_queue", 9), "a file of theirs is missing"}}) {
    iommufd::Parts parts;
    for (const DeviceRequest& d : request().devices) parts.devices.push_back({d.name, d.vsid});
    const auto taken = take_objects(record, kept.fds, parts);
    ASSERT_FALSE(taken) << record;
    EXPECT_EQ(taken.error().code, EINVAL);
    EXPECT_THAT(taken.error().message(), HasSubstr(says)) << record;
    EXPECT_FALSE(parts.owned);
    EXPECT_EQ(parts.viommu, 0U);
  }
  EXPECT_THAT(refusal({"{}", kept.fds}), HasSubstr("its objects in /dev/iommu"));
  EXPECT_FALSE(sys.is_open(iommufd));
  EXPECT_FALSE(sys.is_open(files[0]));
}

}  // namespace
}  // namespace faultline::session
