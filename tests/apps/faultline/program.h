// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <string>
#include <vector>

namespace faultline {

/// What a run of the program left.
struct Finished {
  int status = -1;  ///< exit status; 128 + signal when it was killed
  std::string out;  ///< stdout and stderr together
};

/// Run the `faultline` that was built beside this test and wait for it.
///
/// limit_s       seconds after which it is killed
/// interrupt_on  it is sent one SIGINT when it has printed this; empty: never
/// program       another one that was built beside it
/// prefix        a command that starts it, e.g. {"prlimit", "--nofile=20"}
Finished run_program(const std::vector<std::string>& arguments, unsigned limit_s = 120,
                     const std::string& interrupt_on = {},
                     const std::vector<std::string>& prefix = {},
                     const std::string& program = "faultline");

}  // namespace faultline
