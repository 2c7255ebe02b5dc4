// SPDX-License-Identifier: BSD-3-Clause
#pragma once

namespace faultline {

/// `faultline engine`: the engine of a chaos run, in a process that exists to be killed.
///
/// description   descriptor of a file with the JSON that chaos.cc writes
/// returns       the exit status
int engine_child(int description);

}  // namespace faultline
