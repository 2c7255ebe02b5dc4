// SPDX-License-Identifier: BSD-3-Clause
#include "engine/stage1_control.h"

#include <algorithm>
#include <bit>
#include <cerrno>

namespace faultline::engine {
namespace {

// Context descriptors looked at when a table is bound or all of them are invalidated: a guest may
// claim 2^20, and a round must end. Others become known with their CFGI_CD.
constexpr std::size_t kContextBudget = 256;

// The host's trouble, which may have passed; anything else is about what was asked for.
constexpr bool transient(int error) noexcept {
  return error == ENOMEM || error == EINTR || error == EAGAIN || error == EBUSY;
}

constexpr DeviceSet bit(std::size_t device) noexcept {
  return DeviceSet{1} << device;
}

}  // namespace

Stage1Control::Stage1Control(std::uint32_t guest, std::span<const DeviceSpec> devices,
                             const viommu::GuestMemory& memory, const viommu::Features& features,
                             GuestRings& rings, CommandJournal journal, AsidNotes asids,
                             StepCall& steps, CommandCounters& counters) noexcept
    : guest_(guest),
      memory_(&memory),
      features_(features),
      rings_(&rings),
      journal_(journal),
      asids_(asids),
      steps_(&steps),
      counters_(&counters),
      count_(std::min(devices.size(), kJournalDevices)),
      all_(count_ == 64 ? ~DeviceSet{0} : bit(count_) - 1) {
  for (std::size_t i = 0; i < count_; ++i) vsid_[i] = devices[i].vsid.value;
}

bool Stage1Control::recover(bool bind_again) noexcept {
  bool all_abort = true;
  for (std::size_t i = 0; i < count_; ++i) {
    Stage1Config config;
    // While a change was under way the kernel may have either: bind again.
    const bool sure = journal_.stage1(i, config) && !journal_.attaching(i);
    if (sure) set_bound(i, config);
    all_abort &= sure && config.mode == Stage1Config::Mode::kAbort;
  }
  if (bind_again) known_ = 0;
  for (std::uint32_t asid = 0; asid < 65536; ++asid) {
    if (!journal_.asid_seen(static_cast<std::uint16_t>(asid))) continue;
    // Which device's it was is not journalled; one too many costs an operation, never a stale
    // entry.
    for (std::size_t i = 0; i < count_; ++i) {
      asids_.note(asids_.sink, i, static_cast<std::uint16_t>(asid));
    }
  }
  return all_abort;
}

void Stage1Control::follow_gbpa(bool abort) noexcept {
  follows_table_ = false;
  gbpa_abort_ = abort;
}

void Stage1Control::follow_stream_table(const viommu::StreamTable& table) noexcept {
  follows_table_ = true;
  table_ = table;
}

DeviceSet Stage1Control::in_range(std::uint32_t first, std::uint32_t last) const noexcept {
  DeviceSet set = 0;
  for (std::size_t i = 0; i < count_; ++i) {
    if (vsid_[i] >= first && vsid_[i] <= last) set |= bit(i);
  }
  return set;
}

int Stage1Control::find(std::uint32_t vsid) const noexcept {
  for (std::size_t i = 0; i < count_; ++i) {
    if (vsid_[i] == vsid) return static_cast<int>(i);
  }
  return -1;
}

Stage1Config Stage1Control::wanted(std::size_t device) const noexcept {
  if (blocked_) return {};
  if (follows_table_) {
    return viommu::read_stream(*memory_, table_, StreamId{vsid_[device]}, features_).config;
  }
  Stage1Config config;
  config.mode = gbpa_abort_ ? Stage1Config::Mode::kAbort : Stage1Config::Mode::kBypass;
  return config;
}

DeviceSet Stage1Control::changed(DeviceSet devices) const noexcept {
  DeviceSet set = 0;
  for (DeviceSet left = devices & all_; left != 0; left &= left - 1) {
    const auto i = static_cast<std::size_t>(std::countr_zero(left));
    if ((known_ & bit(i)) == 0 || !(wanted(i) == bound_[i])) set |= bit(i);
  }
  return set;
}

void Stage1Control::begin(DeviceSet devices) noexcept {
  pending_ = devices & all_;
  failed_ = false;
  busy_ = true;
  (void)advance();
}

std::size_t Stage1Control::advance() noexcept {
  std::size_t work = 0;
  for (;;) {
    if (in_flight_) {
      if (!queued_) queued_ = rings_->to_cold.push(job_);
      Stage1Done done;
      if (!rings_->from_cold.pop(done)) return work;
      ++work;
      // Answers to jobs of an engine that was killed cannot come: its rings died with it.
      finish(done);
      if (steps_->stopped()) return work;
      continue;
    }
    if (pending_ == 0) {
      busy_ = false;
      return work + 1;
    }
    const auto device = static_cast<std::size_t>(std::countr_zero(pending_));
    pending_ &= pending_ - 1;
    const Stage1Config config = wanted(device);
    if ((known_ & bit(device)) != 0 && config == bound_[device]) continue;
    again_ = true;
    post(device, config);
    if (steps_->stopped()) return work;
  }
}

void Stage1Control::post(std::size_t device, const Stage1Config& config) noexcept {
  known_ &= ~bit(device);
  bound_[device] = config;
  // The sink must know the ASIDs before the kernel can cache an entry of theirs.
  note_contexts(device);
  journal_.mark_attaching(device);
  if ((*steps_)(JournalStep::kAttachMarked)) return;
  job_ = {guest_, static_cast<std::uint32_t>(device), config};
  in_flight_ = true;
  queued_ = rings_->to_cold.push(job_);
}

void Stage1Control::finish(const Stage1Done& done) noexcept {
  in_flight_ = false;
  const std::size_t device = job_.device;
  if (done.result.error == 0) {
    if ((*steps_)(JournalStep::kAttachDone)) return;
    set_bound(device, job_.config);
    journal_.set_stage1(device, job_.config);
    tally(counters_->attaches);
    (void)(*steps_)(JournalStep::kAttachJournalled);
    return;
  }
  if (again_ && transient(done.result.error)) {
    again_ = false;
    tally(counters_->retried_attaches);
    post(device, Stage1Config{job_.config});
    return;
  }
  if (job_.config.mode == Stage1Config::Mode::kAbort) {
    tally(counters_->failed_attaches);
    failed_ = true;
    return;
  }
  tally(counters_->refused_attaches);
  again_ = true;
  post(device, Stage1Config{});
}

void Stage1Control::set_bound(std::size_t device, const Stage1Config& config) noexcept {
  bound_[device] = config;
  known_ |= bit(device);
  if (config.mode == Stage1Config::Mode::kTranslate) {
    translating_ |= bit(device);
  } else {
    translating_ &= ~bit(device);
  }
}

void Stage1Control::note_contexts(std::size_t device) noexcept {
  std::array<viommu::Context, 16> contexts;
  viommu::ContextWalk walk;
  for (std::size_t budget = kContextBudget; budget > 0 && !walk.done;) {
    const std::size_t reads = std::min<std::size_t>(budget, 32);
    const std::size_t n = viommu::list_contexts(*memory_, bound_[device], walk, contexts, reads);
    for (std::size_t i = 0; i < n; ++i) note(device, contexts[i].asid);
    budget -= reads;
  }
}

void Stage1Control::note_context(std::size_t device, std::uint32_t ssid) noexcept {
  viommu::Context context;
  if (viommu::read_context(*memory_, bound_[device], ssid, context)) note(device, context.asid);
}

void Stage1Control::note(std::size_t device, std::uint16_t asid) noexcept {
  journal_.note_asid(asid);
  asids_.note(asids_.sink, device, asid);
}

}  // namespace faultline::engine
