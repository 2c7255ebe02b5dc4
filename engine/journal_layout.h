// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "kernel/base/shared.h"
#include "kernel/base/units.h"

namespace faultline::engine {

// The journal of one guest as it lies in memory: shared by the engine and the supervisor, never
// mapped into the guest. Plain integers, fixed offsets; a change of layout is a new version.

inline constexpr std::uint64_t kJournalMagic = 0x4c4e524a544c4146;  // "FALTJRNL"
inline constexpr std::uint32_t kJournalVersion = 1;
inline constexpr std::size_t kJournalDevices = 64;
inline constexpr std::size_t kJournalCookies = 64;
inline constexpr std::size_t kJournalWritten = 7;
inline constexpr std::size_t kAsidWords = 65536 / 64;

/// No store after this may be compiled to before one that stands in front of it: a release store
/// alone does not keep later stores behind itself. A kill sees program order, so the processor's
/// reordering does not matter.
inline void in_program_order() noexcept {
  std::atomic_signal_fence(std::memory_order_seq_cst);
}

/// A value of several words that a kill cannot tear: the next one is written beside the current
/// one, then `version` selects it.
template <class T>
struct Latched {
  static_assert(std::is_trivially_copyable_v<T> && sizeof(T) % 8 == 0 && alignof(T) == 8);

  std::uint64_t version = 0;
  T slot[2] = {};

  void store(const T& value) noexcept {
    in_program_order();
    const std::uint64_t next = load_relaxed(version) + 1;
    copy_to_shared(&slot[next & 1], &value, sizeof value);
    store_release(version, next);  // pairs with load() after a restart
  }
  [[nodiscard]] T load() const noexcept {
    T value;
    copy_from_shared(&value, &slot[load_acquire(version) & 1], sizeof value);
    return value;
  }
};

/// Written once, before the journal is used.
struct alignas(kCacheLine) JournalHeader {
  std::uint64_t magic = 0;
  std::uint32_t version = 0;
  std::uint32_t bytes = 0;     ///< sizeof(JournalLayout)
  std::uint64_t identity = 0;  ///< of the guest's shape; another guest's journal is refused
  std::uint32_t devices = 0;
  std::uint32_t in_use = 0;  ///< 0: fresh, never served; 1: a start must recover
};

struct JournalPosition {
  std::uint64_t next = 0;
  std::uint64_t lost = 0;
};

/// Where one device's fault source stands.
struct JournalDevice {
  JournalPosition position;  ///< given back to the kernel, delivered to the guest
  std::uint64_t reserved[2] = {};
};

struct JournalEvtq {
  std::uint64_t base = 0;  ///< GPA
  std::uint32_t log2size = 0;
  std::uint32_t enabled = 0;
};

/// IRQ_CTRL as acknowledged, and the MSIs that the guest had programmed then.
struct JournalIrq {
  std::uint64_t evtq_address = 0;  ///< 0: no MSI
  std::uint64_t gerror_address = 0;
  std::uint32_t evtq_data = 0;
  std::uint32_t gerror_data = 0;
  std::uint32_t control = 0;
  std::uint32_t reserved = 0;
};

/// A page request of the kernel that is not answered yet.
struct JournalCookie {
  std::uint32_t valid = 0;
  std::uint32_t device = 0;
  std::uint32_t cookie = 0;
  std::uint32_t group = 0;
};

/// Written by the shard that owns the guest's EventDuty.
struct alignas(kCacheLine) JournalEventPart {
  // What is being published; all of it counts only while intent_valid is 1.
  std::uint64_t intent_valid = 0;
  std::uint32_t intent_device = 0;  ///< kNoDevice: an overflow alone, no source is concerned
  std::uint32_t intent_prod = 0;    ///< EVTQ_PROD to publish, with OVFLG
  JournalPosition intent_position;
  std::uint64_t intent_held = 0;  ///< 1: besides these, more was taken that is in no journal
  std::uint64_t reading = 0;      ///< device + 1 while records taken from it are in no journal
  std::uint32_t evtq_prod = 0;    ///< as published, with OVFLG
  std::uint32_t loss_owed = 0;    ///< a loss came while an older overflow was unacknowledged
  std::uint64_t heartbeat = 0;    ///< ns, CLOCK_MONOTONIC
  std::uint64_t gerror = 0;       ///< token of the last raise done << 32 | GERROR
  Latched<JournalEvtq> evtq;
  std::uint64_t reserved[2] = {};
  Latched<JournalIrq> irq;
  std::uint64_t written[kJournalWritten] = {};  ///< guest memory (written.h)
  JournalDevice device[kJournalDevices];
  JournalCookie cookie[kJournalCookies];
};
inline constexpr std::uint32_t kNoDevice = 0xffffffff;

/// The guest's registers as CommandDuty last took and acknowledged them.
struct JournalRegisters {
  std::uint32_t cr0 = 0;
  std::uint32_t cr0ack = 0;
  std::uint32_t cr1 = 0;
  std::uint32_t cr2 = 0;
  std::uint32_t irq_ctrl = 0;
  std::uint32_t gbpa = 0;
  std::uint32_t strtab_base_cfg = 0;
  std::uint32_t cmdq_log2size = 0;
  std::uint64_t strtab_base = 0;
  std::uint64_t cmdq_base = 0;
  std::uint64_t reserved[2] = {};
};

/// Stage1Config without padding and enums.
struct JournalStage1 {
  std::uint32_t bound = 0;  ///< 0: the kernel has nothing from us
  std::uint8_t mode = 0;
  std::uint8_t s1fmt = 0;
  std::uint8_t s1dss = 0;
  std::uint8_t s1cdmax = 0;
  std::uint64_t cd_table = 0;
  std::uint64_t ste[2] = {};
};

struct JournalBinding {
  Latched<JournalStage1> stage1;
  std::uint64_t attaching = 0;  ///< 1: the kernel may have the journalled stage 1 or another one
};

/// What remains to be done for the CMD_SYNC being completed.
enum class SyncState : std::uint32_t { kNone = 0, kWriteMsi = 1, kPublishCons = 2 };

/// Written by the shard that owns the guest's CommandDuty.
struct alignas(kCacheLine) JournalCommandPart {
  std::uint64_t heartbeat = 0;   ///< ns, CLOCK_MONOTONIC
  std::uint32_t cmdq_cons = 0;   ///< as published, with ERR
  std::uint32_t sync_state = 0;  ///< SyncState
  std::uint32_t sync_cons = 0;   ///< CONS after the SYNC
  std::uint32_t sync_data = 0;
  std::uint64_t sync_address = 0;  ///< GPA of the MSI; 0: none
  std::uint32_t error_token = 0;   ///< of the command error that stopped the queue; 0: none
  std::uint32_t reserved0 = 0;
  std::uint64_t reserved[2] = {};
  std::uint64_t spare[1] = {};
  Latched<JournalRegisters> registers;
  std::uint64_t written[kJournalWritten] = {};  ///< guest memory (written.h)
  JournalBinding binding[kJournalDevices];
  std::uint64_t asid_seen[kAsidWords] = {};  ///< bit per ASID the sink was told of
};

struct JournalLayout {
  JournalHeader header;
  JournalEventPart event;
  JournalCommandPart command;
};

#define FAULTLINE_AT(type, field, at) static_assert(offsetof(type, field) == (at))
FAULTLINE_AT(JournalHeader, magic, 0);
FAULTLINE_AT(JournalHeader, version, 8);
FAULTLINE_AT(JournalHeader, bytes, 12);
FAULTLINE_AT(JournalHeader, identity, 16);
FAULTLINE_AT(JournalHeader, devices, 24);
FAULTLINE_AT(JournalHeader, in_use, 28);
static_assert(sizeof(JournalHeader) == 64 && sizeof(JournalDevice) == 32);
FAULTLINE_AT(JournalDevice, position, 0);
FAULTLINE_AT(JournalEventPart, intent_valid, 0);
FAULTLINE_AT(JournalEventPart, intent_device, 8);
FAULTLINE_AT(JournalEventPart, intent_prod, 12);
FAULTLINE_AT(JournalEventPart, intent_position, 16);
FAULTLINE_AT(JournalEventPart, intent_held, 32);
FAULTLINE_AT(JournalEventPart, reading, 40);
FAULTLINE_AT(JournalEventPart, evtq_prod, 48);
FAULTLINE_AT(JournalEventPart, loss_owed, 52);
FAULTLINE_AT(JournalEventPart, heartbeat, 56);
FAULTLINE_AT(JournalEventPart, gerror, 64);
FAULTLINE_AT(JournalEventPart, evtq, 72);
FAULTLINE_AT(JournalEventPart, irq, 128);
FAULTLINE_AT(JournalEventPart, written, 200);
FAULTLINE_AT(JournalEventPart, device, 256);
FAULTLINE_AT(JournalEventPart, cookie, 256 + 64 * 32);
static_assert(sizeof(JournalEventPart) == 256 + 64 * 32 + 64 * 16);
static_assert(sizeof(JournalEvtq) == 16 && sizeof(JournalIrq) == 32 && sizeof(JournalCookie) == 16);
FAULTLINE_AT(JournalRegisters, cr0, 0);
FAULTLINE_AT(JournalRegisters, cr0ack, 4);
FAULTLINE_AT(JournalRegisters, cr1, 8);
FAULTLINE_AT(JournalRegisters, cr2, 12);
FAULTLINE_AT(JournalRegisters, irq_ctrl, 16);
FAULTLINE_AT(JournalRegisters, gbpa, 20);
FAULTLINE_AT(JournalRegisters, strtab_base_cfg, 24);
FAULTLINE_AT(JournalRegisters, cmdq_log2size, 28);
FAULTLINE_AT(JournalRegisters, strtab_base, 32);
FAULTLINE_AT(JournalRegisters, cmdq_base, 40);
static_assert(sizeof(JournalRegisters) == 64);
FAULTLINE_AT(JournalStage1, bound, 0);
FAULTLINE_AT(JournalStage1, mode, 4);
FAULTLINE_AT(JournalStage1, cd_table, 8);
FAULTLINE_AT(JournalStage1, ste, 16);
static_assert(sizeof(JournalStage1) == 32 && sizeof(JournalBinding) == 80);
FAULTLINE_AT(JournalCommandPart, heartbeat, 0);
FAULTLINE_AT(JournalCommandPart, cmdq_cons, 8);
FAULTLINE_AT(JournalCommandPart, sync_state, 12);
FAULTLINE_AT(JournalCommandPart, sync_cons, 16);
FAULTLINE_AT(JournalCommandPart, sync_data, 20);
FAULTLINE_AT(JournalCommandPart, sync_address, 24);
FAULTLINE_AT(JournalCommandPart, error_token, 32);
FAULTLINE_AT(JournalCommandPart, registers, 64);
FAULTLINE_AT(JournalCommandPart, written, 200);
FAULTLINE_AT(JournalCommandPart, binding, 256);
FAULTLINE_AT(JournalCommandPart, asid_seen, 256 + 64 * 80);
static_assert(sizeof(JournalCommandPart) == 256 + 64 * 80 + 8192);
FAULTLINE_AT(JournalLayout, event, 64);
FAULTLINE_AT(JournalLayout, command, 64 + sizeof(JournalEventPart));
#undef FAULTLINE_AT
static_assert(std::is_trivially_copyable_v<JournalLayout>);

}  // namespace faultline::engine
