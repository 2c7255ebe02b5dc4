// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <optional>
#include <string>

#include "kernel/base/result.h"

namespace faultline::vmm {

struct Options {
  std::string socket;
  unsigned guests = 2;
  unsigned devices = 4;  ///< of each guest
  unsigned seconds = 10;
  std::optional<std::string> trace;  ///< path without its endings; none: the one of the tree
  std::string json;                  ///< file; -: standard output; empty: none
};

/// Where a service of node 0 listens when nobody says where.
[[nodiscard]] std::string default_socket();

/// Run guests that the service serves, through its restarts, and audit both ledgers: what the
/// devices did and what the drivers saw.
///
/// returns  whether the audit found nothing
/// errors   one line: no service, or it refused a guest
Result<bool> run(const Options& options);

}  // namespace faultline::vmm
