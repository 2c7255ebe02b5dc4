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
    {"delivered", &engine::EventDeviceCounters::delivered},
    {"discarded", &engine::EventDeviceCounters::discarded},
    {"dropped_full", &engine::EventDeviceCounters::dropped_full},
    {"untranslatable", &engine::EventDeviceCounters::untranslatable},
    {"lost_exact", &engine::EventDeviceCounters::lost_exact},
    {"lost_possible", &engine::EventDeviceCounters::lost_possible},
    {"commit_failed", &engine::EventDeviceCounters::commit_failed},
    {"page_requests", &engine::EventDeviceCounters::page_requests},
    {"pages_answered", &engine::EventDeviceCounters::pages_answered},
    {"pages_folded", &engine::EventDeviceCounters::pages_folded},
    {"pages_retried", &engine::EventDeviceCounters::pages_retried},
    {"pages_failed", &engine::EventDeviceCounters::pages_failed},
    {"pages_void", &engine::EventDeviceCounters::pages_void},
    {"answers_stale", &engine::EventDeviceCounters::answers_stale},
});
static_assert(kEventDeviceFields.size() == members<engine::EventDeviceCounters>());

inline constexpr auto kEventGuestFields = std::to_array<Field<engine::EventGuestCounters>>({
    {"bursts", &engine::EventGuestCounters::bursts},
    {"overflows", &engine::EventGuestCounters::overflows},
    {"gerrors", &engine::EventGuestCounters::gerrors},
    {"guessed", &engine::EventGuestCounters::guessed},
    {"recoveries", &engine::EventGuestCounters::recoveries},
    {"records_cut", &engine::EventGuestCounters::records_cut},
    {"foreign_waits", &engine::EventGuestCounters::foreign_waits},
});
static_assert(kEventGuestFields.size() == members<engine::EventGuestCounters>());

inline constexpr auto kCommandFields = std::to_array<Field<engine::CommandCounters>>({
    {"commands", &engine::CommandCounters::commands},
    {"syncs", &engine::CommandCounters::syncs},
    {"syncs_completed", &engine::CommandCounters::syncs_completed},
    {"operations_asked", &engine::CommandCounters::operations_asked},
    {"operations", &engine::CommandCounters::operations},
    {"submissions", &engine::CommandCounters::submissions},
    {"failed_submissions", &engine::CommandCounters::failed_submissions},
    {"ioctls", &engine::CommandCounters::ioctls},
    {"host_syncs", &engine::CommandCounters::host_syncs},
    {"attaches", &engine::CommandCounters::attaches},
    {"retried_attaches", &engine::CommandCounters::retried_attaches},
    {"refused_attaches", &engine::CommandCounters::refused_attaches},
    {"failed_attaches", &engine::CommandCounters::failed_attaches},
    {"illegal", &engine::CommandCounters::illegal},
    {"aborts", &engine::CommandCounters::aborts},
    {"atc_timeouts", &engine::CommandCounters::atc_timeouts},
    {"resyncs", &engine::CommandCounters::resyncs},
    {"blocked", &engine::CommandCounters::blocked},
    {"foreign_streams", &engine::CommandCounters::foreign_streams},
    {"prefetches", &engine::CommandCounters::prefetches},
    {"responses", &engine::CommandCounters::responses},
    {"msi_aborts", &engine::CommandCounters::msi_aborts},
    {"register_changes", &engine::CommandCounters::register_changes},
    {"late_registers", &engine::CommandCounters::late_registers},
    {"commands_cut", &engine::CommandCounters::commands_cut},
    {"foreign_waits", &engine::CommandCounters::foreign_waits},
});
static_assert(kCommandFields.size() == members<engine::CommandCounters>());

inline constexpr auto kMergeFields = std::to_array<Field<merge::MergeCounters>>({
    {"operations", &merge::MergeCounters::operations},
    {"duplicates", &merge::MergeCounters::duplicates},
    {"ranges_merged", &merge::MergeCounters::ranges_merged},
    {"planned", &merge::MergeCounters::planned},
    {"plans", &merge::MergeCounters::plans},
    {"widened_gap", &merge::MergeCounters::widened_gap},
    {"widened_leaf", &merge::MergeCounters::widened_leaf},
    {"widened_asids", &merge::MergeCounters::widened_asids},
    {"widened_asid", &merge::MergeCounters::widened_asid},
    {"widened_all", &merge::MergeCounters::widened_all},
    {"widened_size", &merge::MergeCounters::widened_size},
    {"widened_deadline", &merge::MergeCounters::widened_deadline},
    {"entries_asked", &merge::MergeCounters::entries_asked},
    {"entries_removed", &merge::MergeCounters::entries_removed},
    {"leaf_asked", &merge::MergeCounters::leaf_asked},
    {"leaf_kept", &merge::MergeCounters::leaf_kept},
    {"lingers", &merge::MergeCounters::lingers},
    {"linger_gains", &merge::MergeCounters::linger_gains},
    {"audits", &merge::MergeCounters::audits},
    {"audit_failures", &merge::MergeCounters::audit_failures},
});
static_assert(kMergeFields.size() == members<merge::MergeCounters>());

inline constexpr auto kEventStageFields = std::to_array<Field<engine::EventStageCycles>>({
    {"bursts", &engine::EventStageCycles::bursts},
    {"records", &engine::EventStageCycles::records},
    {"poll", &engine::EventStageCycles::poll},
    {"transcode", &engine::EventStageCycles::transcode},
    {"publish", &engine::EventStageCycles::publish},
    {"commit", &engine::EventStageCycles::commit},
});
static_assert(kEventStageFields.size() == members<engine::EventStageCycles>());

inline constexpr auto kCommandStageFields = std::to_array<Field<engine::CommandStageCycles>>({
    {"commands", &engine::CommandStageCycles::commands},
    {"fetch", &engine::CommandStageCycles::fetch},
    {"merge", &engine::CommandStageCycles::merge},
    {"submit", &engine::CommandStageCycles::submit},
    {"sync", &engine::CommandStageCycles::sync},
});
static_assert(kCommandStageFields.size() == members<engine::CommandStageCycles>());

inline constexpr auto kShardFields = std::to_array<Field<engine::ShardCounters>>({
    {"rounds", &engine::ShardCounters::rounds},
    {"busy_rounds", &engine::ShardCounters::busy_rounds},
    {"work", &engine::ShardCounters::work},
    {"busy_cycles", &engine::ShardCounters::busy_cycles},
    {"idle_cycles", &engine::ShardCounters::idle_cycles},
    {"submissions", &engine::ShardCounters::submissions},
    {"beat", &engine::ShardCounters::beat},
    {"sleeps", &engine::ShardCounters::sleeps},
    {"slept_ns", &engine::ShardCounters::slept_ns},
});
static_assert(kShardFields.size() == members<engine::ShardCounters>());

inline constexpr auto kSessionFields = std::to_array<Field<session::ServerCounters>>({
    {"sessions", &session::ServerCounters::sessions},
    {"accepted", &session::ServerCounters::accepted},
    {"refused_peers", &session::ServerCounters::refused_peers},
    {"requests", &session::ServerCounters::requests},
    {"refused_requests", &session::ServerCounters::refused_requests},
    {"lost_vmms", &session::ServerCounters::lost_vmms},
    {"reattached", &session::ServerCounters::reattached},
    {"lingering", &session::ServerCounters::lingering},
});
static_assert(kSessionFields.size() == members<session::ServerCounters>());

}  // namespace faultline::metrics
