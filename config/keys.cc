// SPDX-License-Identifier: BSD-3-Clause
#include "config/keys.h"

#include <array>

namespace faultline::config {
namespace {

using O = Options;
constexpr bool kReload = true;
constexpr bool kFixed = false;
constexpr std::uint64_t kCpus = 4095;
constexpr std::uint64_t kIds = 0xfffffffe;

constexpr std::array kService = {
    Key{"service.node", &O::node, "NUMA node to serve; --node wins.", kFixed, 0, 1023},
    Key{"service.instance", &O::instance,
        "A service beside the node's own, for a trial: only one of each name runs on a node. At "
        "most 64 letters, digits, '.', '_' and '-'.",
        kFixed},
    Key{"service.backend", &O::backend,
        "Kernel interface of the devices: a software kernel, VFIO with nesting (the seed's), or "
        "iommufd.",
        kFixed, 0, 0, "soft vfio iommufd"},
    Key{"service.socket", &O::socket,
        "Where VMMs attach; %N stands for the node. Not used where systemd passes a socket. Empty: "
        "faultline-%N.sock in $XDG_RUNTIME_DIR, or in /tmp without one.",
        kFixed},
    Key{"service.socket-mode", &O::socket_mode,
        "Permissions of a socket that the service makes itself.", kFixed, 0, 0777, "", true},
    Key{"service.socket-owner", &O::socket_owner,
        "Owner of a socket that the service makes itself, as user or user:group. Empty: whoever "
        "starts it.",
        kFixed},
    Key{"service.user", &O::user,
        "User to become after the start. Empty: stay who starts it, which systemd's unit has set.",
        kFixed},
    Key{"service.group", &O::group, "Group to become with it. Empty: the user's own.", kFixed},
    Key{"service.seccomp", &O::seccomp, "Allow only the listed system calls after the start.",
        kFixed},
    Key{"service.stall-ms", &O::stall_ms,
        "A shard without a beat for so long counts as hung, and systemd's watchdog is fed no more.",
        kReload, 200, 60'000},
};

constexpr std::array kPlacement = {
    Key{"placement.shards", &O::shards,
        "Cores that poll. 0: two where the node has them (faults wait for no submission), else "
        "one.",
        kFixed, 0, 64},
    Key{"placement.cpus", &O::cpus, "CPUs to poll on. Empty: chosen by the topology (hwloc).",
        kFixed, 0, kCpus},
    Key{"placement.housekeeping", &O::housekeeping,
        "CPUs for everything that does not poll. Empty: what polling leaves over.", kFixed, 0,
        kCpus},
    Key{"placement.strict-cores", &O::strict_cores,
        "Refuse to start with more shards than cores to poll on.", kFixed},
    Key{"placement.hugepages", &O::hugepages,
        "Hugepages for shards: where there are any, only with them, or never.", kFixed, 0, 0,
        "auto on off"},
    Key{"placement.eal-memory-mib", &O::eal_memory_mib,
        "Memory that DPDK's EAL takes at the start where there are no hugepages.", kFixed, 32,
        65'536},
};

constexpr std::array kIdle = {
    Key{"idle.policy", &O::idle_policy,
        "What a polling core does when nothing comes. auto: pause on a core of its own, yield on a "
        "shared one.",
        kFixed, 0, 0, "auto spin pause monitor yield sleep"},
    Key{"idle.sleep-after-us", &O::sleep_after_us, "sleep: so long without work before it sleeps.",
        kFixed, 1, 10'000'000},
    Key{"idle.sleep-longest-us", &O::sleep_longest_us,
        "sleep: longest sleep. A VMM waits 300 ms for the next beat.", kFixed, 1, 200'000},
    Key{"idle.exitless-poll-us", &O::exitless_poll_us,
        "sleep: longest time in which nobody looks at the registers of a guest without a doorbell.",
        kFixed, 1, 100'000},
};

constexpr std::array kMerge = {
    Key{"merge.policy", &O::merge_policy, "Which rule makes submissions of a guest's commands.",
        kFixed, 0, 0, "merge batch-until-sync forward-each"},
    Key{"merge.cap", &O::merge_cap,
        "Most entries removed per entry asked for, where that costs less. 1: exact.", kFixed, 1,
        1'000'000},
    Key{"merge.deadline-us", &O::merge_deadline_us,
        "Modelled cost of a plan beyond which it is widened whatever the cap. 0: never.", kFixed, 0,
        1'000'000},
    Key{"merge.wait-us", &O::merge_wait_us,
        "A submission starts when its oldest command has waited so long for a CMD_SYNC.", kFixed, 0,
        100'000},
    Key{"merge.linger", &O::merge_linger,
        "Wait a little for the vCPUs whose CMD_SYNCs were just completed. auto: while it gains.",
        kFixed, 0, 0, "auto on off"},
    Key{"merge.assume-nonglobal", &O::assume_nonglobal,
        "The guests make no global stage-1 mappings, so an ASID covers its address ranges. Nothing "
        "checks it.",
        kFixed},
    Key{"merge.audit-every", &O::audit_every,
        "Recompute the coverage of every n-th plan, command by command. 0: never.", kFixed, 0,
        1'000'000'000},
};

constexpr std::array kBudget = {
    Key{"budget.commands", &O::budget_commands,
        "Commands of one guest in one round. 0: the engine's own default.", kReload, 0, 65'536},
    Key{"budget.records", &O::budget_records,
        "Fault records of one guest in one round. 0: the engine's own default.", kReload, 0,
        65'536},
    Key{"budget.submissions", &O::budget_submissions,
        "Submissions of one guest in rounds that follow each other. 0: the engine's own default.",
        kReload, 0, 1024},
};

constexpr std::array kSessions = {
    Key{"sessions.uids", &O::uids,
        "Users who may attach guests, beside root and the service's own user.", kReload, 0, kIds},
    Key{"sessions.gids", &O::gids, "Groups whose members may attach guests.", kReload, 0, kIds},
    Key{"sessions.sessions", &O::sessions, "Sessions of the service.", kReload, 1, 65'536},
    Key{"sessions.sessions-per-uid", &O::sessions_per_uid, "Sessions of one user.", kReload, 1,
        65'536},
    Key{"sessions.descriptors-per-uid", &O::descriptors_per_uid,
        "Descriptors that the service has open for the guests of one user.", kReload, 64,
        1'048'576},
    Key{"sessions.guests-per-session", &O::guests_per_session, "Guests of one session.", kReload, 1,
        1024},
    Key{"sessions.devices-per-guest", &O::devices_per_guest, "Devices of one guest.", kReload, 1,
        1024},
    Key{"sessions.memory-parts", &O::memory_parts, "Pieces of memory of one guest.", kReload, 1,
        1024},
    Key{"sessions.memory-mib", &O::memory_mib, "Memory of one guest.", kReload, 1,
        std::uint64_t{1} << 32U},
    Key{"sessions.messages-per-second", &O::messages_per_second,
        "Requests of one session; beyond it they wait.", kReload, 1, 1'000'000},
    Key{"sessions.linger-ms", &O::linger_ms,
        "A guest whose VMM went away without a word is kept so long for it.", kReload, 0,
        3'600'000},
};

constexpr std::array kLog = {
    Key{"log.lines-per-second", &O::log_lines_per_second, "Lines that one guest or peer can cause.",
        kReload, 1, 10'000},
    Key{"log.burst", &O::log_burst, "The same, at once after a silence.", kReload, 1, 10'000},
    Key{"log.total-lines-per-second", &O::log_total_lines_per_second,
        "Lines that all guests and peers together can cause.", kReload, 1, 100'000},
};

constexpr std::array kMetrics = {
    Key{"metrics.listen", &O::metrics_listen,
        "Where Prometheus asks: ADDRESS:PORT or unix:PATH; %N stands for the node, PORT+%N is a "
        "sum. "
        "Empty: nowhere.",
        kFixed},
    Key{"metrics.remote", &O::metrics_remote,
        "Let metrics.listen be an address that other machines reach: whoever reaches it may read.",
        kFixed},
    Key{"metrics.telemetry", &O::telemetry, "Serve /faultline/… to dpdk-telemetry.py, too.",
        kFixed},
};

constexpr std::array kTables = {
    Table{"service", "The process.", kService},
    Table{"placement", "Which cores poll, and with which memory.", kPlacement},
    Table{"idle", "What a polling core does when nothing comes.", kIdle},
    Table{"merge", "How commands become submissions to the kernel.", kMerge},
    Table{"budget", "What one guest gets of a core before the others have their turn.", kBudget},
    Table{"sessions", "Who may attach guests, and how much of everything.", kSessions},
    Table{"log", "Lines that guests and peers can cause; what goes beyond is counted.", kLog},
    Table{"metrics", "Counters for others to read.", kMetrics},
};

}  // namespace

std::span<const Table> tables() noexcept {
  return kTables;
}

const Key* find_key(std::string_view name) noexcept {
  for (const Table& table : kTables) {
    for (const Key& key : table.keys) {
      if (key.name == name) return &key;
    }
  }
  return nullptr;
}

std::vector<std::string> reload(Options& now, const Options& next) {
  std::vector<std::string> left;
  for (const Table& table : kTables) {
    for (const Key& key : table.keys) {
      std::visit(
          [&](auto member) {
            if (now.*member == next.*member) return;
            if (key.reload) {
              now.*member = next.*member;
            } else {
              left.emplace_back(key.name);
            }
          },
          key.member);
    }
  }
  return left;
}

}  // namespace faultline::config
