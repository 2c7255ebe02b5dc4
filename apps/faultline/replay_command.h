// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <string>

#include "apps/faultline/merge_choices.h"
#include "apps/replay/options.h"
#include "kernel/base/result.h"

namespace CLI {
class App;
}

namespace faultline {

/// What `faultline replay` was asked for; the strings are among those that it lists.
struct ReplayCommand {
  std::string trace;
  std::string policy = "merge";
  std::string sink = "array";
  std::string clock = "virtual";
  std::string json;  ///< empty: none is written
  std::string hgrm;  ///< empty: none is written
  MergeChoices merge;
  ReplayOptions options;
};

/// Declare the options of `replay` on a subcommand; parsing fills `to`.
void declare_replay(CLI::App& command, ReplayCommand& to);

/// `faultline replay`: play the trace, print a summary, write the JSON.
///
/// errors   one line; code kUsageError: what was asked for makes no sense (exit status 2)
Result<void> replay_command(const ReplayCommand& command);

}  // namespace faultline
