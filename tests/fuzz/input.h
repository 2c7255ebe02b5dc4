// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <span>
#include <string>
#include <type_traits>

namespace faultline::fuzz {

/// An invariant of the code under test; broken, it ends the process as a sanitizer would.
inline void hold(bool condition, const char* what) {
  if (condition) [[likely]] {
    return;
  }
  std::fprintf(stderr, "broken invariant: %s\n", what);
  std::abort();
}

/// An error is for an operator: one line that says something.
inline void hold_one_line(const std::string& message) {
  hold(!message.empty(), "an error without words");
  hold(message.find('\n') == std::string::npos, "an error of more than one line");
}

/// What the fuzzer gave, taken from the front. Beyond its end there are zeros.
class Input {
 public:
  Input(const std::uint8_t* data, std::size_t size) : rest_(data, size) {}

  template <class T>
  T take() {
    static_assert(std::is_integral_v<T>);
    T value = 0;
    const std::size_t n = std::min(sizeof value, rest_.size());
    if (n != 0) std::memcpy(&value, rest_.data(), n);
    rest_ = rest_.subspan(n);
    return value;
  }
  std::uint8_t byte() { return take<std::uint8_t>(); }
  std::uint16_t u16() { return take<std::uint16_t>(); }
  std::uint32_t u32() { return take<std::uint32_t>(); }
  std::uint64_t u64() { return take<std::uint64_t>(); }
  bool flag() { return (byte() & 1) != 0; }
  /// 0 .. n - 1
  std::size_t below(std::size_t n) { return u16() % n; }
  /// Fill `out`; what is missing is zero.
  void fill(void* out, std::size_t size) {
    const std::size_t n = std::min(size, rest_.size());
    std::memset(out, 0, size);
    if (n != 0) std::memcpy(out, rest_.data(), n);
    rest_ = rest_.subspan(n);
  }
  [[nodiscard]] std::span<const std::uint8_t> rest() const { return rest_; }
  [[nodiscard]] bool empty() const { return rest_.empty(); }

 private:
  std::span<const std::uint8_t> rest_;
};

}  // namespace faultline::fuzz
