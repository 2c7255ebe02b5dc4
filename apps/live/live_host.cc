// SPDX-License-Identifier: BSD-3-Clause
#include "apps/live/live_host.h"

#include <fmt/format.h>
#include <sys/socket.h>
#include <time.h>

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>
#include <span>
#include <utility>

#include "apps/faultline/setup.h"
#include "kernel/soft/process_channel.h"

namespace faultline::live {
namespace {

using nlohmann::json;

constexpr unsigned kFirstSlot = 3;  // PCI slots below are the machine's own
// Events on their way when the run ends: no news for so long, and none will come.
constexpr Nanos kDrainQuiet = 2'000'000'000;
constexpr Nanos kDrainLimit = 20'000'000'000;
// After a kill or a pause: until the next beat counts.
constexpr Nanos kSettle = 50'000'000;

void nap(Nanos ns) {
  const timespec t{0, static_cast<long>(ns)};
  ::nanosleep(&t, nullptr);
}

json to_json(const guest::FaultCounts& f) {
  return {{"produced", f.produced},           {"delivered", f.delivered},
          {"lost_reported", f.lost_reported}, {"lost_silent", f.lost_silent},
          {"misdelivered", f.misdelivered},   {"duplicated", f.duplicated}};
}

json to_json(const CommandTap::Counts& c) {
  return {{"commands", c.commands},
          {"invalidations", c.invalidations},
          {"configurations", c.configurations},
          {"syncs", c.syncs},
          {"syncs_completed", c.syncs_completed},
          {"doorbells", c.doorbells},
          {"illegal", c.illegal},
          {"errors", c.errors}};
}

Result<void> send(int socket, const json& message, std::span<const int> fds = {}) {
  const std::string text = message.dump();
  const int sent = soft::send_message(socket, std::as_bytes(std::span(text)), {}, fds);
  if (sent < 0) return fail(-sent, "the VMM's socket");
  return {};
}

}  // namespace

LiveHost::LiveHost(LiveOptions options) : options_(std::move(options)) {}

LiveHost::~LiveHost() {
  for (HostGuest& host : hosts_) close_descriptors(host);
}

Result<std::unique_ptr<LiveHost>> LiveHost::make(const LiveOptions& options) {
  auto live = std::unique_ptr<LiveHost>(new LiveHost(options));
  std::vector<StreamId> vsids;
  for (unsigned i = 0; i < options.devices; ++i) vsids.push_back(StreamId{(kFirstSlot + i) << 3});
  live->hosts_ = make_guests(options.guests, vsids);
  for (HostGuest& host : live->hosts_) host.bytes = std::size_t{options.memory_mib} << 20;
  RunOptions run;
  run.policy = options.policy;
  run.seed = options.seed;
  live->choices_ = engine_choices(run);
  live->choices_.shards = 1;
  // Before any thread: it forks.
  auto kernel = soft::SoftProcess::start(kernel_config(run, live->hosts_));
  if (!kernel) return tl::unexpected(kernel.error());
  live->kernel_ = std::move(*kernel);
  live->sys_ = std::make_unique<Sys>(live->kernel_->socket());
  auto side = HostSide<Sys>::make(*live->sys_, live->hosts_, live->choices_.policy);
  if (!side) return tl::unexpected(side.error());
  live->side_.emplace(std::move(*side));
  live->ioctls_before_.resize(options.guests);
  for (std::size_t g = 0; g < live->hosts_.size(); ++g) {
    const HostGuest& host = live->hosts_[g];
    const GuestView view{static_cast<std::byte*>(host.memory), host.bytes, HostGuest::kBase,
                         host.registers()};
    std::vector<void*> ledgers;
    for (std::size_t i = 0; i < vsids.size(); ++i) {
      ledgers.push_back(live->kernel_->view().ledger(live->first_device(g) + i));
    }
    live->commands_.emplace_back(view, g == 0 && !options.record.empty());
    live->events_.push_back(std::make_unique<EventTap>(view, vsids, ledgers));
  }
  if (auto ok = live->start_engine(); !ok) return tl::unexpected(ok.error());
  live->stalls_ = std::make_unique<StallWatch>();
  if (auto ok = live->introduce(); !ok) return tl::unexpected(ok.error());
  return live;
}

// An engine that serves all guests; a fresh journal makes it reset that guest's registers.
Result<void> LiveHost::start_engine() {
  RunOptions run;
  run.seed = options_.seed;
  supervisor_ = std::make_unique<Supervisor>(
      run, describe(kernel_->socket(), choices_, hosts_, *side_), side_->journals);
  if (auto ok = supervisor_->begin(); !ok) return ok;
  quiet_from_ = monotonic_ns();
  return {};
}

Result<void> LiveHost::introduce() {
  const auto plan = make_plan(hosts_, choices_);  // the engine's own, of the same machine
  if (!plan) return tl::unexpected(plan.error());
  json polling = json::array();
  for (const engine::ShardPlan& shard : plan->shards) polling.push_back(shard.cpu);
  for (std::size_t g = 0; g < hosts_.size(); ++g) {
    const HostGuest& host = hosts_[g];
    std::vector<int> fds = {host.memfd, host.evtq_eventfd, host.gerror_eventfd};
    for (unsigned i = 0; i < options_.devices; ++i) {
      fds.push_back(kernel_->view().bar_fd(first_device(g) + i));
    }
    const json message = {
        {"guest", g},         {"bytes", host.bytes},         {"registers", host.registers().value},
        {"slot", kFirstSlot}, {"devices", options_.devices}, {"polling_cpus", polling}};
    if (auto ok = send(options_.control, message, fds); !ok) return ok;
  }
  return {};
}

std::size_t LiveHost::poll_taps() {
  const Nanos now = monotonic_ns();
  std::size_t work = 0;
  for (CommandTap& tap : commands_) work += tap.poll(now);
  for (auto& tap : events_) work += tap->poll(now);
  return work;
}

// A guest that has the BAR as memory cannot wake a device that sleeps: what a real one would do by
// its doorbell register, the VMM's side does here.
void LiveHost::ring_devices() noexcept {
  for (std::size_t i = 0; i < hosts_.size() * options_.devices; ++i) {
    soft::DmaBarHeader& bar = soft::dma_header(kernel_->view().bar(i));
    if (load_acquire(bar.request_head) != load_acquire(bar.request_tail)) {
      soft::dma_wake(bar.device_sleeps, soft::kDmaSleeps);
    }
    soft::dma_wake(bar.device_sleeps, soft::kDmaWaitsForRoom);
  }
}

std::size_t LiveHost::pump_storm() {
  if (storm_.client == nullptr) return 0;
  std::array<soft::DmaCompletion, 64> done;
  const std::size_t taken = storm_.client->complete(done);
  soft::DmaRequest request;
  request.iova = storm_.iova;
  request.flags = soft::DmaRequest::kWrite;
  bool rung = false;
  while (storm_.left > 0 && storm_.client->submit(request)) {
    --storm_.left;
    rung = true;
  }
  if (rung) storm_.client->ring();
  if (storm_.left == 0 && storm_.client->in_flight() == 0) storm_.client = nullptr;
  return taken + (rung ? 1 : 0);
}

// How long an engine that nobody stopped went without a beat.
void LiveHost::watch_beats(Nanos now) {
  if (resume_at_ != 0 || !supervisor_->finished()) {
    quiet_from_ = now + kSettle;
    return;
  }
  if (now < quiet_from_) return;
  for (const engine::Journal& journal : side_->journals) {
    const Nanos beat = std::max(journal.last_beat(), quiet_from_);
    if (now > beat) beat_gap_ = std::max(beat_gap_, now - beat);
  }
}

Result<void> LiveHost::turn() {
  std::size_t work = poll_taps() + pump_storm();
  ring_devices();
  const Nanos now = monotonic_ns();
  if (resume_at_ != 0 && now >= resume_at_) {
    supervisor_->resume();
    resume_at_ = 0;
  }
  watch_beats(now);
  if (resume_at_ == 0) {
    if (auto ok = supervisor_->turn(); !ok) return ok;
  }
  std::array<std::byte, 4096> buffer;
  soft::Descriptors fds;
  const ssize_t got = soft::receive_message(options_.control, buffer, fds, MSG_DONTWAIT);
  if (got == 0) {
    done_ = true;  // the VMM is gone
  } else if (got > 0) {
    return answer({reinterpret_cast<const char*>(buffer.data()), static_cast<std::size_t>(got)});
  } else if (got != -EAGAIN) {
    return fail(static_cast<int>(-got), "the VMM's socket");
  }
  if (work == 0) nap(options_.record.empty() ? 200'000 : 20'000);
  return {};
}

json LiveHost::status() {
  json guests = json::array();
  const std::vector<std::uint64_t> ioctls = supervisor_->ioctls();
  for (std::size_t g = 0; g < hosts_.size(); ++g) {
    guests.push_back({{"name", hosts_[g].name},
                      {"commands", to_json(commands_[g].counts())},
                      {"faults", to_json(events_[g]->counts())},
                      {"pending", events_[g]->pending()},
                      {"voided", events_[g]->voided()},
                      {"overflows", events_[g]->overflows()},
                      {"ioctls", ioctls_before_[g] + ioctls[g]}});
  }
  const soft::SoftKernelStats kernel = kernel_->view().stats();
  return {{"guests", guests},
          {"kills", kills_before_ + supervisor_->kills()},
          {"serving", supervisor_->finished() && resume_at_ == 0},
          {"storming", storm_.client != nullptr},
          {"restart_max_ns", supervisor_->restarts().max()},
          {"restart_p50_ns", supervisor_->restarts().percentile(0.5)},
          {"beat_gap_ns", beat_gap_},
          {"host_stall_ns", stalls_->worst()},
          {"dma", kernel.accesses},
          {"abi", supervisor_->abi()}};
}

Result<void> LiveHost::reset(std::size_t guest) {
  const std::vector<std::uint64_t> ioctls = supervisor_->ioctls();
  kills_before_ += supervisor_->kills();
  for (std::size_t g = 0; g < hosts_.size(); ++g) ioctls_before_[g] += ioctls[g];
  if (!supervisor_->stop()) return fail(0, "the engine did not stop");
  poll_taps();
  supervisor_ = nullptr;
  auto journal = engine::create_journal(spec_of(hosts_[guest], choices_.policy));
  if (!journal) return tl::unexpected(journal.error());
  side_->journals[guest] = std::move(*journal);
  commands_[guest].restart();
  events_[guest]->restart();
  return start_engine();
}

Result<json> LiveHost::finish() {
  const Nanos limit = monotonic_ns() + kDrainLimit;
  Nanos news = monotonic_ns();
  std::size_t pending = 0;
  do {
    if (poll_taps() + pump_storm() > 0) news = monotonic_ns();
    if (auto ok = supervisor_->turn(); !ok) return tl::unexpected(ok.error());
    nap(1'000'000);
    pending = 0;
    for (const auto& tap : events_) pending += tap->pending();
  } while ((pending > 0 || storm_.client != nullptr) && monotonic_ns() < limit &&
           monotonic_ns() - news < kDrainQuiet);
  for (auto& tap : events_) tap->finish();
  json result = status();
  json findings = json::array();
  for (std::size_t g = 0; g < hosts_.size(); ++g) {
    const guest::FaultCounts f = events_[g]->counts();
    const CommandTap::Counts& c = commands_[g].counts();
    if (f.lost_silent + f.misdelivered + f.duplicated > 0) {
      findings.push_back(fmt::format("{}: {} events lost in silence, {} misdelivered, {} twice",
                                     hosts_[g].name, f.lost_silent, f.misdelivered, f.duplicated));
    }
    if (c.syncs != c.syncs_completed) {
      findings.push_back(fmt::format("{}: {} CMD_SYNCs, {} completed", hosts_[g].name, c.syncs,
                                     c.syncs_completed));
    }
  }
  if (!supervisor_->stop()) findings.push_back("the engine did not end when it was asked to");
  if (!options_.record.empty()) {
    auto written = guest::write_trace(options_.record, commands_[0].trace());
    if (!written) return tl::unexpected(written.error());
  }
  result["findings"] = findings;
  clean_ = findings.empty();
  done_ = true;
  return result;
}

Result<void> LiveHost::answer(const std::string& text) {
  const json request = json::parse(text, nullptr, false);
  const std::string what = request.is_object() ? request.value("do", "") : "";
  const std::size_t guest = request.is_object() ? request.value("guest", std::size_t{0}) : 0;
  json reply = {{"ok", true}};
  Result<void> ok;
  if (guest >= hosts_.size()) {
    reply = {{"ok", false}, {"error", "there is no such guest"}};
  } else if (what == "status") {
    reply = status();
  } else if (what == "kill") {
    if (!supervisor_->finished()) return fail(0, "kill: the engine is being killed already");
    ok = supervisor_->kill_more(request.value("n", 1U));
  } else if (what == "pause") {
    supervisor_->pause();
    resume_at_ = monotonic_ns() + request.value("ms", Nanos{500}) * 1'000'000;
  } else if (what == "storm") {
    storm_.device = first_device(guest) + options_.devices - 1;
    storm_.iova = request.value("iova", std::uint64_t{0xdead'0000});
    storm_.left = request.value("n", std::uint64_t{1000});
    storm_.client = std::make_unique<soft::DmaClient>(kernel_->view().bar(storm_.device));
  } else if (what == "spoil") {
    supervisor_->pause();
    nap(5'000'000);  // the signal is on its way
    reply["ok"] = commands_[guest].spoil(100'000'000);
    supervisor_->resume();
    quiet_from_ = monotonic_ns() + kSettle;
  } else if (what == "reset") {
    ok = reset(guest);
  } else if (what == "finish") {
    auto result = finish();
    if (!result) return tl::unexpected(result.error());
    reply = *result;
  } else {
    reply = {{"ok", false}, {"error", "no such request"}};
  }
  if (!ok) return ok;
  return send(options_.control, reply);
}

Result<bool> LiveHost::run() {
  while (!done_) {
    if (auto ok = turn(); !ok) return tl::unexpected(ok.error());
  }
  return clean_;
}

}  // namespace faultline::live
