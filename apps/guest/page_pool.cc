// SPDX-License-Identifier: BSD-3-Clause
#include "apps/guest/page_pool.h"

namespace faultline::guest {

PagePool::PagePool(GuestMemory& memory, std::size_t pages) : memory_(memory) {
  for (std::size_t i = 0; i < pages; ++i) give_back(memory.allocate(kPage4K));
}

std::uint64_t PagePool::damage(Gpa page) const noexcept {
  std::uint64_t n = 0;
  for (std::size_t line = 0; line < kLines; ++line) {
    if (load_relaxed(memory_.word(page + line * kLine + 8)) != kResting) ++n;
  }
  return n;
}

bool PagePool::take(std::uint64_t tag, Gpa& page, std::uint64_t& written) noexcept {
  if (resting_.empty()) return false;
  page = resting_.front();
  resting_.pop_front();
  written += damage(page);
  for (std::size_t line = 0; line < kLines; ++line) {
    store_relaxed(memory_.word(page + line * kLine), tag);
    store_relaxed(memory_.word(page + line * kLine + 8), std::uint64_t{0});
  }
  return true;
}

void PagePool::give_back(Gpa page) {
  for (std::size_t line = 0; line < kLines; ++line) {
    store_relaxed(memory_.word(page + line * kLine), kResting);
    store_relaxed(memory_.word(page + line * kLine + 8), kResting);
  }
  resting_.push_back(page);
}

std::uint64_t PagePool::written_while_resting() const noexcept {
  std::uint64_t n = 0;
  for (const Gpa page : resting_) n += damage(page);
  return n;
}

std::uint64_t PagePool::written_word(Gpa page, std::size_t line) const noexcept {
  return load_relaxed(memory_.word(page + line * kLine + 8));
}

}  // namespace faultline::guest
