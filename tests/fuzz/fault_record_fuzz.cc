// SPDX-License-Identifier: BSD-3-Clause
// Fault records of both ABIs: decoded, encoded again, and made into the guest's event.
#include "kernel/vfio/fault_record.h"

#include "engine/viommu/transcode.h"
#include "tests/fuzz/input.h"

namespace faultline::fuzz {
namespace {

using Form = FaultRecord::Form;

std::uint64_t number(const std::uint8_t* at, unsigned size) {
  std::uint64_t value = 0;
  for (unsigned i = 0; i < size; ++i) value |= std::uint64_t{at[i]} << 8 * i;
  return value;
}

/// What v7 cannot have meant, by byte offsets of struct iommu_fault.
bool sound(const std::uint8_t* raw) {
  const std::uint64_t flags = number(raw + (number(raw, 4) == 1 ? 12 : 8), 4);
  if (number(raw, 4) == 1) {
    if (flags > 0xf || number(raw + 8, 4) > 8) return false;
    if ((flags & 1) != 0 && number(raw + 16, 4) >= 1 << 20) return false;
    return (flags & 2) == 0 || number(raw + 20, 4) <= 7;
  }
  if (number(raw, 4) != 2) return false;
  return ((flags & 1) == 0 || number(raw + 12, 4) < 1 << 20) && number(raw + 20, 4) <= 7;
}

void check_event(const FaultRecord& record, std::uint32_t sid) {
  const viommu::Event stalled = viommu::stalled_event(record, StreamId{sid});
  hold(stalled.word[0] >> 32 == sid, "the host's StreamID reaches the guest with a page request");
  viommu::Event event;
  viommu::TranscodeCounts counts;
  const bool made = viommu::transcode(record, StreamId{sid}, event, counts);
  hold(made == (record.form == Form::kReason || record.form == Form::kRawEvent),
       "a record is an event, or it is lost");
  hold(made || counts.malformed + counts.page_request == 1, "a record is lost and not counted");
  if (!made) return;
  hold(event.word[0] >> 32 == sid, "the host's StreamID reaches the guest");
  if (record.form == Form::kRawEvent) {
    hold(static_cast<std::uint32_t>(event.word[0]) == static_cast<std::uint32_t>(record.event[0]) &&
             std::memcmp(event.word + 1, record.event + 1, 24) == 0,
         "a raw event is changed");
    return;
  }
  const auto id = event.word[0] & viommu::event::kId;
  hold((id >= 8 && id <= 0xb) || (id >= 0x10 && id <= 0x13), "an event that version 1 cannot mean");
  hold((event.word[1] & viommu::event::kStall) == 0 &&
           static_cast<std::uint16_t>(event.word[1]) == 0,
       "a stall that nobody may answer");
  if ((event.word[0] & viommu::event::kSsv) != 0) {
    hold((event.word[0] >> 12 & 0xfffff) == record.pasid, "the SubstreamID");
  }
}

void version1(Input& in, std::uint32_t sid) {
  const bool shifted = in.flag();
  uapi::iommu_fault raw;
  in.fill(&raw, sizeof raw);
  std::uint8_t bytes[sizeof raw];
  std::memcpy(bytes, &raw, sizeof raw);
  vfio::FaultStats stats;
  const FaultRecord r = vfio::decode_fault1(raw, shifted, stats);
  check_event(r, sid);
  hold((r.form == Form::kMalformed) == !sound(bytes), "malformed or not against the rules");
  hold(stats.malformed == (r.form == Form::kMalformed ? 1 : 0), "malformed is not counted");
  const unsigned flags = (r.has_pasid ? 1 : 0) | (r.has_perm ? 2 : 0) | (r.has_addr ? 4 : 0) |
                         (r.has_fetch_addr ? 8 : 0);
  if (r.form == Form::kReason) {
    hold(number(bytes, 4) == 1 && number(bytes + 8, 4) == static_cast<unsigned>(r.reason),
         "reason");
    hold(number(bytes + 12, 4) == flags, "flags");
    hold(r.pasid == (r.has_pasid ? number(bytes + 16, 4) : 0), "PASID");
    hold(r.perm == (r.has_perm ? number(bytes + 20, 4) : 0), "permissions");
    hold(r.addr == (r.has_addr ? number(bytes + 24, 8) : 0), "address");
    const std::uint64_t fetch = number(bytes + 32, 8);
    hold(r.fetch_addr == (!r.has_fetch_addr ? 0 : shifted ? fetch * 8 : fetch), "fetch address");
    hold(stats.guessed == (r.reason == FaultReason::kUnknown && r.has_addr ? 1 : 0), "guessed");
  } else if (r.form == Form::kPageRequest) {
    hold(number(bytes, 4) == 2 && flags >= 6, "page request");
    hold(r.group == number(bytes + 16, 4) && r.addr == number(bytes + 24, 8), "group");
    hold(r.last_page == ((number(bytes + 8, 4) & 2) != 0), "last page");
  } else {
    hold(r.form == Form::kMalformed && flags == 0 && r.pasid == 0 && r.addr == 0,
         "something of a malformed record is left");
  }
  hold(r.pasid < 1 << 20 && r.perm <= 7, "out of range");
}

void version2(Input& in, std::uint32_t sid) {
  uapi::vfio_fault_record2 raw;
  in.fill(&raw, sizeof raw);
  vfio::FaultStats stats;
  const FaultRecord r = vfio::decode_fault2(raw, stats);
  check_event(r, sid);
  hold(r.form == Form::kRawEvent && std::memcmp(r.event, raw.event, 32) == 0, "the event");
  hold(stats.unknown_flags == (raw.flags != 0 ? 1 : 0), "unknown flags");
  hold(r.lost_before == 0 && !r.lost_before_is_guess, "loss is the region's to tell");
}

void run(Input in) {
  const std::uint8_t abi = in.byte();
  const std::uint32_t sid = in.u32();
  if ((abi & 1) != 0) {
    version1(in, sid);
  } else {
    version2(in, sid);
  }
}

}  // namespace
}  // namespace faultline::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  faultline::fuzz::run({data, size});
  return 0;
}
