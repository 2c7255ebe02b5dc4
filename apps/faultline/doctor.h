// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <string>
#include <vector>

#include "apps/faultline/host.h"

namespace faultline {

/// One thing that was looked at.
struct Finding {
  enum class State : std::uint8_t {
    kGood,
    kMissing,  ///< a backend cannot run without it
    kWorse,    ///< everything runs without it, slower or less safely
  };
  State state = State::kGood;
  std::string about;
  std::string what;  ///< as it is
  std::string fix;   ///< exactly what to do; empty where nothing is to be done
};

struct BackendFinding {
  std::string name;
  bool usable = false;
  std::string why;
};

struct Diagnosis {
  std::vector<Finding> findings;
  std::vector<BackendFinding> backends;

  [[nodiscard]] bool any_usable() const noexcept;
};

/// What this host can do for each backend, what is missing, how to get it. Changes nothing.
///
/// device   to be asked, too: PCI address or device file; empty: none
[[nodiscard]] Diagnosis diagnose(const Host& host, const std::string& device = {});

/// A line for each finding and backend.
[[nodiscard]] std::string doctor_text(const Diagnosis& diagnosis);
[[nodiscard]] std::string doctor_json(const Diagnosis& diagnosis);

}  // namespace faultline
