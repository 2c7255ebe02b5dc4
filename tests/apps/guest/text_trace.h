// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <cstdint>
#include <initializer_list>

#include "apps/guest/trace.h"

namespace faultline::guest {

/// A trace written as text: each string is one doorbell of "vcpu:commands", 1 µs apart, where a
/// small letter is a TLBI of that ASID, a capital one a TLBI of one page of ASID 1, '!' a global
/// command,
/// '?' a CFGI_STE and '.' a CMD_SYNC.
inline Trace trace_of(std::initializer_list<const char*> doorbells, unsigned vcpus) {
  Trace t;
  t.name = "text";
  t.vcpus = vcpus;
  Nanos at = 0;
  const auto command = [](char c) {
    if (c == '.') return sync_by_cons();
    if (c == '!') return tlbi_nsnh_all();
    if (c == '?') return cfgi_ste(StreamId{8});
    const auto code = static_cast<std::uint16_t>(c);
    return c >= 'a' ? tlbi_asid(code) : tlbi_va(1, Iova{std::uint64_t{code} << 12});
  };
  for (const char* text : doorbells) {
    Doorbell d;
    d.at = at;
    at += 1000;
    d.first = static_cast<std::uint32_t>(t.commands.size());
    d.vcpu = static_cast<std::uint16_t>(text[0] - '0');
    for (const char* c = text + 2; *c != '\0'; ++c) {
      t.commands.push_back(command(*c));
      ++d.count;
    }
    t.doorbells.push_back(d);
  }
  return t;
}

}  // namespace faultline::guest
