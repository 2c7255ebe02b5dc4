// SPDX-License-Identifier: BSD-3-Clause
#include "apps/faultline/merge_choices.h"

#include <CLI/CLI.hpp>

namespace faultline {

merge::MergeOptions MergeChoices::all() const {
  merge::MergeOptions out = options;
  out.deadline = static_cast<Nanos>(deadline_us * 1000);
  out.linger = linger == "off"  ? merge::LingerMode::kOff
               : linger == "on" ? merge::LingerMode::kOn
                                : merge::LingerMode::kAuto;
  return out;
}

void declare_merge(CLI::App& command, MergeChoices& to) {
  command
      .add_option("--merge-cap", to.options.cap,
                  "merge: most entries removed per entry asked for, where that costs less; "
                  "1 = exact")
      ->check(CLI::Range(1.0, 1e6))
      ->capture_default_str();
  command
      .add_option("--merge-deadline-us", to.deadline_us,
                  "merge: modelled cost of a plan beyond which it is widened whatever the cap; "
                  "0 = never")
      ->check(CLI::Range(0.0, 1e6))
      ->capture_default_str();
  command
      .add_option("--merge-linger", to.linger,
                  "merge: wait a little for the vCPUs whose SYNCs were just completed [auto: while "
                  "it gains]")
      ->check(CLI::IsMember({"on", "off", "auto"}));
  command.add_flag("--assume-nonglobal", to.options.assume_nonglobal,
                   "merge: the guests make no global stage-1 mappings, so an ASID covers its "
                   "address ranges");
}

}  // namespace faultline
