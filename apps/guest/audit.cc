// SPDX-License-Identifier: BSD-3-Clause
#include "apps/guest/audit.h"

#include <array>
#include <cstdio>

#include "kernel/soft/ledger.h"

namespace faultline::guest {

struct Audit::Side {
  Side(Guest& g, bool typeless) : guest(&g), audit(g.sids(), g.event_entries(), typeless) {}
  Guest* guest;
  GuestAudit audit;
  std::vector<std::unique_ptr<soft::LedgerReader>> ledgers;
};

Audit::Audit(const std::vector<Guest*>& guests, const std::vector<std::vector<void*>>& ledgers,
             bool typeless) {
  for (std::size_t g = 0; g < guests.size(); ++g) {
    sides_.push_back(std::make_unique<Side>(*guests[g], typeless));
    for (void* ledger : ledgers[g]) {
      sides_.back()->ledgers.push_back(std::make_unique<soft::LedgerReader>(ledger));
    }
  }
}

Audit::~Audit() = default;

// Observations first, ledgers second: an event's ledger entry is there when the event is.
std::size_t Audit::poll_guest(Side& side, Nanos now) {
  constexpr std::size_t kBudget = 4096;
  std::size_t work = 0;
  Observation o;
  while (work < kBudget && side.guest->observations().pop(o)) {
    side.audit.observed(o);
    ++work;
  }
  std::array<soft::LedgerEntry, 64> entries;
  for (std::size_t i = 0; i < side.ledgers.size(); ++i) {
    while (const std::size_t n = side.ledgers[i]->read(entries)) {
      for (std::size_t k = 0; k < n; ++k) side.audit.ledger(i, entries[k]);
      work += n;
      if (n < entries.size()) break;
    }
  }
  side.audit.settle(now);
  return work;
}

std::size_t Audit::poll(Nanos now) {
  std::size_t work = 0;
  for (auto& side : sides_) work += poll_guest(*side, now);
  return work;
}

std::size_t Audit::pending() const noexcept {
  std::size_t n = 0;
  for (const auto& side : sides_) n += side->audit.pending() + side->audit.waiting();
  return n;
}

const FaultCounts& Audit::counts(std::size_t guest) const noexcept {
  return sides_[guest]->audit.counts();
}

const Histogram& Audit::latency(std::size_t guest) const noexcept {
  return sides_[guest]->audit.latency();
}

namespace {

template <class T>
void sum_words(T& to, const T& from) {
  auto* a = reinterpret_cast<std::uint64_t*>(&to);
  const auto* b = reinterpret_cast<const std::uint64_t*>(&from);
  for (std::size_t i = 0; i < sizeof(T) / sizeof *a; ++i) a[i] += b[i];
}

void find(std::vector<std::string>& findings, std::uint64_t n, const char* what) {
  if (n > 0) findings.push_back(std::to_string(n) + " " + what);
}

}  // namespace

Verdict Audit::finish(Nanos now) {
  while (poll(now) > 0) {
  }
  Verdict v;
  for (auto& side : sides_) {
    side->audit.finish();
    sum_words(v.faults, side->audit.counts());
    sum_words(v.guests, side->guest->counters());
  }
  auto& f = v.findings;
  find(f, v.faults.lost_silent, "faults were lost in silence");
  for (const auto& side : sides_) {
    const FirstLoss& l = side->audit.first_loss();
    if (l.faults == 0) continue;
    std::array<char, 160> text{};
    std::snprintf(text.data(), text.size(),
                  "%s: the first %llu were of StreamID 0x%x, address 0x%llx, after event %llu%s",
                  side->guest->name().c_str(), static_cast<unsigned long long>(l.faults),
                  l.sid.value, static_cast<unsigned long long>(l.address),
                  static_cast<unsigned long long>(l.after),
                  l.at_end ? ", and nothing came from there any more" : "");
    f.emplace_back(text.data());
  }
  find(f, v.guests.event_depth, "events stood in a queue and no interrupt had the guest read them");
  find(f, v.faults.misdelivered, "events reached a guest that no device of it raised so");
  for (const auto& side : sides_) {
    const FirstStranger& s = side->audit.first_stranger();
    if (!s.found) continue;
    std::array<char, 160> text{};
    std::snprintf(
        text.data(), text.size(),
        "%s: the first of them, after event %llu: %016llx %016llx %016llx %016llx",
        side->guest->name().c_str(), static_cast<unsigned long long>(s.consumed),
        static_cast<unsigned long long>(s.words[0]), static_cast<unsigned long long>(s.words[1]),
        static_cast<unsigned long long>(s.words[2]), static_cast<unsigned long long>(s.words[3]));
    f.emplace_back(text.data());
  }
  find(f, v.faults.duplicated, "faults were delivered twice");
  find(f, v.guests.dma_stale, "accesses used a translation that a completed CMD_SYNC had removed");
  find(f, v.guests.dma_wrong,
       "accesses were answered in a way that no table of the guest explains");
  find(f, v.guests.syncs - v.guests.syncs_completed, "CMD_SYNCs were never completed");
  find(f, v.guests.violations, "times a queue index or CMD_SYNC was not as the architecture says");
  if (v.guests.illegal_handled != v.guests.illegal_issued) {
    f.push_back(std::to_string(v.guests.illegal_issued) + " illegal commands were written, but " +
                std::to_string(v.guests.illegal_handled) + " command queue errors came");
  }
  find(f, v.guests.unexpected_errors, "(bits) unexpected global errors (GERROR)");
  if (v.faults.produced != v.guests.dma_faulted) {
    f.push_back("devices ended " + std::to_string(v.guests.dma_faulted) +
                " accesses by a fault, but the kernel's ledgers hold " +
                std::to_string(v.faults.produced));
  }
  if (v.faults.produced != v.faults.delivered + v.faults.lost_reported + v.faults.lost_silent) {
    f.push_back("the audit's own sums do not agree");
  }
  return v;
}

}  // namespace faultline::guest
