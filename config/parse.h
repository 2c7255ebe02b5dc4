// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "config/options.h"

namespace faultline::config {

/// errors   one line each: file:line:column, what is wrong, what to do; empty: `options` is whole
struct Parsed {
  Options options;
  std::vector<std::string> errors;
};

/// What a text in TOML says. Keys that it does not have keep their defaults.
///
/// file   how errors call it
Parsed parse(std::string_view text, const std::string& file);

/// The same, of a file of at most 1 MiB.
Parsed parse_file(const std::string& path);

}  // namespace faultline::config
