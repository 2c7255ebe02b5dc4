// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <cstdint>
#include <ostream>
#include <vector>

#include "engine/merge/merge.h"
#include "kernel/operation.h"

namespace faultline {

/// For messages of failed tests.
inline void PrintTo(const Operation& op, std::ostream* out) {
  static constexpr const char* kNames[] = {"ALL", "ASID", "VA", "VAA", "CD", "CD_ALL", "ATC"};
  *out << kNames[static_cast<unsigned>(op.kind)] << " asid " << op.asid << " sid " << op.sid << '/'
       << op.ssid << " 0x" << std::hex << op.addr << std::dec << "+" << op.pages << " x 2^"
       << unsigned{op.granule_log2} << (op.leaf ? " leaf" : "") << " ttl " << unsigned{op.ttl}
       << (op.global ? " global" : "");
}

}  // namespace faultline

namespace faultline::merge::operations {

inline Operation va(std::uint64_t page, std::uint64_t pages = 1, std::uint16_t asid = 1,
                    bool leaf = false) {
  Operation op;
  op.kind = OperationKind::kTlbVa;
  op.asid = asid;
  op.addr = page << 12U;
  op.pages = pages;
  op.leaf = leaf;
  return op;
}
inline Operation vaa(std::uint64_t page, std::uint64_t pages = 1) {
  Operation op = va(page, pages, 0);
  op.kind = OperationKind::kTlbVaa;
  return op;
}
inline Operation asid(std::uint16_t number) {
  Operation op;
  op.kind = OperationKind::kTlbAsid;
  op.asid = number;
  return op;
}
inline Operation all() {
  return {};
}
inline Operation cd(std::uint32_t sid, std::uint32_t ssid = 0, bool leaf = false) {
  Operation op;
  op.kind = OperationKind::kCfgCd;
  op.sid = sid;
  op.ssid = ssid;
  op.leaf = leaf;
  return op;
}
inline Operation cd_all(std::uint32_t sid) {
  Operation op;
  op.kind = OperationKind::kCfgCdAll;
  op.sid = sid;
  return op;
}
/// pages  a power of two, page a multiple of it; 0: everything
inline Operation atc(std::uint32_t sid, std::uint64_t page, std::uint64_t pages) {
  Operation op;
  op.kind = OperationKind::kAtcInv;
  op.sid = sid;
  op.addr = page << 12U;
  op.pages = pages;
  return op;
}

/// Sinks: an array of commands with and without ranges, and the seed's two kernels.
inline SinkCaps array_sink(bool range = true) {
  return {63, true, true, true, range, 0};
}
inline SinkCaps documented_sink() {
  return {1, true, true, true, false, 512};
}
inline SinkCaps v7_sink() {
  return {1, false, false, false, false, 512};
}

inline MergeSetup setup(SinkCaps caps, double cap = 1, Nanos deadline = 0) {
  MergeSetup s;
  s.options.cap = cap;
  s.options.deadline = deadline;
  s.options.linger = LingerMode::kOff;
  s.caps = caps;
  return s;
}

/// One submission.
template <class Policy>
std::vector<Operation> submit(Policy& policy, Nanos now = 0, Nanos took = 0) {
  const std::span<const Operation> taken = policy.take(now);
  std::vector<Operation> out(taken.begin(), taken.end());
  policy.done(now + took);
  return out;
}
/// What these operations, then a SYNC, come to, submission by submission.
inline std::vector<std::vector<Operation>> submissions(const MergeSetup& s,
                                                       const std::vector<Operation>& ops) {
  Merge policy(s);
  Position at = 0;
  std::vector<std::vector<Operation>> out;
  for (const Operation& op : ops) {
    while (policy.room() == 0) out.push_back(submit(policy));
    policy.add(op, at++, 0);
  }
  policy.add_sync(at, 0);
  while (policy.due(0)) out.push_back(submit(policy));
  return out;
}
inline std::vector<Operation> merged(const MergeSetup& s, const std::vector<Operation>& ops) {
  std::vector<Operation> out;
  for (const auto& one : submissions(s, ops)) out.insert(out.end(), one.begin(), one.end());
  return out;
}

}  // namespace faultline::merge::operations
