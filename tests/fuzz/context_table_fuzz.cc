// SPDX-License-Identifier: BSD-3-Clause
// A stream's context descriptors: listed in pieces or read one by one, the same are found, and no
// guest can make the engine read on and on.
#include <array>
#include <optional>
#include <vector>

#include "engine/viommu/stream_table.h"
#include "tests/fuzz/guest.h"

namespace faultline::fuzz {
namespace {

using viommu::Context;
using viommu::ContextWalk;
using Wide = unsigned __int128;

constexpr std::uint64_t kRam = 0x4000'0000;
constexpr std::size_t kBytes = 0x4000;

GuardedMemory& memory() {
  static GuardedMemory made{{kRam, kBytes}, {kRam + kBytes + 0x2000, 0x1000}};
  return made;
}

/// The context at `ssid`, by the architecture's layout.
std::optional<Context> naive(const Stage1Config& c, std::uint32_t ssid) {
  if (c.mode != Stage1Config::Mode::kTranslate || c.s1cdmax > 20 || ssid >> c.s1cdmax != 0)
    return {};
  const bool linear = c.s1cdmax == 0 || c.s1fmt == 0;
  const unsigned split = linear ? 0 : c.s1fmt == 1 ? 6 : 10;
  Wide bytes = Wide{64} << c.s1cdmax;
  if (!linear) bytes = c.s1cdmax > split ? Wide{8} << (c.s1cdmax - split) : 8;
  bytes = std::max<Wide>(bytes, 64);
  const auto base = static_cast<std::uint64_t>(c.cd_table / bytes * bytes);
  Wide at = base + Wide{ssid} * 64;
  if (!linear) {
    std::uint64_t descriptor = 0;
    if (!memory().word(base + Wide{ssid >> split} * 8, descriptor) || descriptor % 2 == 0)
      return {};
    at = (descriptor >> 12 << 12 & 0xf'ffff'ffff'ffff) + Wide{ssid % (1U << split)} * 64;
  }
  std::uint64_t word[8];
  for (unsigned i = 0; i < 8; ++i) {
    if (!memory().word(at + 8 * i, word[i])) return {};
  }
  if ((word[0] >> 31 & 1) == 0) return {};
  static constexpr std::uint8_t kTg0[] = {12, 16, 14, 0};
  static constexpr std::uint8_t kTg1[] = {0, 14, 12, 16};
  Context out;
  out.ssid = ssid;
  out.asid = static_cast<std::uint16_t>(word[0] >> 48);
  out.granule0_log2 = (word[0] >> 14 & 1) != 0 ? 0 : kTg0[word[0] >> 6 & 3];
  out.granule1_log2 = (word[0] >> 30 & 1) != 0 ? 0 : kTg1[word[0] >> 22 & 3];
  return out;
}

void check_one(const Stage1Config& config, std::uint32_t ssid) {
  Context out;
  const bool read = viommu::read_context(memory().get(), config, ssid, out);
  const auto expected = naive(config, ssid);
  hold(read == expected.has_value(), "a context is there or not");
  if (read) hold(out == *expected, "another context");
}

void check_list(Input& in, const Stage1Config& config) {
  const std::size_t room = 1 + in.below(16);
  const std::size_t budget = in.below(64);
  std::array<Context, 16> out;
  std::vector<Context> all;
  ContextWalk walk;
  // Without a bound of its own a walk over 2^20 contexts would take the fuzzer's whole time.
  for (int calls = 0; calls < 300 && !walk.done; ++calls) {
    const std::uint32_t before = walk.next;
    const std::size_t n =
        viommu::list_contexts(memory().get(), config, walk, std::span(out).first(room), budget);
    hold(n <= room, "more contexts than there was room");
    hold(walk.done || walk.next > before, "no progress");
    const unsigned leaf = config.s1cdmax == 0 || config.s1fmt == 0 ? 0 : config.s1fmt == 1 ? 6 : 10;
    hold(walk.next - before <= (std::max<std::size_t>(budget, 2) << leaf), "beyond the budget");
    all.insert(all.end(), out.begin(), out.begin() + static_cast<std::ptrdiff_t>(n));
  }
  std::size_t i = 0;
  const std::uint32_t seen = std::min(walk.next, std::uint32_t{1100});
  for (std::uint32_t ssid = 0; ssid < seen; ++ssid) {
    const auto expected = naive(config, ssid);
    if (!expected) continue;
    hold(i < all.size() && all[i] == *expected, "a context is passed over, or doubled");
    ++i;
  }
  hold(i == all.size() || all[i].ssid >= seen, "a context that is not there");
}

void run(Input in) {
  Stage1Config config;
  config.mode = static_cast<Stage1Config::Mode>(in.byte() % 8 < 6 ? 2 : in.byte() % 3);
  config.s1fmt = in.byte() % 3;
  config.s1cdmax = in.byte() % 22;
  config.cd_table =
      in.flag() ? kRam + 64 * std::uint64_t{in.byte()} : in.u64() & 0xf'ffff'ffff'ffc0;
  memory().clear();
  for (unsigned patches = in.byte() % 24; patches > 0; --patches) {
    const std::size_t word = in.flag() ? in.below(kBytes / 8) : in.byte() % 64 * 8;
    std::uint64_t value = in.u64();
    if (in.flag()) value = (value & 0xffff'0000'8000'0fff) | kRam | (value & 0x7000);
    std::memcpy(memory().host(0) + 8 * word, &value, sizeof value);
  }
  check_list(in, config);
  for (int n = 0; n < 4; ++n) check_one(config, in.flag() ? in.u32() : in.byte());
}

}  // namespace
}  // namespace faultline::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  faultline::fuzz::run({data, size});
  return 0;
}
