// SPDX-License-Identifier: BSD-3-Clause
#include "kernel/iommufd/guest_iommu.h"

#include <gmock/gmock.h>

#include "tests/kernel/iommufd_fixture.h"

namespace faultline::testing {
namespace {

using ::testing::HasSubstr;
using Mode = Stage1Config::Mode;

TEST_F(IommufdFixture, MakesEveryObjectOnceAndTakesAllAway) {
  ASSERT_EQ(open(2), "");
  EXPECT_EQ(kernel.count(Kind::kIoas), 1U);
  EXPECT_EQ(kernel.count(Kind::kParent), 1U);
  EXPECT_EQ(kernel.count(Kind::kViommu), 1U);
  EXPECT_EQ(kernel.count(Kind::kVdevice), 2U);
  EXPECT_EQ(kernel.count(Kind::kVeventq), 1U);
  EXPECT_EQ(kernel.count(Kind::kNested), 2U) << "bypass and abort";
  EXPECT_EQ(kernel.count(Kind::kFaultQueue), 0U) << "QEMU's SMMU cannot stall";
  EXPECT_EQ(kernel.mapped.size(), 1U);
  EXPECT_EQ(kernel.devices[1].vsid, 0x18U);
  EXPECT_EQ(kernel.table_of(0), nullptr) << "blocked until its first stage 1";
  EXPECT_TRUE(sys.is_open(guest->events_fd()));
  EXPECT_EQ(guest->find(0x18), 1);
  EXPECT_EQ(guest->find(0x19), -1);
}

TEST_F(IommufdFixture, AFaultQueueIsMadeWhereTheHardwareCanStall) {
  kernel.idr[0] &= ~(3U << 24);
  ASSERT_EQ(open(1), "");
  EXPECT_EQ(kernel.count(Kind::kFaultQueue), 1U);
  EXPECT_TRUE(sys.is_open(guest->faults_fd()));
  ASSERT_EQ(guest->set_stage1(0, translate(0x41000)).error, 0);
  EXPECT_TRUE(kernel.table_of(0)->faults);
}

TEST_F(IommufdFixture, TheOfferIsWhatTheHardwareSays) {
  ASSERT_EQ(open(1), "");
  const iommufd::Offer& o = guest->offer();
  EXPECT_TRUE(o.possible);
  EXPECT_EQ(o.sid_bits, 16U);
  EXPECT_EQ(o.ssid_bits, 0U);
  EXPECT_EQ(o.oas_bits, 44U);
  EXPECT_TRUE(o.granule_4k && o.granule_16k && o.granule_64k);
  EXPECT_TRUE(o.ranges);
  EXPECT_FALSE(o.ats);
  EXPECT_FALSE(o.stalls);
  EXPECT_TRUE(o.coherent);
}

TEST_F(IommufdFixture, VtdAndOtherIommusAreRecognisedAndRefused) {
  kernel.hw_type = uapi::kIommuHwInfoTypeIntelVtd;
  EXPECT_THAT(open(1), HasSubstr("Intel VT-d cap=00d2008c222f0686"));
  kernel.hw_type = uapi::kIommuHwInfoTypeAmd;
  EXPECT_THAT(open(1), HasSubstr("of type 4"));
  kernel.hw_type = uapi::kIommuHwInfoTypeNone;
  EXPECT_THAT(open(1), HasSubstr("does not tell"));
}

TEST_F(IommufdFixture, StageOneIsReplacedInOneStep) {
  ASSERT_EQ(open(1), "");
  ASSERT_EQ(guest->set_stage1(0, mode(Mode::kBypass)).error, 0);
  const std::uint32_t bypass = kernel.attached.back();
  const SubmitResult first = guest->set_stage1(0, translate(0x41000));
  ASSERT_EQ(first.error, 0);
  EXPECT_EQ(first.calls, 2U) << "made, attached";
  const std::uint32_t one = kernel.attached.back();
  const SubmitResult second = guest->set_stage1(0, translate(0x42000));
  ASSERT_EQ(second.error, 0);
  EXPECT_EQ(second.calls, 3U) << "made, attached, the old one destroyed";
  EXPECT_EQ(kernel.things.count(one), 0U);
  EXPECT_EQ(kernel.things.count(bypass), 1U) << "shared: stays";
  EXPECT_EQ(kernel.detaches, 0U) << "never without a table in between";
  EXPECT_EQ(kernel.table_of(0)->ste.ste[0], 0x4200bU);
  EXPECT_EQ(kernel.table_of(0)->ste.ste[1], 0x54U) << "attributes stay, the rest is not passed on";
  ASSERT_EQ(guest->set_stage1(0, mode(Mode::kAbort)).error, 0);
  EXPECT_EQ(kernel.count(Kind::kNested), 2U);
  EXPECT_EQ(kernel.table_of(0)->ste.ste[0], 1U);
}

TEST_F(IommufdFixture, AfterARefusalEverythingIsAsBefore) {
  ASSERT_EQ(open(1), "");
  ASSERT_EQ(guest->set_stage1(0, translate(0x41000)).error, 0);
  const std::uint32_t before = kernel.attached.back();
  const std::size_t objects = kernel.things.size();
  sys.inject(Call::kIoctl, 1, -EBUSY, uapi::kVfioDeviceAttachIommufdPt);
  EXPECT_EQ(guest->set_stage1(0, translate(0x42000)).error, EBUSY);
  EXPECT_EQ(kernel.devices[0].attached, before);
  EXPECT_EQ(kernel.things.size(), objects) << "the new table has gone";
  ASSERT_TRUE(guest->stage1_refusal());
  EXPECT_THAT(guest->stage1_refusal()->message(), HasSubstr("VFIO_DEVICE_ATTACH_IOMMUFD_PT"));
  sys.inject(Call::kIoctl, 1, -EIO, uapi::kIommuHwptAlloc);
  EXPECT_EQ(guest->set_stage1(0, translate(0x42000)).error, EIO);
  EXPECT_EQ(kernel.devices[0].attached, before);
  EXPECT_EQ(guest->set_stage1(7, translate(0x42000)).error, ENODEV);
}

TEST_F(IommufdFixture, ADeviceCanBeBlockedWithoutAnAllocation) {
  ASSERT_EQ(open(1), "");
  ASSERT_EQ(guest->set_stage1(0, translate(0x41000)).error, 0);
  sys.inject(Call::kIoctl, 1, -ENOMEM, uapi::kIommuHwptAlloc);
  EXPECT_EQ(guest->set_stage1(0, mode(Mode::kAbort)).error, 0);
  sys.forget_injected();
}

/// Every system call of the backend fails once: opening, working, closing.
TEST_F(IommufdFixture, TheNthFailingCallIsOneClearErrorAndLeavesNothing) {
  kernel.idr[0] &= ~(3U << 24);  // with a fault queue
  memory.push_back({.gpa = Gpa{0x80000000}, .size = 0x1000, .memfd = 3});
  for (const Call call : {Call::kOpen, Call::kIoctl}) {
    int n = 1;
    for (;; ++n) {
      SCOPED_TRACE("call " + std::to_string(n) + (call == Call::kOpen ? " of open" : " of ioctl"));
      sys.inject(call, n, -EPROTO);
      const int destroys = sys.count(uapi::kIommuDestroy);
      const int detaches = sys.count(uapi::kVfioDeviceDetachIommufdPt);
      std::string error = open(2);
      const bool opened = error.empty();
      if (opened) {
        for (std::size_t i = 0; i < 2; ++i) {
          for (const auto& c : {translate(0x41000), translate(0x42000), mode(Mode::kAbort)}) {
            if (guest->set_stage1(i, c).error != 0) error = guest->stage1_refusal()->message();
          }
        }
        if (auto r = guest->ranges(); !r) error = r.error().message();
        if (auto r = guest->unmap(Gpa{0x80000000}, 0x1000); !r) error = r.error().message();
      }
      const bool before = sys.all_injected();
      guest.reset();
      EXPECT_EQ(sys.leaks(), 0U);
      EXPECT_EQ(sys.bad_closes(), 0);
      if (!sys.all_injected()) {
        EXPECT_EQ(error, "");
        break;
      }
      if (before && error.empty()) {
        // Only a table that was replaced: it goes with the descriptor.
        EXPECT_GT(sys.count(uapi::kIommuDestroy), destroys);
      }
      if (!error.empty()) {
        EXPECT_EQ(error.find('\n'), std::string::npos) << error;
        EXPECT_THAT(error, HasSubstr(" refused"));
        EXPECT_THAT(error, HasSubstr("(errno 71)"));
        EXPECT_EQ(kernel.things.size(), 0U) << error;
      } else {
        // The failing call was one that takes away: the kernel does it with the last descriptor.
        EXPECT_GT(sys.count(uapi::kIommuDestroy) + sys.count(uapi::kVfioDeviceDetachIommufdPt),
                  destroys + detaches);
        kernel.things.clear();
        kernel.mapped.clear();
      }
    }
    EXPECT_GT(n, call == Call::kOpen ? 3 : 30) << "the loop must reach every call";
    sys.forget_injected();
  }
}

TEST_F(IommufdFixture, AVmmsPartsAreUsedAndLeftAlone) {
  auto opened = iommufd::Iommufd<ScriptedSys>::open(sys);
  ASSERT_TRUE(opened);
  auto device = iommufd::Device<ScriptedSys>::open(sys, opened->fd(), "/dev/vfio/devices/vfio0");
  ASSERT_TRUE(device);
  auto ioas = opened->alloc_ioas("vmm");
  auto parent = opened->alloc_nest_parent(device->id(), ioas->id(), "vmm");
  ASSERT_TRUE(parent);
  iommufd::Parts parts;
  // The same descriptor twice stands for a duplicate: the backend's copy is closed by it.
  parts.iommufd = opened->fd();
  parts.ioas = ioas->id();
  parts.parent = parent->id();
  parts.devices.push_back({"vm0", StreamId{0x20}, device->fd(), device->id()});
  ASSERT_EQ(make(parts), "");
  EXPECT_EQ(kernel.mapped.size(), 0U) << "guest memory is the VMM's business";
  EXPECT_EQ(kernel.devices[0].vsid, 0x20U);
  ASSERT_EQ(guest->set_stage1(0, translate(0x41000)).error, 0);
  guest->keep();
  const std::size_t objects = kernel.things.size();
  const iommufd::Parts left = guest->parts();
  EXPECT_EQ(left.devices.size(), 1U);
  // Descriptors are all that goes.
  sys.forget_counts();
  guest.reset();
  EXPECT_EQ(sys.count(uapi::kIommuDestroy), 0);
  EXPECT_EQ(kernel.things.size(), objects);
  kernel.things.clear();
  ioas->release();
  parent->release();
  device = iommufd::Device<ScriptedSys>::adopt(sys, -1, 0, "");
  opened = iommufd::Iommufd<ScriptedSys>::adopt(sys, -1);
  sys.forget_bad_closes();
}

TEST_F(IommufdFixture, AllPartsOfAnEarlierLifeAreTakenOverWithoutACallThatChangesAnything) {
  ASSERT_EQ(open(2), "");
  ASSERT_EQ(guest->set_stage1(0, translate(0x41000)).error, 0);
  iommufd::Parts parts = guest->parts();
  parts.owned = true;
  // What a supervisor's duplicates are: other numbers for the same files.
  const std::size_t objects = kernel.things.size();
  sys.forget_counts();
  Guest* const first = guest.release();  // killed: its destructor never runs
  ASSERT_EQ(make(parts), "");
  EXPECT_EQ(kernel.things.size(), objects);
  EXPECT_EQ(sys.count(uapi::kIommuHwptAlloc), 0);
  EXPECT_EQ(sys.count(uapi::kVfioDeviceBindIommufd), 0);
  EXPECT_EQ(sys.count(uapi::kIommuDestroy), 0);
  ASSERT_EQ(guest->set_stage1(0, translate(0x42000)).error, 0);
  EXPECT_EQ(kernel.things.size(), objects) << "the killed engine's table was replaced and went";
  guest.reset();
  first->keep();
  delete first;  // its numbers were those of the second
  sys.forget_bad_closes();
}

TEST_F(IommufdFixture, GuestMemoryStaysOutOfTheMsiWindow) {
  memory = {{.gpa = Gpa{0x8000000}, .size = 0x1000, .at = &kernel}};
  EXPECT_THAT(open(1), HasSubstr("MSI doorbells"));
  memory = {{.gpa = Gpa{0x8100000}, .size = 0x1000, .at = &kernel}};
  EXPECT_EQ(open(1), "");
}

TEST_F(IommufdFixture, MemoryComesAndGoesAndMoreRangesThanExpectedAreRead) {
  kernel.iova_ranges = 40;
  ASSERT_EQ(open(1), "");
  ASSERT_TRUE(guest->map({.gpa = Gpa{0x90000000}, .size = 0x2000, .memfd = 5}));
  const auto twice = guest->map({.gpa = Gpa{0x90000000}, .size = 0x1000, .at = &kernel});
  ASSERT_FALSE(twice);
  EXPECT_THAT(twice.error().message(), HasSubstr("IOMMU_IOAS_MAP refused (something is mapped"));
  EXPECT_EQ(*guest->unmap(Gpa{0x90000000}, 0x2000), 0x2000U);
  EXPECT_FALSE(guest->unmap(Gpa{0x90000000}, 0x2000));
  const auto ranges = guest->ranges();
  ASSERT_TRUE(ranges);
  EXPECT_EQ(ranges->size(), 40U);
}

TEST_F(IommufdFixture, WhatTheHostLacksIsSaid) {
  kernel.coherent = false;
  EXPECT_THAT(open(1),
              HasSubstr("vfio0: IOMMU_VIOMMU_ALLOC refused (the SMMU can be shared neither "
                        "coherently (firmware: CANWBS in the IORT) nor by FEAT_S2FWB"));
  kernel.coherent = true;
  kernel.single_stream = false;
  EXPECT_THAT(open(1), HasSubstr("IOMMU_VDEVICE_ALLOC refused (the device has more than one"));
  kernel.single_stream = true;
  kernel.idr[0] &= ~1U;
  EXPECT_THAT(open(1), HasSubstr("guests are served on an SMMUv3 with both stages"));
  kernel.idr[0] |= 1U;
  kernel.devices_there = 0;
  EXPECT_THAT(open(1), HasSubstr("/dev/vfio/devices/vfio0: open of the device file refused (bind "
                                 "the device to vfio-pci"));
  EXPECT_THAT(make({}), HasSubstr("needs a device"));
}

}  // namespace
}  // namespace faultline::testing
