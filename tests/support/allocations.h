// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <cstddef>

namespace faultline::testing_support {

/// Calls of operator new by the calling thread so far. Using it links an operator new that counts,
/// except under clang's address and thread sanitizers, where it is always 0.
[[nodiscard]] std::size_t allocations() noexcept;

}  // namespace faultline::testing_support
