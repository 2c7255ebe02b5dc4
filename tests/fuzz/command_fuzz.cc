// SPDX-License-Identifier: BSD-3-Clause
// One command of a guest's queue: which are legal, what they mean, and that nothing is invalidated
// less than was meant.
#include "engine/viommu/command.h"

#include "tests/fuzz/guest.h"

namespace faultline::fuzz {
namespace {

using viommu::Command;
using viommu::CommandError;
using viommu::Features;
using viommu::Opcode;
using viommu::RawCommand;
using Wide = unsigned __int128;

std::uint64_t field(std::uint64_t word, unsigned low, unsigned bits) {
  std::uint64_t value = 0;
  for (unsigned i = 0; i < bits; ++i) value |= (word >> (low + i) & 1) << i;
  return value;
}

/// Legality by the tables of the architecture.
bool legal(const RawCommand& raw, const Features& f) {
  const auto op = field(raw.word[0], 0, 8);
  const bool ssec = field(raw.word[0], 10, 1) != 0;
  switch (op) {
    case 0x10:
    case 0x11:
    case 0x30:
      return true;
    case 0x12:
    case 0x13: {
      if (field(raw.word[1], 10, 2) == 0) return true;
      const auto tg = field(raw.word[1], 10, 2);
      auto ttl = field(raw.word[1], 8, 2);
      if (tg == 2 && ttl == 1) ttl = 0;
      return f.ranges && field(raw.word[0], 25, 1) == 0 && field(raw.word[1], 7, 1) == 0 &&
             (field(raw.word[0], 12, 5) != 0 || field(raw.word[0], 20, 5) != 0 || ttl != 0);
    }
    case 0x46:
      return field(raw.word[0], 12, 2) != 3;
    case 0x01:
    case 0x02:
    case 0x03:
    case 0x04:
    case 0x05:
    case 0x06:
      return !ssec;
    case 0x40:
      return f.ats && !ssec && field(raw.word[1], 0, 6) <= 52;
    case 0x41:
      return f.pri && !ssec && field(raw.word[1], 12, 2) != 3;
    case 0x44:
    case 0x45:
      return f.stalls && !ssec;
    default:
      return false;
  }
}

void check_tlbi(const RawCommand& raw, const Command& c) {
  hold(c.granule_log2 == 12 || c.granule_log2 == 14 || c.granule_log2 == 16, "granule");
  hold(c.pages >= 1, "an empty range");
  hold(c.addr % (std::uint64_t{1} << c.granule_log2) == 0, "the address is not aligned");
  const Wide top = static_cast<Wide>(1) << 64;
  const Wide end = c.addr + (static_cast<Wide>(c.pages) << c.granule_log2);
  hold(end <= top, "the range wraps");
  // What was meant, as far as it exists.
  const auto tg = field(raw.word[1], 10, 2);
  const std::uint64_t from = raw.word[1] & ~std::uint64_t{0xfff};
  Wide bytes = 4096;
  if (tg != 0) {
    bytes = static_cast<Wide>(field(raw.word[0], 12, 5) + 1)
            << field(raw.word[0], 20, 5) << (10 + 2 * tg);
    hold(c.granule_log2 == 10 + 2 * tg, "another granule");
  }
  hold(c.addr <= from && end >= std::min(top, from + bytes), "less is invalidated than was meant");
  hold(from - c.addr < Wide{1} << c.granule_log2, "the range begins too early");
  hold(end <= from + bytes + (Wide{1} << c.granule_log2), "much more is invalidated than meant");
  if (c.ttl != 0) {
    const unsigned block = c.granule_log2 + (3 - c.ttl) * (c.granule_log2 - 3);
    hold(tg != 0 && c.ttl <= 3 && from % (std::uint64_t{1} << block) == 0,
         "a misleading level hint");
  }
}

void check_operation(const Command& c) {
  const Operation op = viommu::to_operation(c);
  hold(op.asid == c.asid && op.sid == c.sid && op.ssid == c.ssid && op.addr == c.addr &&
           op.pages == c.pages && op.leaf == c.leaf && op.ttl == c.ttl,
       "an operation is not its command");
  const bool ranged = op.kind == OperationKind::kTlbVa || op.kind == OperationKind::kTlbVaa;
  hold(ranged == (c.opcode == Opcode::kTlbiNhVa || c.opcode == Opcode::kTlbiNhVaa), "its kind");
  hold((op.kind == OperationKind::kTlbAll) ==
           (c.opcode == Opcode::kTlbiNhAll || c.opcode == Opcode::kTlbiNsnhAll),
       "an operation that invalidates everything");
  hold(op.granule_log2 >= 12, "granule");
}

void check_stream(const RawCommand& raw, const Features& f, const Command& c) {
  const auto op = field(raw.word[0], 0, 8);
  if (op == 0x04) {
    const auto range = field(raw.word[1], 0, 5);
    const auto sid = field(raw.word[0], 32, 32);
    hold(c.sid <= c.last_sid(), "a range of streams that ends before it begins");
    hold(range == 31 ? c.sid == 0 && c.last_sid() == 0xffffffff
                     : c.sid <= sid && sid <= c.last_sid() &&
                           c.last_sid() - c.sid == (std::uint64_t{2} << range) - 1,
         "a range of streams");
  } else {
    hold(c.sid == field(raw.word[0], 32, 32) && c.last_sid() == c.sid, "StreamID");
  }
  hold(c.ssid >> f.ssid_bits == 0, "a SubstreamID beyond what is offered");
  hold(!c.ssid_valid || (field(raw.word[0], 11, 1) != 0 && f.ssid_bits != 0), "SSV");
}

void run(Input in) {
  const Features f = features(in);
  RawCommand raw;
  raw.word[0] = in.u64();
  raw.word[1] = in.u64();
  Command c;
  const CommandError error = viommu::decode(raw, f, c);
  hold((error == CommandError::kNone) == legal(raw, f), "legal or not against the architecture");
  if (error != CommandError::kNone) {
    hold(error == CommandError::kIllegal, "an error that decoding cannot have");
    return;
  }
  const auto op = field(raw.word[0], 0, 8);
  hold(static_cast<std::uint64_t>(c.opcode) == op, "opcode");
  hold(c.is_sync() == (op == 0x46), "SYNC");
  const bool has_asid = op == 0x11 || op == 0x12;
  hold(c.asid == (has_asid ? field(raw.word[0], 48, 16) : 0), "ASID");
  if (op == 0x12 || op == 0x13) {
    check_tlbi(raw, c);
  } else if (op == 0x46) {
    const bool msi = field(raw.word[0], 12, 2) == 1 && f.msi;
    hold(c.msi_addr == (msi ? field(raw.word[1], 2, 50) << 2 : 0), "MSI address");
    hold(c.msi_data == (msi ? field(raw.word[0], 32, 32) : 0), "MSI data");
  } else if (op < 0x10 || op >= 0x40) {
    check_stream(raw, f, c);
  }
  if (op == 0x40) {
    const auto size = field(raw.word[1], 0, 6);
    const std::uint64_t span = size < 52 ? std::uint64_t{1} << (12 + size) : 0;
    hold(c.pages == span >> 12 && c.granule_log2 == 12, "ATC span");
    hold(size == 52 ? c.addr == 0 : c.addr % span == 0 && raw.word[1] - c.addr < span,
         "ATC address");
    hold(!c.global || c.ssid_valid, "global without a SubstreamID");
  }
  if (op == 0x41) hold(c.response <= 2 && c.tag == field(raw.word[1], 0, 9), "response");
  if (op == 0x44) hold(c.tag == field(raw.word[1], 0, 16), "STAG");
  if (c.is_operation()) check_operation(c);
}

}  // namespace
}  // namespace faultline::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  faultline::fuzz::run({data, size});
  return 0;
}
