// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "apps/session/server.h"
#include "engine/snapshot.h"

namespace faultline::metrics {

/// One counter of a struct of counters, by name.
template <class T>
struct Field {
  const char* name;
  std::uint64_t T::*at;
  const char* help;  ///< for the metrics and their page
};

struct AnyValue {
  operator std::uint64_t() const;  // NOLINT(google-explicit-constructor)
};

/// Members of an aggregate of integers.
template <class T, class... Values>
consteval std::size_t members() {
  if constexpr (requires { T{Values{}..., AnyValue{}}; }) {
    return members<T, Values..., AnyValue>();
  } else {
    return sizeof...(Values);
  }
}

// Every counter that a Moment has. A member that a list lacks does not compile.

inline constexpr auto kEventDeviceFields = std::to_array<Field<engine::EventDeviceCounters>>({
    {"delivered", &engine::EventDeviceCounters::delivered,
     "Events put into the guest's event queue."},
    {"discarded", &engine::EventDeviceCounters::discarded,
     "Records that came while the guest had its event queue disabled."},
    {"dropped_full", &engine::EventDeviceCounters::dropped_full,
     "Events for which the guest's event queue had no room."},
    {"untranslatable", &engine::EventDeviceCounters::untranslatable,
     "Records that no event can be made of."},
    {"lost_exact", &engine::EventDeviceCounters::lost_exact,
     "Faults lost in the kernel, by its own count."},
    {"lost_possible", &engine::EventDeviceCounters::lost_possible,
     "Occasions on which the kernel may have lost faults."},
    {"commit_failed", &engine::EventDeviceCounters::commit_failed,
     "Times that the kernel refused the read index; the next burst repeats it."},
    {"page_requests", &engine::EventDeviceCounters::page_requests,
     "Of delivered: page requests that wait for the guest's answer."},
    {"pages_answered", &engine::EventDeviceCounters::pages_answered,
     "Page requests that the guest answered."},
    {"pages_folded", &engine::EventDeviceCounters::pages_folded,
     "Pages of a group before its last one, told with that."},
    {"pages_retried", &engine::EventDeviceCounters::pages_retried,
     "Pages that could not be shown to the guest at that time, and were tried again."},
    {"pages_failed", &engine::EventDeviceCounters::pages_failed,
     "Of discarded: page requests that were answered with failure."},
    {"pages_void", &engine::EventDeviceCounters::pages_void,
     "Page requests that the kernel answered itself, since the device was detached."},
    {"answers_stale", &engine::EventDeviceCounters::answers_stale,
     "Answers of the guest to requests that were not open."},
});
static_assert(kEventDeviceFields.size() == members<engine::EventDeviceCounters>());

inline constexpr auto kEventGuestFields = std::to_array<Field<engine::EventGuestCounters>>({
    {"bursts", &engine::EventGuestCounters::bursts, "Publications of records in the event queue."},
    {"overflows", &engine::EventGuestCounters::overflows,
     "Times that the guest was told of a loss (OVFLG toggled)."},
    {"gerrors", &engine::EventGuestCounters::gerrors, "Times that GERROR changed."},
    {"guessed", &engine::EventGuestCounters::guessed,
     "Events inferred from a record without a reason."},
    {"recoveries", &engine::EventGuestCounters::recoveries,
     "Intents found valid in the journal at a restart, and finished."},
    {"records_cut", &engine::EventGuestCounters::records_cut,
     "Rounds that the guest's budget of records ended."},
    {"foreign_waits", &engine::EventGuestCounters::foreign_waits,
     "Rounds with faults right behind another guest's submission."},
});
static_assert(kEventGuestFields.size() == members<engine::EventGuestCounters>());

inline constexpr auto kCommandFields = std::to_array<Field<engine::CommandCounters>>({
    {"commands", &engine::CommandCounters::commands, "Commands handled, CMD_SYNCs included."},
    {"syncs", &engine::CommandCounters::syncs, "CMD_SYNCs fetched."},
    {"syncs_completed", &engine::CommandCounters::syncs_completed,
     "CMD_SYNCs that the guest was told are done."},
    {"operations_asked", &engine::CommandCounters::operations_asked,
     "Operations that the guest's commands amount to."},
    {"operations", &engine::CommandCounters::operations, "Operations submitted, resyncs included."},
    {"submissions", &engine::CommandCounters::submissions, "Calls of the host for invalidations."},
    {"failed_submissions", &engine::CommandCounters::failed_submissions,
     "Calls of the host that failed."},
    {"ioctls", &engine::CommandCounters::ioctls, "ioctls of the submissions."},
    {"host_syncs", &engine::CommandCounters::host_syncs,
     "CMD_SYNCs that the submissions cost the host."},
    {"attaches", &engine::CommandCounters::attaches, "Changes of stage 1 that took effect."},
    {"retried_attaches", &engine::CommandCounters::retried_attaches,
     "Changes of stage 1 that were asked again, as the host was short of something."},
    {"refused_attaches", &engine::CommandCounters::refused_attaches,
     "Changes of stage 1 that the kernel refused: the device aborts."},
    {"failed_attaches", &engine::CommandCounters::failed_attaches,
     "Changes of stage 1 after which not even abort could be set."},
    {"illegal", &engine::CommandCounters::illegal, "CERROR_ILL raised."},
    {"aborts", &engine::CommandCounters::aborts, "CERROR_ABT raised."},
    {"atc_timeouts", &engine::CommandCounters::atc_timeouts, "CERROR_ATC_INV_SYNC raised."},
    {"resyncs", &engine::CommandCounters::resyncs,
     "Failures made good by invalidating all that the guest has."},
    {"blocked", &engine::CommandCounters::blocked,
     "Failures that ended in blocking the guest's devices."},
    {"foreign_streams", &engine::CommandCounters::foreign_streams,
     "Commands for a StreamID without a device; they succeed."},
    {"prefetches", &engine::CommandCounters::prefetches,
     "Prefetch commands, accepted without effect."},
    {"responses", &engine::CommandCounters::responses, "PRI_RESP, RESUME and STALL_TERM."},
    {"msi_aborts", &engine::CommandCounters::msi_aborts, "MSIs of CMD_SYNCs that led nowhere."},
    {"register_changes", &engine::CommandCounters::register_changes,
     "Writes of CR0, IRQ_CTRL and GBPA acknowledged."},
    {"late_registers", &engine::CommandCounters::late_registers,
     "Enables taken with the registers' values of before."},
    {"commands_cut", &engine::CommandCounters::commands_cut,
     "Rounds that the guest's budget of commands or submissions ended."},
    {"foreign_waits", &engine::CommandCounters::foreign_waits,
     "Rounds with commands right behind another guest's submission."},
});
static_assert(kCommandFields.size() == members<engine::CommandCounters>());

inline constexpr auto kMergeFields = std::to_array<Field<merge::MergeCounters>>({
    {"operations", &merge::MergeCounters::operations, "Operations that merging was given."},
    {"duplicates", &merge::MergeCounters::duplicates,
     "Of these: equal to, or inside, one that was held."},
    {"ranges_merged", &merge::MergeCounters::ranges_merged,
     "Of these: became part of a longer range."},
    {"planned", &merge::MergeCounters::planned, "Operations that the plans came to."},
    {"plans", &merge::MergeCounters::plans, "Plans made."},
    {"widened_gap", &merge::MergeCounters::widened_gap,
     "Ranges joined over pages that nobody named, by cost."},
    {"widened_leaf", &merge::MergeCounters::widened_leaf,
     "Ranges joined that lost LEAF or a level hint."},
    {"widened_asids", &merge::MergeCounters::widened_asids,
     "Plans whose ranges became those of all ASIDs."},
    {"widened_asid", &merge::MergeCounters::widened_asid,
     "Plans with ranges that became an ASID (merge.assume-nonglobal)."},
    {"widened_all", &merge::MergeCounters::widened_all, "Plans that became everything, by cost."},
    {"widened_size", &merge::MergeCounters::widened_size,
     "Operations longer than the host keeps exact."},
    {"widened_deadline", &merge::MergeCounters::widened_deadline,
     "Plans widened beyond merge.cap to keep merge.deadline-us."},
    {"entries_asked", &merge::MergeCounters::entries_asked,
     "TLB entries that the guest named by address, each once."},
    {"entries_removed", &merge::MergeCounters::entries_removed,
     "TLB entries that what was planned names."},
    {"leaf_asked", &merge::MergeCounters::leaf_asked,
     "Pages of which only last-level entries had to go."},
    {"leaf_kept", &merge::MergeCounters::leaf_kept, "Of these: planned so."},
    {"lingers", &merge::MergeCounters::lingers, "Waits for the vCPUs just released."},
    {"linger_gains", &merge::MergeCounters::linger_gains,
     "CMD_SYNCs that joined a submission because it waited."},
    {"audits", &merge::MergeCounters::audits,
     "Plans recomputed command by command (merge.audit-every)."},
    {"audit_failures", &merge::MergeCounters::audit_failures,
     "Of these: something was not covered. Always 0 in a sound engine."},
});
static_assert(kMergeFields.size() == members<merge::MergeCounters>());

inline constexpr auto kEventStageFields = std::to_array<Field<engine::EventStageCycles>>({
    {"bursts", &engine::EventStageCycles::bursts,
     "Bursts in the sampled rounds (one round in 64)."},
    {"records", &engine::EventStageCycles::records, "Records in them."},
    {"poll", &engine::EventStageCycles::poll, "take and decode records, ask for losses"},
    {"transcode", &engine::EventStageCycles::transcode,
     "make events of them, place them in the guest's queue"},
    {"publish", &engine::EventStageCycles::publish, "journal the intent, publish PROD"},
    {"commit", &engine::EventStageCycles::commit,
     "give the records back to the kernel, journal the end"},
});
static_assert(kEventStageFields.size() == members<engine::EventStageCycles>());

inline constexpr auto kCommandStageFields = std::to_array<Field<engine::CommandStageCycles>>({
    {"commands", &engine::CommandStageCycles::commands,
     "Commands fetched in the sampled rounds (one round in 64)."},
    {"fetch", &engine::CommandStageCycles::fetch, "copy, check, hand to the policy"},
    {"merge", &engine::CommandStageCycles::merge,
     "what the policy makes of it when a submission is due"},
    {"submit", &engine::CommandStageCycles::submit, "in the host: the kernel's time"},
    {"sync", &engine::CommandStageCycles::sync, "complete CMD_SYNCs, advance CONS"},
});
static_assert(kCommandStageFields.size() == members<engine::CommandStageCycles>());

inline constexpr auto kShardFields = std::to_array<Field<engine::ShardCounters>>({
    {"rounds", &engine::ShardCounters::rounds, "Rounds over all duties of the core."},
    {"busy_rounds", &engine::ShardCounters::busy_rounds, "Of these: rounds that found work."},
    {"work", &engine::ShardCounters::work, "Records and commands handled."},
    {"busy_cycles", &engine::ShardCounters::busy_cycles, "Cycles in rounds that found work."},
    {"idle_cycles", &engine::ShardCounters::idle_cycles, "Cycles in rounds that found nothing."},
    {"submissions", &engine::ShardCounters::submissions, "Rounds that made a submission."},
    {"beat", &engine::ShardCounters::beat, "Time since the shard's last round began."},
    {"sleeps", &engine::ShardCounters::sleeps, "Times that the shard slept."},
    {"slept_ns", &engine::ShardCounters::slept_ns, "Time that the shard slept."},
});
static_assert(kShardFields.size() == members<engine::ShardCounters>());

inline constexpr auto kSessionFields = std::to_array<Field<session::ServerCounters>>({
    {"sessions", &session::ServerCounters::sessions, "Sessions of VMMs that are open."},
    {"accepted", &session::ServerCounters::accepted, "Sessions that were accepted."},
    {"refused_peers", &session::ServerCounters::refused_peers,
     "Peers refused, by their credentials or by limits."},
    {"requests", &session::ServerCounters::requests, "Requests of VMMs."},
    {"refused_requests", &session::ServerCounters::refused_requests, "Of these: refused."},
    {"lost_vmms", &session::ServerCounters::lost_vmms,
     "Sessions that ended without a goodbye, and left guests behind that linger."},
    {"reattached", &session::ServerCounters::reattached,
     "Guests that a VMM took up again, or that go on from the journal it passed."},
    {"lingering", &session::ServerCounters::lingering,
     "Guests whose VMM is gone and that wait for it."},
});
static_assert(kSessionFields.size() == members<session::ServerCounters>());

}  // namespace faultline::metrics
