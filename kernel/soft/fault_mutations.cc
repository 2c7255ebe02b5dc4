// SPDX-License-Identifier: BSD-3-Clause
// The fault port's deliberate departures (mutation.h); nothing here runs without one.
#include <algorithm>
#include <cerrno>
#include <cstring>

#include "kernel/base/shared.h"
#include "kernel/soft/fault_port.h"
#include "kernel/uapi/vfio_nested.h"

namespace faultline::soft {

void FaultPort::mutate_header(void* out, std::size_t size, std::uint64_t at) const {
  uapi::vfio_region_fault_prod header{};
  if (at != 0 || size != sizeof header) return;
  std::memcpy(&header, out, size);
  if (config_.mutation == Mutation::kGeometryZero) header.nb_entries = header.entry_size = 0;
  if (config_.mutation == Mutation::kProdVersionFilled) header.version = region_.abi;
  std::memcpy(out, &header, size);
}

ssize_t FaultPort::write_mutated(const void* in, std::size_t size, std::uint64_t at) {
  std::uint32_t words[2] = {region_.abi, region_.cons};
  if (at < sizeof words) {
    std::memcpy(reinterpret_cast<std::byte*>(words) + at, in,
                std::min<std::size_t>(size, sizeof words - at));
  }
  const auto retry = [&] {
    return static_cast<ssize_t>(fl_region_write_cons(&region_, 0, words, sizeof words));
  };
  switch (config_.mutation) {
    case Mutation::kAbiRefused:
      return -EINVAL;
    case Mutation::kConsumerIgnored:
      if (region_.abi != 0) return static_cast<ssize_t>(size);
      break;
    case Mutation::kAbiCanChange:
      if (region_.abi != 0 && words[0] != region_.abi) {
        reset_region();
        words[1] = 0;
        return retry() < 0 ? -EINVAL : static_cast<ssize_t>(size);
      }
      break;
    case Mutation::kAbiZeroAccepted:
      if (words[0] == 0) {
        words[0] = 1;
        return retry() < 0 ? -EINVAL : static_cast<ssize_t>(size);
      }
      break;
    case Mutation::kAbiAboveMaxAccepted:
      if (region_.abi == 0 && words[0] > config_.max_fault_abi) {
        words[0] = config_.max_fault_abi;
        return retry() < 0 ? -EINVAL : static_cast<ssize_t>(size);
      }
      break;
    case Mutation::kConsAtSizeAccepted:
      if (region_.abi == 1 && words[1] == region_.ring1.nb) {
        region_.cons = 0;
        return static_cast<ssize_t>(size);
      }
      break;
    case Mutation::kBadConsTaken:
      if (region_.abi == 1 && words[1] >= region_.ring1.nb) {
        region_.cons = words[1] % region_.ring1.nb;
        return -EINVAL;
      }
      break;
    default:
      break;
  }
  return static_cast<ssize_t>(fl_region_write_cons(&region_, at, in, size));
}

fl_produced FaultPort::produce_mutated(const fl_event& event, std::uint64_t timestamp_ns) {
  if (config_.mutation == Mutation::kFaultsNotReported) return FL_NOT_DUE;
  fl_event e = event;
  if (config_.mutation == Mutation::kRecordShifted) e.w[2] += 8;
  if (config_.mutation == Mutation::kStage2FaultPropagates) e.w[1] &= ~(std::uint64_t{1} << 39U);
  const std::uint32_t nb = region_.ring1.nb;
  const std::uint32_t prod = load_relaxed(*region_.ring1.prod);
  if (region_.abi == 1 && config_.mutation == Mutation::kProdNotMasked && prod == nb) {
    store_release(*region_.ring1.prod, 0U);
  }
  fl_produced produced = fl_region_produce(&region_, &e, timestamp_ns);
  if (region_.abi == 1 && config_.mutation == Mutation::kProdNotMasked && produced == FL_PRODUCED &&
      load_relaxed(*region_.ring1.prod) == 0) {
    store_release(*region_.ring1.prod, nb);
  }
  const bool last_slot = config_.mutation == Mutation::kNoEmptySlot;
  if (region_.abi == 1 && produced == FL_DROPPED_FULL &&
      (last_slot || config_.mutation == Mutation::kOverwriteWhenFull)) {
    const std::uint32_t cons = region_.cons;
    region_.cons = (cons + 1) % nb;
    produced = fl_region_produce(&region_, &e, timestamp_ns);
    if (last_slot) region_.cons = cons;
  }
  return produced;
}

}  // namespace faultline::soft
