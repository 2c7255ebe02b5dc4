// SPDX-License-Identifier: BSD-3-Clause
#include "tests/support/invalidation_oracle.h"

#include <algorithm>
#include <cstdio>
#include <utility>

namespace faultline::test {
namespace {

using Where = CachedEntry::Where;

/// [addr, addr + count × 2^shift) and the entry share a byte. Nothing wraps: ends are inclusive.
bool meets(std::uint64_t addr, std::uint64_t count, unsigned shift, const CachedEntry& entry) {
  const std::uint64_t span = (count << shift) - 1;
  const std::uint64_t last = span > ~std::uint64_t{0} - addr ? ~std::uint64_t{0} : addr + span;
  return addr <= entry.addr + (entry.bytes - 1) && entry.addr <= last;
}

bool by_address(const Operation& op, const CachedEntry& entry) {
  const bool any_granule = op.granule_log2 == 12 && op.pages == 1 && op.ttl == 0;
  if (!any_granule && entry.granule_log2 != op.granule_log2) return false;
  if (!meets(op.addr, op.pages, op.granule_log2, entry)) return false;
  if (entry.table) return !op.leaf;
  return op.ttl == 0 || op.ttl == entry.level;
}

bool by_device(const Operation& op, const CachedEntry& entry) {
  if (op.sid != entry.sid) return false;
  // Without a PASID an invalidation concerns every entry of those addresses. GLOBAL reaches other
  // PASIDs only where the function supports it: it need not.
  if (op.ssid_valid && (!entry.with_ssid || op.ssid != entry.ssid)) return false;
  return op.pages == 0 || meets(op.addr, op.pages, 12, entry);
}

std::string hex(std::uint64_t value) {
  char text[24];
  (void)std::snprintf(text, sizeof text, "0x%llx", static_cast<unsigned long long>(value));
  return text;
}

}  // namespace

bool removes(const Operation& op, const CachedEntry& entry) noexcept {
  switch (op.kind) {
    case OperationKind::kTlbAll:
      return entry.where == Where::kTlb;
    case OperationKind::kTlbAsid:
      return entry.where == Where::kTlb && !entry.global && entry.asid == op.asid;
    case OperationKind::kTlbVa:
      return entry.where == Where::kTlb && (entry.global || entry.asid == op.asid) &&
             by_address(op, entry);
    case OperationKind::kTlbVaa:
      return entry.where == Where::kTlb && by_address(op, entry);
    case OperationKind::kCfgCd:
      // LEAF spares what was cached of the tables above the descriptor; an entry here is the
      // latter.
      return entry.where == Where::kConfig && entry.sid == op.sid && entry.ssid == op.ssid &&
             !(op.leaf && entry.table);
    case OperationKind::kCfgCdAll:
      return entry.where == Where::kConfig && entry.sid == op.sid;
    case OperationKind::kAtcInv:
      return entry.where == Where::kAtc && by_device(op, entry);
  }
  return false;
}

bool refills(const CachedEntry& upper, std::uint16_t asid, const CachedEntry& lower) noexcept {
  if (upper.where == Where::kConfig && lower.where == Where::kTlb) {
    return lower.global || lower.asid == asid;
  }
  if (upper.where == Where::kTlb && lower.where == Where::kAtc) {
    return upper.addr < lower.addr + lower.bytes && lower.addr < upper.addr + upper.bytes;
  }
  return false;
}

CacheWorld::CacheWorld(std::vector<CachedEntry> entries, const std::vector<std::uint16_t>& asids)
    : entries_(std::move(entries)),
      age_(entries_.size(), kFresh),
      feeds_(entries_.size()),
      fed_by_(entries_.size()) {
  std::size_t configs = 0;
  for (std::size_t u = 0; u < entries_.size(); ++u) {
    const bool config = entries_[u].where == Where::kConfig;
    const std::uint16_t asid = config ? asids.at(configs++) : std::uint16_t{0};
    for (std::size_t l = 0; l < entries_.size(); ++l) {
      if (!refills(entries_[u], asid, entries_[l])) continue;
      feeds_[u].push_back(static_cast<std::uint16_t>(l));
      fed_by_[l].push_back(static_cast<std::uint16_t>(u));
    }
  }
}

void CacheWorld::touch(std::size_t entry, Age at) {
  if (age_[entry] <= at) return;
  age_[entry] = at;
  for (const std::uint16_t lower : feeds_[entry]) touch(lower, at);
}

/// Gone, and at once back where a stale upper cache can bring it back.
void CacheWorld::drop(std::size_t entry) {
  if (age_[entry] == kFresh) return;
  age_[entry] = kFresh;
  for (const std::uint16_t upper : fed_by_[entry]) {
    age_[entry] = std::min(age_[entry], age_[upper]);
  }
}

void CacheWorld::change(const Operation& op, Age at) {
  for (std::size_t e = 0; e < entries_.size(); ++e) {
    if (removes(op, entries_[e])) touch(e, at);
  }
}

void CacheWorld::remove(const Operation& op) {
  for (std::size_t e = 0; e < entries_.size(); ++e) {
    if (age_[e] != kFresh && removes(op, entries_[e])) drop(e);
  }
}

void CacheWorld::remove_unordered(const std::vector<Operation>& ops) {
  for (const Where where : {Where::kAtc, Where::kTlb, Where::kConfig}) {
    for (const Operation& op : ops) {
      for (std::size_t e = 0; e < entries_.size(); ++e) {
        if (entries_[e].where == where && age_[e] != kFresh && removes(op, entries_[e])) drop(e);
      }
    }
  }
}

void CacheWorld::reset() {
  std::fill(age_.begin(), age_.end(), kFresh);
}

int CacheWorld::worse_than(const CacheWorld& ideal, Age told) const {
  for (std::size_t e = 0; e < entries_.size(); ++e) {
    if (age_[e] < told && age_[e] < ideal.age_[e]) return static_cast<int>(e);
  }
  return -1;
}

std::string to_text(const Operation& op) {
  const auto range = [&] {
    return " " + hex(op.addr) + " +" + std::to_string(op.pages) + "x2^" +
           std::to_string(op.granule_log2) + (op.ttl != 0 ? " ttl " + std::to_string(op.ttl) : "") +
           (op.leaf ? " leaf" : "");
  };
  const std::string stream = " sid " + std::to_string(op.sid);
  switch (op.kind) {
    case OperationKind::kTlbAll:
      return "TLBI all";
    case OperationKind::kTlbAsid:
      return "TLBI asid " + std::to_string(op.asid);
    case OperationKind::kTlbVa:
      return "TLBI va asid " + std::to_string(op.asid) + range();
    case OperationKind::kTlbVaa:
      return "TLBI vaa" + range();
    case OperationKind::kCfgCd:
      return "CFGI cd" + stream + " ssid " + std::to_string(op.ssid) + (op.leaf ? " leaf" : "");
    case OperationKind::kCfgCdAll:
      return "CFGI cd all" + stream;
    case OperationKind::kAtcInv:
      return "ATC" + stream + (op.ssid_valid ? " ssid " + std::to_string(op.ssid) : "") +
             (op.global ? " global" : "") + (op.pages == 0 ? " all" : range());
  }
  return "?";
}

std::string to_text(const CachedEntry& e) {
  switch (e.where) {
    case Where::kConfig:
      return "descriptor of sid " + std::to_string(e.sid) + " ssid " + std::to_string(e.ssid);
    case Where::kTlb:
      return std::string(e.table ? "table" : "leaf") + " of the TLB, " +
             (e.global ? "global" : "asid " + std::to_string(e.asid)) + ", level " +
             std::to_string(e.level) + ", granule 2^" + std::to_string(e.granule_log2) + ", " +
             hex(e.addr);
    case Where::kAtc:
      return "ATC of sid " + std::to_string(e.sid) +
             (e.with_ssid ? " ssid " + std::to_string(e.ssid) : "") + ", " + hex(e.addr);
  }
  return "?";
}

}  // namespace faultline::test
