// SPDX-License-Identifier: BSD-3-Clause
#include "apps/guest/guest.h"

#include <poll.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <new>

namespace faultline::guest {
namespace {

// Events read per round, so that vCPUs and devices get their turn during a storm.
constexpr std::size_t kEventBudget = 64;
// Rounds without work before the thread sleeps, and for how long: as little as the timer allows
// while something is probably on its way, longer when nothing seems to be.
constexpr std::size_t kPatience = 16;
constexpr std::size_t kLongPatience = 256;
constexpr long kShortNapNs = 1'000;
constexpr long kNapNs = 50'000;

bool take_interrupt(int eventfd) {
  std::uint64_t count = 0;
  return ::read(eventfd, &count, sizeof count) == sizeof count;
}

}  // namespace

std::vector<StreamId> Guest::choose_sids(const Trace& trace, std::size_t devices) {
  std::vector<StreamId> sids;
  for (std::uint32_t sid = 0x208; sids.size() < devices; sid += 8) {
    if (!trace.uses_sid(StreamId{sid})) sids.push_back(StreamId{sid});
  }
  return sids;
}

Guest::Guest(const GuestOptions& options, std::size_t observations)
    : options_(options),
      memory_(options.memory_base, options.memory, options.memory_bytes - reg::kPageBytes),
      observations_(observations),
      driver_(memory_,
              Registers(static_cast<std::byte*>(options.memory) +
                        (options.registers.value - options.memory_base.value)),
              observations_, options.driver),
      sids_(choose_sids(*options.trace, options.devices.size())),
      event_entries_(std::size_t{1} << options.driver.event_log2size) {
  std::uint16_t asid = 0x100;
  for (std::size_t i = 0; i < options_.devices.size(); ++i) {
    WorkloadOptions& d = options_.devices[i];
    d.index = static_cast<unsigned>(i);
    d.sid = sids_[i];
    while (options_.trace->uses_asid(asid)) ++asid;
    d.asid = asid++;
  }
}

Guest::~Guest() {
  join();
}

void Guest::start() {
  thread_ = std::thread([this] { main(); });
}

void Guest::join() {
  phase_.store(Phase::kEnd, std::memory_order_release);
  if (thread_.joinable()) thread_.join();
}

void Guest::main() {
  ::prctl(PR_SET_TIMERSLACK, 1UL);
  Result<void> r;
  try {
    r = set_up();
  } catch (const std::bad_alloc&) {
    r = fail(0, "the guest's memory is too small");
  }
  if (!r) {
    error_ = options_.name + ": " + r.error().message();
    // Pairs with ready()'s acquire.
    ready_.store(true, std::memory_order_release);
    return;
  }
  ready_.store(true, std::memory_order_release);
  std::size_t idle_rounds = 0;
  while (phase_.load(std::memory_order_acquire) != Phase::kEnd) {
    const Nanos now = monotonic_ns();
    idle_rounds = round(now) > 0 ? 0 : idle_rounds + 1;
    publish_counters();
    if (idle_rounds > 0) rest(idle_rounds);
  }
}

Result<void> Guest::set_up() {
  const SmmuDriver::Idle idle = [this] {
    if (phase_.load(std::memory_order_acquire) == Phase::kEnd) return;
    const timespec nap{0, kNapNs};
    ::nanosleep(&nap, nullptr);
  };
  if (auto r = driver_.probe(idle); !r) return r;
  event_entries_ = driver_.events().entries();
  if (options_.trace->uses_range && !driver_.has_range()) {
    return fail(0, "trace " + options_.trace->name +
                       " invalidates by range, which this SMMU does not offer (IDR3.RIL)");
  }
  for (const WorkloadOptions& d : options_.devices) {
    workloads_.push_back(std::make_unique<Workload>(driver_, d, sync_latency_));
  }
  player_ =
      std::make_unique<Player>(*options_.trace, driver_.commands(), sync_latency_, options_.pace);
  for (const Group& g : player_->script().prologue) {
    for (std::uint32_t i = 0; i < g.count; ++i) {
      if (auto r = driver_.run({options_.trace->commands[g.first + i]}, idle); !r) return r;
    }
  }
  for (auto& w : workloads_) {
    if (auto r = w->attach(idle); !r) return r;
  }
  return {};
}

// The handlers run when their interrupt came, as on a real machine: one that is never raised
// leaves its events unread, and the audit says so.
std::size_t Guest::interrupts(Nanos now) {
  std::size_t work = 0;
  if (options_.gerror_eventfd < 0 || take_interrupt(options_.gerror_eventfd)) {
    work += driver_.handle_gerror() ? 1 : 0;
  }
  const bool raised = options_.evtq_eventfd < 0 || take_interrupt(options_.evtq_eventfd);
  if (raised) ++interrupts_;
  if (!raised && !more_events_) return work;
  EventQueue& events = driver_.events();
  const std::size_t n = events.handle(kEventBudget, [&](const Observation& o) {
    const auto sid = static_cast<std::uint32_t>(o.words[0] >> 32);
    for (auto& w : workloads_) {
      if (w->sid().value == sid) w->event_read(now);
    }
  });
  // The handler left off early: because of its budget, or because the audit must catch up.
  more_events_ = n == kEventBudget || observations_.room() < 4;
  if (events.overflows() != overflows_) {
    overflows_ = events.overflows();
    for (auto& w : workloads_) w->overflow_seen();
  }
  return work + n;
}

std::size_t Guest::round(Nanos now) {
  std::size_t work = interrupts(now);
  const Phase phase = phase_.load(std::memory_order_acquire);
  const bool more = phase == Phase::kRunning;
  work += driver_.commands().poll();
  work += player_->step(now, more);
  illegal_waits_ = illegal_waits_ && !driver_.commands().done(illegal_sync_);
  if (more && options_.illegal_interval_ns != 0) provoke(now);
  bool idle = player_->idle() && !illegal_waits_;
  for (auto& w : workloads_) {
    work += w->step(now, more);
    idle = idle && w->idle();
  }
  if (phase == Phase::kStopping && idle) {
    for (auto& w : workloads_) w->final_check();
    publish_counters();
    Phase expected = Phase::kStopping;
    phase_.compare_exchange_strong(expected, Phase::kIdle, std::memory_order_acq_rel);
  }
  return work;
}

// An illegal command now and then, each with a CMD_SYNC behind it, so that command queue errors
// and what Linux does about them are part of the run.
void Guest::provoke(Nanos now) {
  CommandQueue& queue = driver_.commands();
  if (illegal_waits_ || now < next_illegal_ || queue.room() < 2) return;
  next_illegal_ = now + options_.illegal_interval_ns;
  queue.push(Command{{op::kIllegal, 0}});
  illegal_sync_ = queue.push_sync(false);
  queue.publish();
  ++illegal_issued_;
  illegal_waits_ = true;
}

// Not sched_yield: a thread that has yielded often gets no turn for seconds once somebody computes
// on its core (Linux since 6.6), and then nobody is there to see a CMD_SYNC complete.
void Guest::rest(std::size_t idle_rounds) {
  if (idle_rounds <= kPatience) {
    cpu_relax();
    return;
  }
  std::array<pollfd, 2> fds = {pollfd{options_.evtq_eventfd, POLLIN, 0},
                               pollfd{options_.gerror_eventfd, POLLIN, 0}};
  const timespec nap{0, idle_rounds <= kLongPatience ? kShortNapNs : kNapNs};
  ::ppoll(fds.data(), fds.size(), &nap, nullptr);
}

void Guest::publish_counters() {
  CommandQueue& queue = driver_.commands();
  EventQueue& events = driver_.events();
  GuestCounters& c = counters_;
  store_relaxed(c.commands, queue.commands());
  store_relaxed(c.syncs, queue.syncs());
  store_relaxed(c.syncs_completed, queue.syncs_completed());
  store_relaxed(c.events, events.consumed());
  store_relaxed(c.event_depth, std::uint64_t{events.depth()});
  store_relaxed(c.overflows, events.overflows());
  store_relaxed(c.interrupts, interrupts_);
  store_relaxed(c.trace_loops, player_->loops());
  store_relaxed(c.outstanding_sum, player_->outstanding_sum());
  store_relaxed(c.violations, queue.violations() + events.violations());
  store_relaxed(c.unexpected_errors, std::uint64_t{driver_.unexpected_errors()});
  store_relaxed(c.trace_syncs, player_->syncs());
  store_relaxed(c.illegal_issued, illegal_issued_);
  store_relaxed(c.illegal_handled, queue.errors_handled());
  GuestCounters sum;
  for (const auto& w : workloads_) {
    sum.dma += w->stats().completed;
    sum.dma_faulted += w->stats().faulted;
    sum.dma_stale += w->stats().stale;
    sum.dma_wrong += w->stats().wrong;
    sum.changes += w->changes();
    sum.reconfigurations += w->reconfigurations();
  }
  store_relaxed(c.dma, sum.dma);
  store_relaxed(c.dma_faulted, sum.dma_faulted);
  store_relaxed(c.dma_stale, sum.dma_stale);
  store_relaxed(c.dma_wrong, sum.dma_wrong);
  store_relaxed(c.changes, sum.changes);
  store_relaxed(c.reconfigurations, sum.reconfigurations);
}

GuestCounters Guest::counters() const noexcept {
  GuestCounters c;
  const auto* from = reinterpret_cast<const std::uint64_t*>(&counters_);
  auto* to = reinterpret_cast<std::uint64_t*>(&c);
  for (std::size_t i = 0; i < sizeof c / sizeof *to; ++i) to[i] = load_relaxed(from[i]);
  return c;
}

}  // namespace faultline::guest
