// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <cstdint>

#include "kernel/base/clock.h"

namespace faultline::vfio {

/// What one fault region has been through; read by its own shard only.
struct FaultStats {
  std::uint64_t records = 0;     ///< handed out by poll()
  std::uint64_t malformed = 0;   ///< of these: the kernel's record made no sense
  std::uint64_t guessed = 0;     ///< of these: version 1 reason 0 with an address
  std::uint64_t prod_reads = 0;  ///< ABI 1: preads of prod
  std::uint64_t prod_read_failed = 0;
  std::uint64_t prod_read_short = 0;
  std::uint64_t bad_prod = 0;       ///< prod outside of the ring, or past what cons allows
  std::uint64_t early_slot = 0;     ///< ABI 1: a slot had changed, prod had not moved yet
  std::uint64_t bad_sequence = 0;   ///< ABI 2: a record whose sequence number went backward
  std::uint64_t unknown_flags = 0;  ///< ABI 2: a record with flags that nobody has defined
  std::uint64_t resyncs = 0;        ///< position given up, reported as loss
  std::uint64_t commits = 0;
  std::uint64_t commit_failed = 0;
  std::uint64_t commit_short = 0;
  std::uint64_t backstops = 0;       ///< ABI 1: prod was read because of the eventfd
  std::uint64_t backstop_finds = 0;  ///< of these: and slot watching had seen nothing
  std::uint64_t possible_loss = 0;   ///< occasions on which the kernel may have dropped records
  std::uint64_t exact_loss = 0;      ///< ABI 2: records that the kernel says it dropped
};

/// How to read a kernel's fault regions.
struct FaultOptions {
  /// ABI 1 of the real v7 stores fetch_addr >> 3 (KernelProfile::v7_quirks()).
  bool fetch_addr_shifted = false;
  /// Infer loss by v7's masked rule, which reports full too early when nb_entries is no power of
  /// two. Off: by true free space; only for a kernel known to be without that defect.
  bool masked_full_rule = true;
  /// ABI 1: how often the eventfds are looked at; the bound on detection of a record equal to the
  /// one a lap before.
  Nanos backstop_period = 100'000;
};

}  // namespace faultline::vfio
