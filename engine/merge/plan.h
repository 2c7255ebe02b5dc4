// SPDX-License-Identifier: BSD-3-Clause
// hot path: what is to be submitted.
#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>

#include "engine/merge/invalidation_set.h"
#include "engine/merge/ranges.h"
#include "kernel/operation.h"
#include "kernel/range_encoding.h"

namespace faultline::merge {

/// Operations in the order in which they take effect. Room for what any set comes to: an operation
/// becomes at most two.
class Plan {
 public:
  static constexpr std::size_t kCapacity = 2 * InvalidationSet::kCapacity;

  void clear() noexcept { count_ = 0; }
  void add(const Operation& op) noexcept { operations_[count_++] = op; }
  [[nodiscard]] std::size_t size() const noexcept { return count_; }
  [[nodiscard]] std::span<const Operation> all() const noexcept {
    return {operations_.data(), count_};
  }

 private:
  std::size_t count_ = 0;
  std::array<Operation, kCapacity> operations_{};
};

/// How a sink wants ranges of pages to be cut.
struct CutRule {
  bool encode = false;     ///< into what NUM and SCALE can say
  std::uint64_t most = 0;  ///< else into so many pages at most; 0: not at all

  /// f(begin, pages) for each piece of [begin, end); the pieces cover it exactly, and overlap where
  /// that makes them fewer: two ranges can name any number of pages up to 2^37.
  template <class F>
  void each(std::uint64_t begin, std::uint64_t end, F f) const noexcept {
    for (std::uint64_t left = end - begin; left != 0;) {
      std::uint64_t n = left;
      if (encode) {
        n = longest_range(left).pages();
        if (n != left && 2 * n >= left) {
          f(begin, n);
          f(end - n, n);
          return;
        }
      } else if (most != 0 && left > most) {
        n = most;
      }
      f(begin, n);
      begin += n;
      left -= n;
    }
  }
  [[nodiscard]] std::size_t pieces(const Range& r) const noexcept {
    if (!encode) return most == 0 ? 1 : static_cast<std::size_t>((r.pages() + most - 1) / most);
    // As each(): the longest range has 2^36 pages, and what two of them can name takes two at most.
    constexpr unsigned kLongest = 36;
    if ((r.pages() - 1) >> (kLongest + 1) == 0) return is_range(r.pages()) ? 1 : 2;
    return static_cast<std::size_t>(r.pages() >> kLongest) + 1;
  }
};

/// f(begin, pages) for each of the fewest aligned powers of two that make up [begin, end), as
/// ATC_INV names them. They are no more than any such blocks that the range was made of.
template <class F>
void each_block(std::uint64_t begin, std::uint64_t end, F f) noexcept {
  while (begin != end) {
    std::uint64_t n = std::bit_floor(end - begin);
    if (begin != 0 && (begin & (~begin + 1)) < n) n = begin & (~begin + 1);
    f(begin, n);
    begin += n;
  }
}

}  // namespace faultline::merge
