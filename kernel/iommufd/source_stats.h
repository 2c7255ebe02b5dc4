// SPDX-License-Identifier: BSD-3-Clause
// hot path: what the event files of one guest have been through.
#pragma once

#include <cstdint>

namespace faultline::iommufd {

/// Of an EventWatch.
struct WatchStats {
  std::uint64_t enters = 0;       ///< system calls made because the ring said so, or to arm polls
  std::uint64_t armed = 0;        ///< polls submitted, first ones and again
  std::uint64_t ended = 0;        ///< multishot polls that the kernel ended; armed again
  std::uint64_t completions = 0;  ///< poll results read
  std::uint64_t overflows = 0;    ///< times the completion ring had overflowed
  std::uint64_t bad_results = 0;  ///< results of no file of ours
  std::uint64_t poll_failed = 0;  ///< files that cannot be polled: read every round instead
  std::uint64_t given_up = 0;     ///< the ring failed as a whole: all files are read every round
  std::uint64_t backstops = 0;    ///< rounds in which everything was read all the same
  std::uint64_t backstop_finds = 0;  ///< reads of those that found something unannounced
};

/// Of a vEVENTQ.
struct VeventStats {
  std::uint64_t reads = 0;        ///< that brought something
  std::uint64_t empty_reads = 0;  ///< 0 or EAGAIN
  std::uint64_t read_failed = 0;
  std::uint64_t records = 0;         ///< handed out
  std::uint64_t lost_headers = 0;    ///< LOST records met
  std::uint64_t exact_loss = 0;      ///< events lost, by the sequence numbers
  std::uint64_t bad_sequence = 0;    ///< sequence numbers that went backward or make no sense
  std::uint64_t unknown_flags = 0;   ///< headers with flags that nobody has defined
  std::uint64_t unknown_stream = 0;  ///< records of a vSID that the guest does not have
  std::uint64_t fragments = 0;       ///< reads that ended inside a record
};

/// Of a fault queue.
struct FaultStats {
  std::uint64_t reads = 0;
  std::uint64_t empty_reads = 0;
  std::uint64_t read_failed = 0;
  std::uint64_t records = 0;       ///< pages handed out
  std::uint64_t groups = 0;        ///< of these: last ones
  std::uint64_t bad_groups = 0;    ///< made no sense; answered with failure, never handed out
  std::uint64_t fragments = 0;     ///< reads that ended inside a record
  std::uint64_t answers = 0;       ///< taken by the kernel
  std::uint64_t bad_answers = 0;   ///< refused: the kernel knows no such cookie (any more)
  std::uint64_t write_failed = 0;  ///< any other failure; the answer is given up
};

}  // namespace faultline::iommufd
