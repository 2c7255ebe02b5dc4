// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <cstddef>

namespace faultline::session {

// Descriptors that a VMM sent are closed by these alone. To close one may take as long as its VMM
// likes: a file of FUSE waits for its program, which not even a signal ends, a TCP socket that
// lingers for its peer, a terminal for what was written to it, and a UNIX socket for the
// descriptors that are on their way in it.

/// At once where that cannot wait (file_sort.h), and by close_elsewhere() else.
///
/// fd      -1 is none
/// thread  any
void close_passed(int fd) noexcept;

/// By a thread that does nothing else, one after the other. Where no thread is to be had it stays
/// open: that does less harm.
///
/// thread  any
void close_elsewhere(int fd) noexcept;

/// How many wait for that thread, with the one that it is at. cost: one load
[[nodiscard]] std::size_t closing() noexcept;

/// Until it has closed everything that was handed to it; for tests.
void wait_until_closed() noexcept;

}  // namespace faultline::session
