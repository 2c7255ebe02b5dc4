// SPDX-License-Identifier: BSD-3-Clause
#include "engine/merge/plan_audit.h"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <fstream>
#include <memory>
#include <sstream>
#include <utility>

#include "engine/merge/merge.h"
#include "kernel/base/shared.h"

namespace faultline::merge {
namespace {

constexpr const char* kMagic = "faultline-merge-audit-1";
// A guest that errs on every plan must not fill the disk.
constexpr std::uint64_t kMostReports = 16;

bool is_tlb_range(const Operation& op) noexcept {
  return op.kind == OperationKind::kTlbVa || op.kind == OperationKind::kTlbVaa;
}

/// Whether op removes what asked does in the pages that both name.
bool as_strong(const Operation& op, const Operation& asked) noexcept {
  if (is_tlb_range(asked)) {
    if (!is_tlb_range(op) || op.granule_log2 != asked.granule_log2) return false;
    if (op.kind == OperationKind::kTlbVa &&
        (asked.kind == OperationKind::kTlbVaa || op.asid != asked.asid)) {
      return false;
    }
    return (!op.leaf || asked.leaf) && (op.ttl == 0 || op.ttl == asked.ttl);
  }
  return op.kind == OperationKind::kAtcInv && op.sid == asked.sid &&
         op.ssid_valid == asked.ssid_valid && op.ssid == asked.ssid && (op.global || !asked.global);
}

bool covers_pages(std::span<const Operation> planned, const Operation& asked) noexcept {
  const unsigned shift = asked.granule_log2;
  std::uint64_t at = asked.addr >> shift;
  const bool all = asked.kind == OperationKind::kAtcInv && asked.pages == 0;
  if (all) at = 0;
  const std::uint64_t end = all ? std::uint64_t{1} << (64 - shift) : at + asked.pages;
  while (at < end) {
    std::uint64_t reached = at;
    for (const Operation& op : planned) {
      if (!as_strong(op, asked)) continue;
      if (op.kind == OperationKind::kAtcInv && op.pages == 0) return true;
      const std::uint64_t begin = op.addr >> shift;
      if (begin <= at && begin + op.pages > reached) reached = begin + op.pages;
    }
    if (reached == at) return false;
    at = reached;
  }
  return true;
}

void write(std::ostream& out, const char* what, const Operation& op) {
  out << what << ' ' << static_cast<unsigned>(op.kind) << ' ' << op.leaf << ' ' << op.ssid_valid
      << ' ' << op.global << ' ' << unsigned{op.granule_log2} << ' ' << unsigned{op.ttl} << ' '
      << op.asid << ' ' << op.sid << ' ' << op.ssid << ' ' << op.addr << ' ' << op.pages << '\n';
}

bool read(std::istream& in, Operation& op) {
  unsigned kind = 0;
  unsigned granule = 0;
  unsigned ttl = 0;
  in >> kind >> op.leaf >> op.ssid_valid >> op.global >> granule >> ttl >> op.asid >> op.sid >>
      op.ssid >> op.addr >> op.pages;
  op.kind = static_cast<OperationKind>(kind);
  op.granule_log2 = static_cast<std::uint8_t>(granule);
  op.ttl = static_cast<std::uint8_t>(ttl);
  return !in.fail() && kind <= static_cast<unsigned>(OperationKind::kAtcInv) &&
         (granule == 12 || granule == 14 || granule == 16) && ttl <= 3;
}

}  // namespace

bool covers(std::span<const Operation> planned, const Operation& asked, bool nonglobal) noexcept {
  const auto any = [&](auto is) noexcept {
    return std::any_of(planned.begin(), planned.end(), is);
  };
  const bool all = any([](const Operation& op) { return op.kind == OperationKind::kTlbAll; });
  const auto by_asid = [&](const Operation& op) {
    return op.kind == OperationKind::kTlbAsid && op.asid == asked.asid;
  };
  switch (asked.kind) {
    case OperationKind::kTlbAll:
      return all;
    case OperationKind::kTlbAsid:
      return all || any(by_asid);
    case OperationKind::kTlbVa:
      if (nonglobal && any(by_asid)) return true;
      return all || covers_pages(planned, asked);
    case OperationKind::kTlbVaa:
      return all || covers_pages(planned, asked);
    case OperationKind::kCfgCd:
      if (any([&](const Operation& op) {
            return op.kind == OperationKind::kCfgCd && op.sid == asked.sid &&
                   op.ssid == asked.ssid && (!op.leaf || asked.leaf);
          })) {
        return true;
      }
      [[fallthrough]];
    case OperationKind::kCfgCdAll:
      return any([&](const Operation& op) {
        return op.kind == OperationKind::kCfgCdAll && op.sid == asked.sid;
      });
    case OperationKind::kAtcInv:
      return covers_pages(planned, asked);
  }
  return false;
}

PlanAudit::PlanAudit(const MergeOptions& options, const SinkCaps& caps, bool sole_granule,
                     std::string name, std::string prefix)
    : options_(options),
      caps_(caps),
      sole_granule_(sole_granule),
      name_(std::move(name)),
      prefix_(std::move(prefix)) {}

void PlanAudit::note(const Operation& op, Position at, std::uint64_t stage) noexcept {
  noted_.push_back({op, at, stage});
}

void PlanAudit::check(std::uint64_t stage, std::span<const Operation> planned,
                      MergeCounters& counters) noexcept {
  std::vector<Operation> asked;
  const bool due = options_.audit_every != 0 && ++plans_ % options_.audit_every == 0;
  while (!noted_.empty() && noted_.front().stage <= stage) {
    if (due) asked.push_back(noted_.front().op);
    noted_.pop_front();
  }
  if (!due) return;
  tally(counters.audits);
  for (const Operation& op : asked) {
    if (covers(planned, op, options_.assume_nonglobal)) continue;
    tally(counters.audit_failures);
    report(asked, planned, op);
    return;
  }
}

void PlanAudit::report(std::span<const Operation> asked, std::span<const Operation> planned,
                       const Operation& missed) noexcept {
  if (++reports_ > kMostReports) return;
  file_ = prefix_ + "-" + name_ + "-" + std::to_string(reports_) + ".audit";
  std::ofstream out(file_);
  out << kMagic << '\n'
      << options_.cap << ' ' << options_.deadline << ' ' << options_.assume_nonglobal << ' '
      << sole_granule_ << ' ' << caps_.max_batch << ' ' << caps_.tlb_all << ' '
      << caps_.config_caches << ' ' << caps_.atc << ' ' << caps_.range << ' ' << caps_.max_pages
      << '\n';
  for (const Operation& op : asked) write(out, "asked", op);
  for (const Operation& op : planned) write(out, "planned", op);
  write(out, "missed", missed);
  out.close();
  std::fprintf(
      stderr, "faultline: %s: a plan of merged invalidations did not cover what was asked; %s%s\n",
      name_.c_str(), out ? "to repeat it: " : "and it could not be written to ", file_.c_str());
}

Result<bool> replay_audit(const std::string& file) {
  std::ifstream in(file);
  std::string magic;
  if (!in || !std::getline(in, magic) || magic != kMagic) {
    return fail(errno, file + " is no file of a merge audit");
  }
  MergeSetup setup;
  in >> setup.options.cap >> setup.options.deadline >> setup.options.assume_nonglobal >>
      setup.sole_granule >> setup.caps.max_batch >> setup.caps.tlb_all >>
      setup.caps.config_caches >> setup.caps.atc >> setup.caps.range >> setup.caps.max_pages;
  if (!in) return fail(0, file + ": its second line is damaged");
  const auto policy = std::make_unique<Merge>(setup);
  std::vector<Operation> asked;
  for (std::string what; in >> what;) {
    Operation op;
    if (!read(in, op)) return fail(0, file + ": an operation is damaged");
    if (what == "asked") asked.push_back(op);
  }
  std::vector<Operation> planned;
  const auto drain = [&] {
    policy->flush();
    while (policy->due(0)) {
      const std::span<const Operation> taken = policy->take(0);
      planned.insert(planned.end(), taken.begin(), taken.end());
      policy->done(0);
    }
  };
  for (std::size_t i = 0; i < asked.size(); ++i) {
    if (policy->room() == 0) drain();
    policy->add(asked[i], i, 0);
  }
  drain();
  return std::all_of(asked.begin(), asked.end(), [&](const Operation& op) {
    return covers(planned, op, setup.options.assume_nonglobal);
  });
}

}  // namespace faultline::merge
