// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <cstdint>
#include <string>

#include "apps/session/fd.h"
#include "kernel/base/result.h"

namespace faultline::session {

// Files that a peer passed: are they what the engine can rely on?

/// A memfd that holds so many bytes from an offset on, and cannot become shorter.
[[nodiscard]] Result<void> check_sealed(const Fd& memfd, std::uint64_t offset, std::uint64_t bytes);

/// A write to it must never block, since a polling core makes it. None is fine.
[[nodiscard]] Result<void> make_nonblocking_eventfd(const Fd& fd);

/// A memfd of our own with what the peer's journal holds now; nobody else can write it.
/// errors  it is no journal of this version, or nobody could rely on it
[[nodiscard]] Result<Fd> copy_journal(int journal);

/// A memfd with this text, which nobody can change.
[[nodiscard]] Result<Fd> sealed_text(const std::string& name, const std::string& text);

/// All of a file of at most `most` bytes.
[[nodiscard]] Result<std::string> read_text(const Fd& file, std::size_t most);

/// A descriptor of the same file that can only be read.
[[nodiscard]] Result<Fd> read_only(int fd);

}  // namespace faultline::session
