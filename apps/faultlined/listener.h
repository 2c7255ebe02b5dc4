// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <cstdint>
#include <string>

#include "apps/session/fd.h"
#include "config/options.h"
#include "kernel/base/result.h"

namespace faultline::daemon {

/// %N in a text of the configuration stands for the node.
[[nodiscard]] std::string with_node(std::string text, std::uint64_t node);

/// Where VMMs attach: service.socket, or its default.
[[nodiscard]] std::string socket_path(const config::Options& options);

/// errors   one line: a path that is too long, an owner that nobody is
Result<void> check_socket(const config::Options& options);

/// A listening SOCK_SEQPACKET socket of the file system, with the permissions and the owner of the
/// configuration. What a killed service left there is replaced; remove it with remove_listener().
///
/// errors   one line: the path, and what is in the way
Result<session::Fd> make_listener(const config::Options& options);

void remove_listener(const config::Options& options) noexcept;

}  // namespace faultline::daemon
