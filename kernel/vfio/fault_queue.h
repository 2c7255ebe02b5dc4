// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <cerrno>
#include <cstdint>
#include <string>
#include <utility>

#include "kernel/base/result.h"
#include "kernel/sys.h"
#include "kernel/uapi/vfio_nested.h"
#include "kernel/vfio/device.h"
#include "kernel/vfio/geometry.h"
#include "kernel/vfio/mapping.h"
#include "kernel/vfio/profile.h"

namespace faultline::vfio {

/// A device's pair of fault regions, negotiated, checked and mapped: what a FaultRegion polls.
///
/// The device's file stays open somewhere else for as long as this lives; `fd` is borrowed.
template <Syscalls Sys>
struct FaultQueue {
  int fd = -1;
  std::string name;            ///< of the device
  std::uint64_t prod_at = 0;   ///< file offset of the producer region
  std::uint64_t cons_at = 0;   ///< file offset of the consumer region
  Geometry geometry;           ///< the ABI in force, entries, their size and place
  bool negotiated_now = true;  ///< false: the ABI had been chosen before (resume with a position)
  Mapping<Sys> producer;       ///< from region offset `mapped_at`
  std::uint64_t mapped_at = 0;
  Mapping<Sys> consumer;  ///< ABI 2: the consumer region's page

  /// The mapped ring's first slot.
  [[nodiscard]] const unsigned char* ring() const noexcept {
    return producer.data() + (geometry.offset - mapped_at);
  }
};

/// Find a device's fault regions, agree on the ABI, read and check the geometry, map the queue.
///
/// choice   kAuto takes the highest that both sides know; a higher one than the kernel's is refused
/// errors   one line for each way in which it can go wrong: no such regions, regions of a later
///          revision of the series, no PRODUCER_FAULT capability, version refused, another version
///          chosen before, geometry that makes no sense or lies outside of what may be mapped
/// source   the seed; v7 20–22/23; doc/fault-abi-2.md
template <Syscalls Sys>
Result<FaultQueue<Sys>> open_fault_queue(Device<Sys>& device, AbiChoice choice = AbiChoice::kAuto) {
  Sys& sys = device.sys();
  const auto where = "device " + device.name();
  auto prod =
      device.find_region(uapi::kVfioRegionTypeNested, uapi::kVfioRegionSubtypeNestedFaultProd);
  if (!prod) return fail(std::move(prod.error()), "no producer fault region");
  auto cons =
      device.find_region(uapi::kVfioRegionTypeNested, uapi::kVfioRegionSubtypeNestedFaultCons);
  if (!cons) return fail(std::move(cons.error()), "no consumer fault region (v9 or later?)");
  if (auto ok = check_regions(*prod, *cons); !ok) return fail(std::move(ok.error()), where);
  const auto chosen = choose_abi(*prod, choice);
  if (!chosen) return fail(chosen.error(), where);
  std::uint32_t abi = *chosen;

  FaultQueue<Sys> queue;
  queue.fd = device.fd();
  queue.name = device.name();
  queue.prod_at = prod->file_offset;
  queue.cons_at = cons->file_offset;

  const auto read_header = [&](uapi::vfio_region_fault_prod& header) {
    return sys.pread(queue.fd, &header, sizeof header, static_cast<off_t>(queue.prod_at));
  };
  // The producer region cannot be read before an ABI is chosen: that is how a chosen one shows.
  uapi::vfio_region_fault_prod header{};
  ssize_t got = read_header(header);
  queue.negotiated_now = got == -EINVAL;
  // Any other failure says nothing: choosing again would put a live cons back to 0.
  if (queue.negotiated_now) {
    const uapi::vfio_region_fault_cons ask{.version = abi, .cons = 0};
    // Version 2 takes its index from the mapped page only, so only the version is written.
    const std::size_t bytes = abi == 1 ? sizeof ask : sizeof ask.version;
    const ssize_t put = sys.pwrite(queue.fd, &ask, bytes, static_cast<off_t>(queue.cons_at));
    if (put < 0) {
      return fail(static_cast<int>(-put),
                  where + ": the kernel refused fault ABI " + std::to_string(abi));
    }
    if (static_cast<std::size_t>(put) != bytes) {
      return fail(0, where + ": the kernel took " + std::to_string(put) + " of " +
                         std::to_string(bytes) + " bytes that choose the fault ABI");
    }
    got = read_header(header);
  }
  if (got < 0) return fail(static_cast<int>(-got), where + ": cannot read the producer header");
  if (static_cast<std::size_t>(got) != sizeof header) {
    return fail(0, where + ": only " + std::to_string(got) + " bytes of the producer header came");
  }
  // Version 2 says its number; version 1 on the real v7 leaves 0xffffffff there for ever.
  const std::uint32_t in_force = header.version == 2 ? 2 : 1;
  if (in_force != abi) {
    if (queue.negotiated_now || choice != AbiChoice::kAuto) {
      return fail(0, where + ": fault ABI " + std::to_string(in_force) + " is in force, not " +
                         std::to_string(abi) +
                         "; it is fixed until the device's last descriptor is closed");
    }
    abi = in_force;
  }
  RegionInfo prod_now = std::move(*prod);
  RegionInfo cons_now = std::move(*cons);
  if (abi == 2) {
    // The areas follow the ABI: only now does the header page belong to them.
    auto producer = device.region(prod_now.index);
    if (!producer) return tl::unexpected(std::move(producer.error()));
    auto consumer = device.region(cons_now.index);
    if (!consumer) return tl::unexpected(std::move(consumer.error()));
    prod_now = std::move(*producer);
    cons_now = std::move(*consumer);
  }
  const auto plan = check_geometry(abi, header, prod_now, cons_now);
  if (!plan) return fail(plan.error(), where);
  queue.geometry = plan->geometry;
  queue.mapped_at = plan->producer.offset;

  auto mapped = Mapping<Sys>::map(sys, queue.fd, queue.prod_at + plan->producer.offset,
                                  plan->producer.size, PROT_READ, where + ": fault queue");
  if (!mapped) return tl::unexpected(std::move(mapped.error()));
  queue.producer = std::move(*mapped);
  if (abi == 2) {
    auto page =
        Mapping<Sys>::map(sys, queue.fd, queue.cons_at + plan->consumer.offset, plan->consumer.size,
                          PROT_READ | PROT_WRITE, where + ": consumer index");
    if (!page) return tl::unexpected(std::move(page.error()));
    queue.consumer = std::move(*page);
  }
  return queue;
}

}  // namespace faultline::vfio
