// SPDX-License-Identifier: BSD-3-Clause
#include "tests/prove/script.h"

#include <algorithm>
#include <utility>

#include "tests/engine/command_duty_world.h"

namespace faultline::prove {
namespace {

using engine::command_world::World;
using test::CachedEntry;
using viommu::RawCommand;

// Four blocks of 2 MiB side by side, and in each the same few pages, so that things meet.
constexpr std::uint64_t kBase = 0x40'0000'0000;
constexpr unsigned kBlock = 21;
constexpr std::uint32_t kBlocks = 4;
constexpr std::uint32_t kPages = 24;
constexpr std::uint32_t kAsids = 3;

std::uint64_t page(Random& random) {
  return kBase + (std::uint64_t{random.below(kBlocks)} << kBlock) +
         (std::uint64_t{random.below(kPages)} << 12U);
}

CachedEntry tlb_entry(Random& random, const Setting& setting) {
  CachedEntry e;
  e.asid = static_cast<std::uint16_t>(1 + random.below(kAsids));
  e.global = setting.globals && random.one_in(4);
  e.granule_log2 = setting.sole_granule || !random.one_in(3)
                       ? std::uint8_t{12}
                       : static_cast<std::uint8_t>(14 + 2 * random.below(2));
  e.table = random.one_in(4);
  e.level = static_cast<std::uint8_t>(e.table || random.one_in(4) ? 1 + random.below(2) : 3);
  const unsigned shift = e.granule_log2 + (3U - e.level) * (e.granule_log2 - 3U);
  e.bytes = std::uint64_t{1} << shift;
  e.addr = page(random) & ~(e.bytes - 1);
  return e;
}

RawCommand by_address(Random& random, const Setting& setting, std::uint64_t& walk) {
  const bool vaa = random.one_in(12);
  RawCommand c;
  c.word[0] = vaa ? 0x13U : 0x12U;
  if (!vaa) c.word[0] |= std::uint64_t{1 + random.below(kAsids)} << 48U;
  // Mostly the page after the last one, as unmapping does.
  walk = random.below(4) != 0 ? walk + 0x1000 : page(random);
  if (((walk - kBase) >> 12U & 511U) >= kPages) walk = page(random);
  std::uint64_t address = walk;
  if (random.one_in(3)) {
    const unsigned tg = setting.sole_granule ? 1U : 1U + random.below(3);
    const std::uint64_t num = random.one_in(8) ? random.below(32) : random.below(8);
    const std::uint64_t scale = random.one_in(16) ? random.below(12) : random.below(2);
    std::uint64_t ttl = random.one_in(3) ? 1 + random.below(3) : 0;
    if (num == 0 && scale == 0 && ttl == 0 && !random.one_in(64)) ttl = 3;
    c.word[0] |= num << 12U | scale << 20U;
    c.word[1] |= std::uint64_t{tg} << 10U | ttl << 8U;
    const unsigned shift = 10 + 2 * tg;
    if (!random.one_in(16)) address = address >> shift << shift;
    if (ttl == 2 && random.one_in(2)) address = address >> kBlock << kBlock;
  }
  c.word[1] |= address | (random.below(3) != 0 ? 1U : 0U);
  return c;
}

RawCommand atc(Random& random) {
  RawCommand c;
  c.word[0] = 0x40 | std::uint64_t{sid_of(random.below(kDevices))} << 32U;
  if (random.one_in(2)) {
    c.word[0] |= 1U << 11U | std::uint64_t{random.below(2)} << 12U | random.below(2) << 9U;
  }
  const std::uint64_t size = random.one_in(16) ? 52 : random.below(random.one_in(8) ? 12 : 4);
  const std::uint64_t address = page(random);
  // 52 is everything, and names no address.
  c.word[1] = size == 52 ? size : address >> (12 + size) << (12 + size) | size;
  return c;
}

RawCommand command(Random& random, const Setting& setting, std::uint64_t& walk,
                   std::uint32_t& msi) {
  namespace w = engine::command_world;
  const std::uint32_t sid = sid_of(random.below(kDevices));
  switch (random.below(64)) {
    case 0:
      return w::tlbi_all();
    case 1:
    case 2:
      return w::tlbi_asid(static_cast<std::uint16_t>(1 + random.below(kAsids)));
    case 3:
    case 4: {
      RawCommand c = w::cfgi_cd(sid);
      c.word[0] |= std::uint64_t{random.below(2)} << 12U;
      c.word[1] = random.below(2);
      return c;
    }
    case 5:
      return w::cfgi_cd_all(sid);
    case 6:
      return random.one_in(4) ? w::cfgi_ste(sid) : w::prefetch();
    case 7:
      return random.one_in(16) ? w::illegal() : w::cfgi_cd(1);
    case 8:
    case 9:
    case 10:
    case 11:
    case 12:
      return atc(random);
    case 13:
      ++msi;
      return w::sync_msi(World::kRam + 0x300000 + std::uint64_t{4 * (msi % 512)}, msi | 1U << 31U);
    case 14:
    case 15:
    case 16:
    case 17:
    case 18:
    case 19:
    case 20:
    case 21:
      return w::sync();
    default:
      return by_address(random, setting, walk);
  }
}

}  // namespace

viommu::Features features_of(const Setting& setting) noexcept {
  viommu::Features f;
  f.sid_bits = 6;
  f.ssid_bits = 2;
  f.ats = true;
  f.granule_16k = f.granule_64k = !setting.sole_granule;
  return f;
}

test::CacheWorld make_world(std::uint64_t seed, const Setting& setting) {
  Random random(seed ^ 0x77'7777);
  std::vector<CachedEntry> entries;
  std::vector<std::uint16_t> asids;
  for (std::size_t d = 0; d < kDevices; ++d) {
    for (std::uint32_t ssid = 0; ssid < 2; ++ssid) {
      CachedEntry e;
      e.where = CachedEntry::Where::kConfig;
      e.sid = sid_of(d);
      e.ssid = ssid;
      entries.push_back(e);
      asids.push_back(static_cast<std::uint16_t>(1 + random.below(kAsids)));
    }
  }
  for (int i = 0; i < 20; ++i) entries.push_back(tlb_entry(random, setting));
  for (int i = 0; i < 6; ++i) {
    CachedEntry e;
    e.where = CachedEntry::Where::kAtc;
    e.sid = sid_of(random.below(kDevices));
    e.with_ssid = random.one_in(2);
    e.ssid = e.with_ssid ? random.below(2) : 0;
    e.bytes = std::uint64_t{1} << (random.one_in(4) ? kBlock : 12U);
    e.addr = page(random) & ~(e.bytes - 1);
    entries.push_back(e);
  }
  return {std::move(entries), asids};
}

void make_script(std::uint64_t seed, const Setting& setting, std::size_t commands, bool failures,
                 Script& out) {
  Random random(seed);
  out.clear();
  std::uint64_t walk = page(random);
  std::uint32_t msi = random.below(512);
  const std::uint32_t burst = 1 + random.below(random.one_in(2) ? 8 : 64);
  Event event;
  for (std::size_t placed = 0; placed < commands;) {
    event = {};
    event.kind = Event::Kind::kPlace;
    for (std::uint32_t n = random.below(burst + 1); n != 0; --n, ++placed) {
      event.raw = command(random, setting, walk, msi);
      out.push_back(event);
    }
    event = {};
    if (!random.one_in(4)) {
      event.kind = Event::Kind::kRing;
      out.push_back(event);
    }
    event.kind = Event::Kind::kRound;
    for (std::uint32_t n = random.below(5); n != 0; --n) {
      event.passes = 50 + random.below(random.one_in(8) ? 30'000 : 1000);
      event.fail = failures && random.one_in(12);
      event.refuse = failures && random.one_in(8);
      event.executed = static_cast<std::uint8_t>(random.below(8));
      event.reported = static_cast<std::uint16_t>(event.executed + random.below(8));
      out.push_back(event);
    }
  }
}

std::string to_text(const Event& event, const viommu::Features& features) {
  switch (event.kind) {
    case Event::Kind::kRing:
      return "ring";
    case Event::Kind::kRound:
      return "round +" + std::to_string(event.passes) + " ns" +
             (event.fail ? ", the kernel fails after " + std::to_string(event.executed) +
                               " and reports " + std::to_string(event.reported)
                         : "") +
             (event.refuse ? ", refuses stage 1" : "");
    case Event::Kind::kPlace:
      break;
  }
  viommu::Command c;
  if (viommu::decode(event.raw, features, c) != viommu::CommandError::kNone) return "illegal";
  if (c.is_sync()) return c.msi_addr != 0 ? "SYNC msi" : "SYNC";
  if (c.is_operation()) return test::to_text(viommu::to_operation(c));
  return "opcode " + std::to_string(static_cast<unsigned>(c.opcode)) + " sid " +
         std::to_string(c.sid);
}

}  // namespace faultline::prove
