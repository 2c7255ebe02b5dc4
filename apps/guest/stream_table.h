// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <cstdint>

#include "apps/guest/memory.h"
#include "apps/guest/page_table.h"
#include "kernel/base/units.h"

namespace faultline::guest {

/// The guest's stream table and the context descriptors behind it.
///
/// thread   the guest's. Entries are written as Linux writes them: the other words first, then the
///          word with the valid bit; the caller issues CFGI_STE or CFGI_CD and CMD_SYNC
class StreamTable {
 public:
  enum class Format : std::uint8_t { kLinear, kTwoLevel };

  static constexpr unsigned kSplit = 8;  ///< two-level: SID bits resolved by the second level

  /// log2size  SIDs 0 .. 2^log2size - 1
  StreamTable(GuestMemory& memory, Format format, unsigned log2size);

  [[nodiscard]] std::uint64_t base_register() const noexcept;
  [[nodiscard]] std::uint32_t config_register() const noexcept;

  /// Make the STE of `sid` translate by the context descriptor at `cd`.
  void translate(StreamId sid, Gpa cd);
  /// Make the STE of `sid` abort everything, silently.
  void abort(StreamId sid);

  [[nodiscard]] std::uint64_t ste_word(StreamId sid, unsigned word) const noexcept;

 private:
  [[nodiscard]] std::uint64_t* entry(StreamId sid, bool create);

  GuestMemory& memory_;
  Format format_;
  unsigned log2size_;
  Gpa base_;
};

/// Write a context descriptor (one, linear, no substreams) for `table` and `asid`.
///
/// at   from GuestMemory::allocate(64, 64). When it was valid before, issue CFGI_CD and CMD_SYNC
void write_context_descriptor(GuestMemory& memory, Gpa at, const PageTable& table,
                              std::uint16_t asid) noexcept;

}  // namespace faultline::guest
