// SPDX-License-Identifier: BSD-3-Clause
// A guest's stream table: found and decoded as the architecture says, whatever the guest wrote.
#include "engine/viommu/stream_table.h"

#include <array>

#include "tests/fuzz/guest.h"

namespace faultline::fuzz {
namespace {

using viommu::Features;
using viommu::StreamEntry;
using viommu::StreamStatus;
using viommu::StreamTable;
using Mode = Stage1Config::Mode;
using Wide = unsigned __int128;

constexpr std::uint64_t kRam = 0x4000'0000;
constexpr std::size_t kBytes = 0x4000;

GuardedMemory& memory() {
  static GuardedMemory made{{kRam, kBytes}, {kRam + kBytes, 0x1000}, {kRam + 0x10000, 0x1000}};
  return made;
}

std::uint64_t field(std::uint64_t word, unsigned low, unsigned bits) {
  return bits == 64 ? word : word >> low & ((std::uint64_t{1} << bits) - 1);
}

/// The registers as the architecture reads them, with LOG2SIZE capped at what is offered.
struct Registers {
  Registers(std::uint64_t base_register, std::uint32_t config, const Features& f) {
    const unsigned written = config & 0x3f;
    log2size = std::min(written, f.sid_bits);
    two_level = f.two_level_streams && (config >> 16 & 3) == 1;
    split = config >> 6 & 0x1f;
    if (split != 8 && split != 10) split = 6;
    Wide bytes = Wide{64} << written;
    if (two_level) bytes = written > split ? Wide{8} << (written - split) : 8;
    bytes = std::max<Wide>(bytes, 64);
    if (bytes > Wide{1} << 52) bytes = Wide{1} << 52;
    base = static_cast<std::uint64_t>(field(base_register, 6, 46) * 64 / bytes * bytes);
  }
  std::uint64_t base;
  unsigned log2size;
  unsigned split;
  bool two_level;
};

StreamStatus locate(const Registers& r, std::uint32_t sid, Wide& at) {
  if (Wide{sid} >= Wide{1} << r.log2size) return StreamStatus::kBadStreamId;
  at = Wide{r.base} + Wide{sid} * 64;
  if (!r.two_level) return StreamStatus::kValid;
  std::uint64_t descriptor = 0;
  if (!memory().word(Wide{r.base} + Wide{sid >> r.split} * 8, descriptor)) {
    return StreamStatus::kFetchAbort;
  }
  const auto span = field(descriptor, 0, 5);
  const std::uint64_t leaf = sid % (1U << r.split);
  if (span == 0 || span > 11 || span > r.split + 1 || leaf >= 1U << (span - 1)) {
    return StreamStatus::kBadStreamId;
  }
  const std::uint64_t bytes = std::uint64_t{64} << (span - 1);
  at = Wide{field(descriptor, 6, 46) * 64 / bytes * bytes} + leaf * 64;
  return StreamStatus::kValid;
}

/// SteIllegal() for what is offered.
bool legal(const std::array<std::uint64_t, 8>& ste, const Features& f) {
  const auto config = field(ste[0], 1, 3);
  if (field(ste[0], 0, 1) == 0 || config >= 6) return false;
  if (config != 5) return true;
  const auto cdmax = field(ste[0], 59, 5);
  const auto fmt = field(ste[0], 4, 2);
  if (field(ste[1], 27, 1) != 0 && !f.stalls) return false;
  if (f.ats && field(ste[1], 28, 2) == 2) return false;
  if (f.ssid_bits != 0 && cdmax > f.ssid_bits) return false;
  if (f.ssid_bits != 0 && cdmax != 0 && !f.two_level_contexts && (fmt == 1 || fmt == 2))
    return false;
  return field(ste[0], 6, 46) * 64 < std::uint64_t{1} << f.oas_bits;
}

void check_config(const std::array<std::uint64_t, 8>& ste, const Features& f,
                  const StreamEntry& entry) {
  const Stage1Config& c = entry.config;
  hold(c.ste[0] == ste[0] && c.ste[1] == ste[1], "the words of the STE");
  hold((entry.status == StreamStatus::kValid) == legal(ste, f), "legal or not");
  const auto config = field(ste[0], 1, 3);
  const Mode mode = !legal(ste, f) || config < 4 ? Mode::kAbort
                    : config == 4                ? Mode::kBypass
                                                 : Mode::kTranslate;
  hold(c.mode == mode, "a stream is let through that must not");
  if (mode != Mode::kTranslate) {
    hold(c.cd_table == 0 && c.s1cdmax == 0, "contexts of a stream without any");
    return;
  }
  hold(c.cd_table == field(ste[0], 6, 46) * 64, "the context table");
  hold(c.s1cdmax == (f.ssid_bits == 0 ? 0 : field(ste[0], 59, 5)), "S1CDMax");
  hold(c.s1fmt == (c.s1cdmax == 0 ? 0 : field(ste[0], 4, 2) % 3), "S1Fmt");
  hold(c.s1dss == (c.s1cdmax == 0 ? 0 : field(ste[1], 0, 2) % 3), "S1DSS");
}

void run(Input in) {
  const Features f = features(in);
  const std::uint64_t base = in.flag() ? kRam + 64 * std::uint64_t{in.byte()} : in.u64();
  const std::uint32_t config = in.u32();
  const StreamTable table = StreamTable::latch(base, config, f);
  const Registers expected(base, config, f);
  hold(table.base == expected.base && table.log2size == expected.log2size &&
           table.two_level == expected.two_level &&
           (!table.two_level || table.split == expected.split),
       "the latched registers");

  // The table where the input says, then the streams to look up.
  memory().clear();
  for (unsigned patches = in.byte() % 16; patches > 0; --patches) {
    const std::size_t word = in.below(kBytes / 8);
    std::uint64_t value = in.u64();
    const std::uint8_t how = in.byte();
    if ((how & 1) != 0) value = (value & 0xffff'0000'0000'0fff) | kRam | (value & 0x1f000);
    std::memcpy(memory().host(0) + 8 * word, &value, sizeof value);
  }
  for (unsigned n = 0; n < 8; ++n) {
    const std::uint32_t sid = in.flag() ? in.u32() : in.byte();
    const StreamEntry entry = viommu::read_stream(memory().get(), table, StreamId{sid}, f);
    Wide at = 0;
    StreamStatus status = locate(expected, sid, at);
    std::array<std::uint64_t, 8> ste{};
    for (unsigned i = 0; status == StreamStatus::kValid && i < 8; ++i) {
      if (!memory().word(at + 8 * i, ste[i])) status = StreamStatus::kFetchAbort;
    }
    if (status == StreamStatus::kValid) {
      check_config(ste, f, entry);
    } else {
      hold(entry.status == status, "why there is no entry");
      hold(entry.config == Stage1Config{}, "a stream without an entry aborts");
    }
  }
}

}  // namespace
}  // namespace faultline::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  faultline::fuzz::run({data, size});
  return 0;
}
