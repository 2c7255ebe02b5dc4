// SPDX-License-Identifier: BSD-3-Clause
#include "apps/replay/entries.h"

#include <algorithm>
#include <tuple>

namespace faultline {
namespace {

constexpr std::uint32_t kEveryAsid = 0x10000;
constexpr unsigned kPageLog2 = 12;

}  // namespace

Entries::Entries() : asked_(kLog) {
  submitted_.reserve(kLog);
  for (auto* spans : {&wanted_.pages, &done_.pages}) spans->reserve(kLog);
  scratch_.reserve(2 * kLog);
}

void Entries::Side::clear() noexcept {
  pages.clear();
  asids.clear();
  all = false;
}

void Entries::Side::add(const Operation& op) {
  switch (op.kind) {
    case OperationKind::kTlbAll:
      all = true;
      return;
    case OperationKind::kTlbAsid:
      asids.push_back(op.asid);
      return;
    case OperationKind::kTlbVa:
    case OperationKind::kTlbVaa: {
      if (op.pages == 0) return;
      const std::uint64_t first = op.addr >> kPageLog2;
      const std::uint64_t count = op.pages << (op.granule_log2 - kPageLog2);
      pages.push_back(
          {op.kind == OperationKind::kTlbVa ? op.asid : kEveryAsid, first, first + count - 1});
      return;
    }
    default:
      return;
  }
}

bool Entries::Side::covers(const Span& span) const noexcept {
  return all || std::any_of(asids.begin(), asids.end(),
                            [&](std::uint16_t asid) { return asid == span.asid; });
}

/// Make `spans` disjoint and sorted. returns  the pages in them
std::uint64_t Entries::unite(std::vector<Span>& spans) {
  std::sort(spans.begin(), spans.end(), [](const Span& a, const Span& b) {
    return std::tie(a.asid, a.first) < std::tie(b.asid, b.first);
  });
  std::uint64_t pages = 0;
  std::size_t kept = 0;
  for (const Span& s : spans) {
    if (kept != 0 && spans[kept - 1].asid == s.asid && s.first <= spans[kept - 1].last) {
      Span& before = spans[kept - 1];
      if (s.last > before.last) {
        pages += s.last - before.last;
        before.last = s.last;
      }
      continue;
    }
    pages += s.last - s.first + 1;
    spans[kept++] = s;
  }
  spans.resize(kept);
  return pages;
}

void Entries::submit(std::span<const Operation> ops) noexcept {
  if (drained_ != 0) close(drained_);
  submitted_.insert(submitted_.end(), ops.begin(), ops.end());
}

void Entries::finish() noexcept {
  close(asked_count_);
}

/// A policy that is never empty: end the window anyway. What it holds is then counted as missed, so
/// that is not done here.
void Entries::overflow() noexcept {
  const std::uint64_t missed = total_.missed;
  close(drained_ != 0 ? drained_ : asked_count_);
  total_.missed = missed;
}

void Entries::close(std::size_t asked) noexcept {
  wanted_.clear();
  done_.clear();
  for (std::size_t i = 0; i < asked; ++i) wanted_.add(asked_[i]);
  for (const Operation& op : submitted_) done_.add(op);

  for (const Operation& op : submitted_) {
    if (op.kind == OperationKind::kTlbAll && !wanted_.all) ++total_.widened;
    if (op.kind == OperationKind::kTlbAsid && !wanted_.covers({op.asid, 0, 0})) ++total_.widened;
  }
  // What the other side covers as a whole counts on both.
  const std::size_t own = wanted_.pages.size();
  for (const Span& s : done_.pages) {
    if (wanted_.covers(s)) wanted_.pages.push_back(s);
  }
  for (std::size_t i = 0; i < own; ++i) {
    if (done_.covers(wanted_.pages[i])) done_.pages.push_back(wanted_.pages[i]);
  }
  const std::uint64_t wanted = unite(wanted_.pages);
  const std::uint64_t removed = unite(done_.pages);
  scratch_.assign(wanted_.pages.begin(), wanted_.pages.end());
  scratch_.insert(scratch_.end(), done_.pages.begin(), done_.pages.end());
  total_.asked += wanted;
  total_.removed += removed;
  total_.missed += unite(scratch_) - removed;

  std::copy(asked_.begin() + static_cast<std::ptrdiff_t>(asked),
            asked_.begin() + static_cast<std::ptrdiff_t>(asked_count_), asked_.begin());
  asked_count_ -= asked;
  drained_ = 0;
  submitted_.clear();
}

}  // namespace faultline
