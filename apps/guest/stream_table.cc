// SPDX-License-Identifier: BSD-3-Clause
#include "apps/guest/stream_table.h"

namespace faultline::guest {
namespace {

constexpr std::uint64_t kValid = 1;
constexpr std::uint64_t kConfigAbort = 0ULL << 1;
constexpr std::uint64_t kConfigStage1 = 5ULL << 1;
constexpr std::uint64_t kL2Pointer = 0x000f'ffff'ffff'ffc0ULL;
constexpr std::size_t kSteBytes = 64;
constexpr std::uint64_t kRead = 1ULL << 62;  // STRTAB_BASE.RA

// S1DSS = SSID0, S1CIR and S1COR write-back allocate, S1CSH inner shareable, SHCFG = incoming.
constexpr std::uint64_t kSteWord1 = 2ULL | 1ULL << 2 | 1ULL << 4 | 3ULL << 6 | 1ULL << 44;

}  // namespace

StreamTable::StreamTable(GuestMemory& memory, Format format, unsigned log2size)
    : memory_(memory), format_(format), log2size_(log2size) {
  const std::size_t bytes =
      format == Format::kLinear ? kSteBytes << log2size : std::size_t{8} << (log2size - kSplit);
  const std::size_t align = bytes < kPage4K ? kPage4K : bytes;
  base_ = memory.allocate(bytes, align);
}

std::uint64_t StreamTable::base_register() const noexcept {
  return kRead | base_.value;
}

std::uint32_t StreamTable::config_register() const noexcept {
  if (format_ == Format::kLinear) return log2size_;
  return 1U << 16 | kSplit << 6 | log2size_;
}

std::uint64_t* StreamTable::entry(StreamId sid, bool create) {
  if (format_ == Format::kLinear) return &memory_.word(base_ + kSteBytes * sid.value);
  std::uint64_t& level1 = memory_.word(base_ + 8ULL * (sid.value >> kSplit));
  if (level1 == 0) {
    if (!create) return nullptr;
    const Gpa level2 = memory_.allocate(kSteBytes << kSplit, kSteBytes << kSplit);
    // Span = split + 1: all 2^split entries are there.
    store_release(level1, level2.value | (kSplit + 1));
  }
  const Gpa level2{level1 & kL2Pointer};
  return &memory_.word(level2 + kSteBytes * (sid.value & ((1U << kSplit) - 1)));
}

void StreamTable::translate(StreamId sid, Gpa cd) {
  std::uint64_t* ste = entry(sid, true);
  store_relaxed(ste[1], kSteWord1);
  store_release(ste[0], kValid | kConfigStage1 | cd.value);
}

void StreamTable::abort(StreamId sid) {
  store_release(*entry(sid, true), kValid | kConfigAbort);
}

std::uint64_t StreamTable::ste_word(StreamId sid, unsigned word) const noexcept {
  const std::uint64_t* ste = const_cast<StreamTable*>(this)->entry(sid, false);
  return ste == nullptr ? 0 : ste[word];
}

void write_context_descriptor(GuestMemory& memory, Gpa at, const PageTable& table,
                              std::uint16_t asid) noexcept {
  constexpr std::uint64_t kEpd1 = 1ULL << 30;
  constexpr std::uint64_t kCdValid = 1ULL << 31;
  constexpr std::uint64_t kIps40 = 2ULL << 32;
  constexpr std::uint64_t kAa64 = 1ULL << 41;
  constexpr std::uint64_t kRecord = 1ULL << 45;
  constexpr std::uint64_t kAbort = 1ULL << 46;
  constexpr std::uint64_t kAset = 1ULL << 47;
  // Normal memory, write-back, in attribute 0.
  constexpr std::uint64_t kMair = 0xff;
  const std::uint64_t tsz = 64 - table.input_bits();
  const std::uint64_t cacheable = 1ULL << 8 | 1ULL << 10 | 3ULL << 12;
  store_relaxed(memory.word(at + 8), table.root().value);
  store_relaxed(memory.word(at + 24), kMair);
  store_release(memory.word(at), tsz | cacheable | kEpd1 | kCdValid | kIps40 | kAa64 | kRecord |
                                     kAbort | kAset | std::uint64_t{asid} << 48);
}

}  // namespace faultline::guest
