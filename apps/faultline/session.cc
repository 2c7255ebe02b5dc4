// SPDX-License-Identifier: BSD-3-Clause
#include "apps/faultline/session.h"

#include <time.h>
#include <unistd.h>

#include <algorithm>

namespace faultline {
namespace {

constexpr Nanos kIdleLimit = 10'000'000'000;
// No news from any guest for so long: what has not come by then will not come.
constexpr Nanos kDrainQuiet = 1'500'000'000;
constexpr Nanos kDrainLimit = 10'000'000'000;
constexpr std::size_t kObservations = 1U << 14;

void nap() {
  const timespec t{0, 1'000'000};
  ::nanosleep(&t, nullptr);
}

}  // namespace

std::vector<SessionDevice> soft_devices(soft::SoftKernel& kernel, std::size_t devices) {
  std::vector<SessionDevice> out;
  for (std::size_t i = 0; i < devices; ++i) out.push_back({kernel.bar(i), kernel.ledger(i), true});
  return out;
}

Session::Session(const RunOptions& options, const guest::Trace& trace,
                 const std::vector<HostGuest>& hosts, const std::vector<SessionDevice>& devices)
    : table_(::isatty(STDOUT_FILENO) == 1) {
  std::vector<guest::Guest*> pointers;
  std::vector<std::vector<void*>> ledgers;
  std::size_t device = 0;
  for (std::size_t g = 0; g < hosts.size(); ++g) {
    guest::GuestOptions o;
    o.name = hosts[g].name;
    o.memory_base = HostGuest::kBase;
    o.memory = hosts[g].memory;
    o.memory_bytes = hosts[g].bytes;
    o.registers = hosts[g].registers();
    o.trace = &trace;
    o.pace =
        options.rate == "recorded" ? guest::Player::Pace::kRecorded : guest::Player::Pace::kFast;
    o.evtq_eventfd = hosts[g].evtq_eventfd;
    o.gerror_eventfd = hosts[g].gerror_eventfd;
    // Both kinds of stream table are in every run with more than one guest.
    o.driver.stream_table =
        g % 2 == 0 ? guest::StreamTable::Format::kTwoLevel : guest::StreamTable::Format::kLinear;
    if (options.kills()) o.driver.timeout_ns = 60'000'000'000;
    o.illegal_interval_ns = options.chaos_steps ? 20'000'000 : 0;
    ledgers.emplace_back();
    for (std::size_t i = 0; i < hosts[g].devices.size(); ++i, ++device) {
      guest::WorkloadOptions w;
      w.bar = devices[device].bar;
      w.dma = devices[device].dma;
      w.seed = options.seed * 1000 + device;
      if (options.rate == "recorded") {
        w.burst_interval_ns = 10'000'000;
        w.change_interval_ns = 10'000'000;
      }
      w.storm_interval_ns = Nanos{options.storms_ms} * 1'000'000;
      w.storm_faults = 480;
      if (options.chaos_steps) w.reconfigure_every = 16;
      o.devices.push_back(w);
      ledgers.back().push_back(devices[device].ledger);
    }
    guests_.push_back(std::make_unique<guest::Guest>(o, kObservations));
    pointers.push_back(guests_.back().get());
  }
  audit_ = std::make_unique<guest::Audit>(pointers, ledgers, options.quirks == "v7");
  before_.resize(guests_.size());
}

void Session::start() {
  for (auto& g : guests_) g->start();
  started_ = printed_ = monotonic_ns();
}

bool Session::ready() const noexcept {
  return std::all_of(guests_.begin(), guests_.end(), [](const auto& g) { return g->ready(); });
}

Result<void> Session::set_up() const {
  for (const auto& g : guests_) {
    if (g->ready() && !g->error().empty()) return fail(0, g->error());
  }
  return {};
}

Result<void> Session::wait_ready(Nanos limit) {
  const Nanos until = monotonic_ns() + limit;
  while (!ready()) {
    turn({}, false);
    if (monotonic_ns() > until) return fail(0, "the guests did not start in time");
  }
  started_ = printed_ = monotonic_ns();
  return set_up();
}

std::vector<TableRow> Session::rows(const Ioctls& ioctls, double seconds) {
  const std::vector<std::uint64_t> calls = ioctls ? ioctls() : std::vector<std::uint64_t>{};
  std::vector<TableRow> out;
  for (std::size_t g = 0; g < guests_.size(); ++g) {
    const guest::GuestCounters c = guests_[g]->counters();
    const Histogram& fault = audit_->latency(g);
    const Histogram& sync = guests_[g]->sync_latency();
    TableRow r;
    r.name = guests_[g]->name();
    r.faults_per_s = static_cast<double>(c.events - before_[g].faults) / seconds;
    r.commands_per_s = static_cast<double>(c.commands - before_[g].commands) / seconds;
    r.syncs_per_s = static_cast<double>(c.syncs_completed - before_[g].syncs) / seconds;
    if (g < calls.size() && c.syncs_completed > 0) {
      r.ioctls_per_sync = static_cast<double>(calls[g]) / static_cast<double>(c.syncs_completed);
    }
    r.fault_p50 = fault.percentile(0.5);
    r.fault_p99 = fault.percentile(0.99);
    r.sync_p50 = sync.percentile(0.5);
    r.sync_p99 = sync.percentile(0.99);
    r.evtq_depth = c.event_depth;
    before_[g] = {c.events, c.commands, c.syncs_completed};
    out.push_back(r);
  }
  return out;
}

void Session::turn(const Ioctls& ioctls, bool print) {
  const Nanos now = monotonic_ns();
  const std::size_t work = audit_->poll(now);
  if (print && now - printed_ >= table_.interval()) {
    const double interval = static_cast<double>(now - printed_) / 1e9;
    printed_ = now;
    table_.print(rows(ioctls, interval), static_cast<double>(now - started_) / 1e9);
  }
  if (work < 64) nap();
}

std::uint64_t Session::syncs_completed() const noexcept {
  std::uint64_t n = 0;
  for (const auto& g : guests_) n += g->counters().syncs_completed;
  return n;
}

std::vector<GuestTally> Session::tallies() const {
  std::vector<GuestTally> out;
  for (std::size_t g = 0; g < guests_.size(); ++g) {
    out.push_back({guests_[g]->name(), guests_[g]->counters(), audit_->counts(g)});
  }
  return out;
}

RunResult Session::finish() {
  RunResult result;
  Nanos now = monotonic_ns();
  result.seconds = static_cast<double>(now - started_) / 1e9;
  for (auto& g : guests_) g->stop();
  const auto idle = [&] {
    return std::all_of(guests_.begin(), guests_.end(), [](const auto& g) { return g->idle(); });
  };
  const Nanos until = now + kIdleLimit;
  while (!idle() && monotonic_ns() < until) turn({}, false);
  // Faults still on their way: until none is missing, or nothing comes any more. All of them are in
  // the ledgers by now, since no DMA is in flight.
  audit_->poll(monotonic_ns());
  const Nanos end = monotonic_ns() + kDrainLimit;
  Nanos news = monotonic_ns();
  std::size_t pending = audit_->pending();
  while (pending > 0 && (now = monotonic_ns()) < end && now - news < kDrainQuiet) {
    turn({}, false);
    const std::size_t left = audit_->pending();
    if (left != pending) news = now;
    pending = left;
  }
  for (auto& g : guests_) g->join();
  result.verdict = audit_->finish(monotonic_ns());
  std::uint64_t outstanding = 0;
  for (std::size_t g = 0; g < guests_.size(); ++g) {
    result.fault_latency.merge(audit_->latency(g));
    result.sync_latency.merge(guests_[g]->sync_latency());
    outstanding += guests_[g]->counters().outstanding_sum;
  }
  if (result.verdict.guests.trace_syncs > 0) {
    result.outstanding =
        static_cast<double>(outstanding) / static_cast<double>(result.verdict.guests.trace_syncs);
  }
  return result;
}

}  // namespace faultline
