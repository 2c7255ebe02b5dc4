// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <string>
#include <utility>
#include <vector>

namespace faultline::bench {

/// What a reader has to know of the machine before believing a figure: name and value, in the order
/// to print. What the machine does not tell is "unknown", never a guess.
std::vector<std::pair<std::string, std::string>> machine_facts();

}  // namespace faultline::bench
