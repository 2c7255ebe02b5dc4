// SPDX-License-Identifier: BSD-3-Clause
// A second two-stage walker, written from the architecture and sharing nothing with the model: the
// oracle of the model's walks. Recursive over the unresolved address bits, memory is a std::map.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <iterator>
#include <map>
#include <optional>
#include <string_view>
#include <variant>

namespace faultline::test {

/// A stage-1 translation regime, in the words of the architecture.
struct Regime {
  struct Half {
    std::uint64_t table = 0;
    unsigned txsz = 16;
    bool epd = false, tbi = false, hpd = false;
  };
  std::array<Half, 2> half{};
  unsigned ips_bits = 48;
  bool access_flag_faults = true, wxn = false, pan = false;
};

/// Stage 2: first byte → what is there.
struct Stage2Window {
  std::uint64_t size = 0, host = 0;
  bool readable = true, writable = true;
};
using Stage2 = std::map<std::uint64_t, Stage2Window>;

enum class FaultKind { kTranslation, kAddressSize, kAccessFlag, kPermission, kExternalAbort };
enum class FaultClass { kTable = 1, kInput = 2 };

struct ReferenceFault {
  FaultKind kind{};
  bool stage2 = false;
  FaultClass klass = FaultClass::kInput;
  std::uint64_t second_address = 0;
  bool operator==(const ReferenceFault&) const = default;
};

struct ReferenceAccess {
  bool write = false, fetch = false, privileged = false;
};

class ReferenceWalker {
 public:
  /// Reads a host word; nullopt is an external abort.
  using Memory = std::function<std::optional<std::uint64_t>(std::uint64_t host)>;
  using Outcome = std::variant<std::uint64_t, ReferenceFault>;

  ReferenceWalker(const Regime& regime, const Stage2& stage2, Memory memory)
      : regime_(regime), stage2_(stage2), memory_(std::move(memory)) {}

  /// The host address of `va` for this access, or what the transaction faults with.
  [[nodiscard]] Outcome translate(std::uint64_t va, ReferenceAccess access) const {
    const bool high = (va & kBit55) != 0;
    const Regime::Half& half = regime_.half.at(high ? 1 : 0);
    if (half.epd || !in_region(va, half, high)) return input_fault(FaultKind::kTranslation);

    const unsigned region_bits = 64 - half.txsz;
    const auto stage1 = descend(half.table, region_bits - 12, va, half, Hierarchy{});
    if (const auto* fault = std::get_if<ReferenceFault>(&stage1)) return *fault;
    const Leaf leaf = std::get<Leaf>(stage1);
    if (!permitted(leaf, access)) return input_fault(FaultKind::kPermission);

    const auto window = window_of(leaf.output);
    if (!window) return stage2_fault(FaultKind::kTranslation, FaultClass::kInput, leaf.output);
    const Stage2Window& w = (*window)->second;
    if (access.write ? !w.writable : !w.readable)
      return stage2_fault(FaultKind::kPermission, FaultClass::kInput, leaf.output);
    return w.host + (leaf.output - (*window)->first);
  }

 private:
  static constexpr std::uint64_t kBit55 = 1ULL << 55U;

  /// Hierarchical attributes met on the way down.
  struct Hierarchy {
    unsigned ap_table = 0;
    bool uxn = false, pxn = false;
  };
  struct Leaf {
    std::uint64_t output = 0;
    unsigned ap = 0;  // AP[2:1]
    bool uxn = false, pxn = false;
    Hierarchy above;
  };
  using Step = std::variant<Leaf, ReferenceFault>;

  static ReferenceFault input_fault(FaultKind kind) {
    return {.kind = kind, .stage2 = false, .klass = FaultClass::kInput, .second_address = 0};
  }
  static ReferenceFault stage2_fault(FaultKind kind, FaultClass klass, std::uint64_t ipa) {
    return {.kind = kind, .stage2 = true, .klass = klass, .second_address = ipa & ~0xfffULL};
  }

  static std::uint64_t bits(std::uint64_t value, unsigned high, unsigned low) {
    return (value << (63 - high)) >> (63 - high + low);
  }

  static bool in_region(std::uint64_t va, const Regime::Half& half, bool high) {
    // All bits from the top one that is looked at down to the region's own top must equal bit 55.
    for (unsigned at = half.tbi ? 55 : 63; at >= 64 - half.txsz; --at)
      if (((va >> at) & 1) != (high ? 1 : 0)) return false;
    return true;
  }

  std::optional<Stage2::const_iterator> window_of(std::uint64_t ipa) const {
    auto it = stage2_.upper_bound(ipa);
    if (it == stage2_.begin()) return std::nullopt;
    --it;
    if (ipa - it->first >= it->second.size) return std::nullopt;
    return it;
  }

  // `unresolved` address bits above the page offset are still to be looked up below `table`.
  Step descend(std::uint64_t table, unsigned unresolved, std::uint64_t va, const Regime::Half& half,
               Hierarchy above) const {
    const unsigned here = unresolved % 9 == 0 ? 9 : unresolved % 9;
    const unsigned below = unresolved - here;
    const std::uint64_t index = bits(va, 11 + unresolved, 12 + below);
    const std::uint64_t aligned = table - table % (8ULL << here);
    const bool starting = unresolved == 64 - half.txsz - 12;
    const std::uint64_t entry = (starting ? aligned : table) + 8 * index;

    const auto window = window_of(entry);
    if (!window) return stage2_fault(FaultKind::kTranslation, FaultClass::kTable, entry);
    if (!(*window)->second.readable)
      return stage2_fault(FaultKind::kPermission, FaultClass::kTable, entry);
    const std::uint64_t host = (*window)->second.host + (entry - (*window)->first);
    const auto descriptor = memory_(host);
    if (!descriptor)
      return ReferenceFault{.kind = FaultKind::kExternalAbort,
                            .stage2 = false,
                            .klass = FaultClass::kTable,
                            .second_address = host};

    const bool valid = (*descriptor & 1) != 0;
    const bool second = (*descriptor & 2) != 0;
    const bool page_level = below == 0;
    const bool may_be_block = below == 9 || below == 18;
    if (!valid || (page_level && !second) || (!page_level && !second && !may_be_block))
      return input_fault(FaultKind::kTranslation);

    if (!page_level && second) {
      const std::uint64_t next = bits(*descriptor, 47, 12) << 12U;
      if (beyond_ips(next)) return input_fault(FaultKind::kAddressSize);
      if (!half.hpd) {
        above.ap_table |= static_cast<unsigned>(bits(*descriptor, 62, 61));
        above.uxn = above.uxn || bits(*descriptor, 60, 60) != 0;
        above.pxn = above.pxn || bits(*descriptor, 59, 59) != 0;
      }
      return descend(next, below, va, half, above);
    }
    const unsigned offset_bits = 12 + below;
    const std::uint64_t output = bits(*descriptor, 47, offset_bits) << offset_bits;
    if (beyond_ips(output)) return input_fault(FaultKind::kAddressSize);
    if (bits(*descriptor, 10, 10) == 0 && regime_.access_flag_faults)
      return input_fault(FaultKind::kAccessFlag);
    return Leaf{.output = output | bits(va, offset_bits - 1, 0),
                .ap = static_cast<unsigned>(bits(*descriptor, 7, 6)),
                .uxn = bits(*descriptor, 54, 54) != 0,
                .pxn = bits(*descriptor, 53, 53) != 0,
                .above = above};
  }

  [[nodiscard]] bool beyond_ips(std::uint64_t address) const {
    return address >= (1ULL << regime_.ips_bits);
  }

  // The architecture's table of data accesses by AP[2:1], then what APTable takes away.
  static std::string_view data_rights(unsigned ap, bool privileged) {
    static constexpr std::array<std::string_view, 4> kPrivileged = {"rw", "rw", "r", "r"};
    static constexpr std::array<std::string_view, 4> kUser = {"", "rw", "", "r"};
    return (privileged ? kPrivileged : kUser).at(ap);
  }
  static bool data_allows(const Leaf& leaf, bool privileged, char what) {
    if (!privileged && (leaf.above.ap_table & 1U) != 0) return false;
    if (what == 'w' && (leaf.above.ap_table & 2U) != 0) return false;
    return data_rights(leaf.ap, privileged).find(what) != std::string_view::npos;
  }

  [[nodiscard]] bool permitted(const Leaf& leaf, ReferenceAccess access) const {
    const bool p = access.privileged;
    if (!access.write && access.fetch) {
      if (p ? leaf.pxn || leaf.above.pxn : leaf.uxn || leaf.above.uxn) return false;
      if (p && data_allows(leaf, false, 'w')) return false;
      return !(regime_.wxn && data_allows(leaf, p, 'w'));
    }
    if (p && regime_.pan && data_allows(leaf, false, 'r')) return false;
    return data_allows(leaf, p, access.write ? 'w' : 'r');
  }

  Regime regime_;
  const Stage2& stage2_;
  Memory memory_;
};

}  // namespace faultline::test
