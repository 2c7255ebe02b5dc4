// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <string>

#include "apps/session/fd.h"
#include "kernel/base/result.h"

namespace faultline::daemon {

/// That this is the only service of a node: a socket in the abstract namespace, which the kernel
/// lets go of however its process ends.
///
/// instance   empty, or the name of a service beside the node's own
/// returns    to be held while the node is served; released by closing it
/// errors     EADDRINUSE: one line with the process that serves the node
Result<session::Fd> lock_node(unsigned node, const std::string& instance);

}  // namespace faultline::daemon
