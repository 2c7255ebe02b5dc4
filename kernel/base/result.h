// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <cstring>
#include <string>
#include <tl/expected.hpp>
#include <utility>

namespace faultline {

/// What went wrong on the control path, in words for the operator.
///
/// code   errno of the operation that failed, 0 when no system call is to blame
/// what   one line: what failed, where, and (where it is known) what to do
struct Error {
  int code = 0;
  std::string what;

  /// The line to print: `what`, followed by the errno's text where there is one.
  [[nodiscard]] std::string message() const {
    if (code == 0) return what;
    return what + ": " + std::strerror(code) + " (errno " + std::to_string(code) + ")";
  }
};

template <class T>
using Result = tl::expected<T, Error>;

/// Make the failed Result of a system call or a check.
///
/// code   errno (positive), or 0
inline tl::unexpected<Error> fail(int code, std::string what) {
  return tl::unexpected<Error>(Error{code, std::move(what)});
}

/// Pass the error of one Result on as that of another, with where it happened in front.
inline tl::unexpected<Error> fail(Error error, const std::string& where) {
  error.what = where + ": " + error.what;
  return tl::unexpected<Error>(std::move(error));
}

}  // namespace faultline
