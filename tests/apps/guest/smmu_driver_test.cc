// SPDX-License-Identifier: BSD-3-Clause
#include "apps/guest/smmu_driver.h"

#include <gtest/gtest.h>

#include "tests/apps/guest/fake_smmu.h"

namespace faultline::guest {
namespace {

class SmmuDriverTest : public testing::Test {
 protected:
  SmmuDriver make(DriverOptions options = {}) {
    return SmmuDriver(s.memory, s.registers, sink, options);
  }
  FakeSmmu s;
  ObservationQueue sink{64};
  SmmuDriver::Idle idle = [this] { s.step(); };
};

TEST_F(SmmuDriverTest, EnablesInTheOrderOfLinux) {
  s.registers.write32(reg::kCr0Ack, 0xff);  // as if something had been on
  SmmuDriver driver = make();
  ASSERT_TRUE(driver.probe(idle)) << driver.probe(idle).error().message();
  EXPECT_EQ(s.log, (std::vector<std::string>{"CR0=0", "CR0=8", "CR0=12", "IRQ_CTRL=5", "CR0=13"}));
  EXPECT_EQ(s.commands,
            (std::vector<Command>{cfgi_all(), sync_by_cons(), tlbi_nsnh_all(), sync_by_cons()}));
  EXPECT_EQ(s.load(reg::kStrtabBase), driver.streams().base_register());
  EXPECT_EQ(s.load(reg::kEvtqBase) & 31, 10U);
  EXPECT_EQ(s.load(reg::kCmdqBase) & 31, 12U);
}

TEST_F(SmmuDriverTest, BlocksAnSmmuThatItFindsEnabled) {
  s.registers.write32(reg::kCr0, reg::kCr0SmmuEn);
  SmmuDriver driver = make();
  bool updated = false;
  const auto both = [&] {
    if ((s.registers.read32(reg::kGbpa) & reg::kGbpaUpdate) != 0) {
      s.registers.write32(reg::kGbpa, reg::kGbpaAbort);
      updated = true;
    }
    s.step();
  };
  ASSERT_TRUE(driver.probe(both));
  EXPECT_TRUE(updated);
}

TEST_F(SmmuDriverTest, TakesNoMoreThanTheIdRegistersOffer) {
  s.registers.write32(reg::kIdr0, 2U | 2U << 2);  // neither two-level tables nor MSI
  s.registers.write32(reg::kIdr1, 9U | 7U << 16 | 8U << 21);
  SmmuDriver driver = make();
  ASSERT_TRUE(driver.probe(idle));
  EXPECT_EQ(s.load(reg::kCmdqBase) & 31, 8U);
  EXPECT_EQ(s.load(reg::kEvtqBase) & 31, 7U);
  EXPECT_EQ(s.load(reg::kStrtabBaseCfg) & 0xffff'ffff, 9U);
  EXPECT_FALSE(driver.has_msi());
}

TEST_F(SmmuDriverTest, SaysWhichRegisterWasNotAcknowledged) {
  SmmuDriver driver = make({.timeout_ns = 1'000'000});
  s.registers.write32(reg::kCr0Ack, 1);
  const auto r = driver.probe([] {});
  ASSERT_FALSE(r);
  EXPECT_NE(r.error().message().find("CR0 = 0"), std::string::npos);
}

TEST_F(SmmuDriverTest, RefusesAnSmmuWithoutStage1) {
  s.registers.write32(reg::kIdr0, 1U | 2U << 2);
  SmmuDriver driver = make();
  EXPECT_FALSE(driver.probe(idle));
}

TEST_F(SmmuDriverTest, AcknowledgesACommandErrorAndGoesOn) {
  SmmuDriver driver = make();
  ASSERT_TRUE(driver.probe(idle));
  s.illegal_opcode = 0xee;
  ASSERT_TRUE(driver.run({Command{{0xee, 0}}}, idle));
  EXPECT_EQ(s.registers.read32(reg::kGerror), s.registers.read32(reg::kGerrorN));
  EXPECT_EQ(driver.commands().errors_handled(), 1U);
  EXPECT_EQ(driver.unexpected_errors(), 0U);
}

}  // namespace
}  // namespace faultline::guest
