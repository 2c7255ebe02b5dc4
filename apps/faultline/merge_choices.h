// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <string>

#include "engine/merge/options.h"

namespace CLI {
class App;
}

namespace faultline {

/// What the command line says of the policy merge, for every command that has it.
struct MergeChoices {
  merge::MergeOptions options;  ///< but for those below
  double deadline_us = 1000;
  std::string linger = "auto";

  [[nodiscard]] merge::MergeOptions all() const;
};

/// Declare the options on a subcommand; parsing fills `to`.
void declare_merge(CLI::App& command, MergeChoices& to);

}  // namespace faultline
