// SPDX-License-Identifier: BSD-3-Clause
// What invalidations remove, found out the slow way: the oracle of everything in engine/merge. It
// shares nothing with the code under test but the struct Operation.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "kernel/operation.h"

namespace faultline::test {

/// One cached entry somewhere between a guest's tables and its device.
struct CachedEntry {
  enum class Where : std::uint8_t { kConfig, kTlb, kAtc };

  Where where = Where::kTlb;
  // kTlb. A table entry (walk cache) covers what a block of its level would.
  std::uint16_t asid = 0;
  bool global = false;
  bool table = false;
  std::uint8_t granule_log2 = 12;
  std::uint8_t level = 3;  ///< 0..3
  // kConfig, kAtc
  std::uint32_t sid = 0;
  std::uint32_t ssid = 0;
  bool with_ssid = false;  ///< kAtc: cached with a PASID
  // kTlb, kAtc
  std::uint64_t addr = 0;   ///< first byte
  std::uint64_t bytes = 0;  ///< a power of two

  bool operator==(const CachedEntry&) const = default;
};

/// Whether `op` has to remove `entry`: hardware that keeps everything else is allowed to. An
/// address range with a granule concerns entries of that granule only; an operation of one 4 KiB
/// page without a level hint is TG = 0, a page of whatever granule.
///
/// source  Arm IHI 0070, 4.3 to 4.5; PCIe 6.0, 10.2.3
[[nodiscard]] bool removes(const Operation& op, const CachedEntry& entry) noexcept;

/// Whether a stale `upper` can fill `lower`: a context descriptor the TLB entries of its ASID
/// (`asid`) and global ones, a TLB entry an ATC entry of the same addresses.
///
/// asid  that of a configuration entry
[[nodiscard]] bool refills(const CachedEntry& upper, std::uint16_t asid,
                           const CachedEntry& lower) noexcept;

/// Entries, and how old what each of them holds may be.
///
/// Time is counted in guest commands. `age[e]` is the first command whose change of the guest's
/// tables entry e may have missed; kFresh: none. An adversary refills: whatever a stale upper cache
/// can bring back is back at once.
class CacheWorld {
 public:
  using Age = std::uint64_t;
  static constexpr Age kFresh = ~Age{0};

  /// asids  of the configuration entries, in the order of these in `entries`
  CacheWorld(std::vector<CachedEntry> entries, const std::vector<std::uint16_t>& asids);

  /// The guest changed what `op` is about, and then queued it as its at-th command.
  void change(const Operation& op, Age at);
  /// The operation took effect.
  void remove(const Operation& op);
  /// They took effect in the worst order: what could be refilled was.
  void remove_unordered(const std::vector<Operation>& ops);
  /// Nothing is stale.
  void reset();

  [[nodiscard]] const std::vector<CachedEntry>& entries() const { return entries_; }
  [[nodiscard]] const std::vector<Age>& ages() const { return age_; }

  /// The first entry that is older here than in `ideal` and than `told`; -1: none. That is an entry
  /// that the guest, having been told that its first `told` commands took effect, must not meet.
  [[nodiscard]] int worse_than(const CacheWorld& ideal, Age told) const;

 private:
  void touch(std::size_t entry, Age at);
  void drop(std::size_t entry);

  std::vector<CachedEntry> entries_;
  std::vector<Age> age_;
  std::vector<std::vector<std::uint16_t>> feeds_;   ///< entry → those that it refills
  std::vector<std::vector<std::uint16_t>> fed_by_;  ///< the other way round
};

/// For traces: "VA asid 1 0x1000+1p leaf", "TLB asid 1 nG level 3 0x1000".
[[nodiscard]] std::string to_text(const Operation& op);
[[nodiscard]] std::string to_text(const CachedEntry& entry);

}  // namespace faultline::test
