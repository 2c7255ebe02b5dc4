// SPDX-License-Identifier: BSD-3-Clause
#include "apps/faultline/options.h"

#include <CLI/CLI.hpp>

namespace faultline {
void declare_run(CLI::App& command, RunOptions& to) {
  const auto number = [&](const char* name, unsigned& value, unsigned low, unsigned high,
                          const char* text) {
    return command.add_option(name, value, text)->check(CLI::Range(low, high));
  };
  const auto choice = [&](const char* name, std::string& value, std::vector<std::string> among,
                          const char* text) {
    command.add_option(name, value, text)->check(CLI::IsMember(std::move(among)));
  };
  number("--seconds", to.seconds, 1, 86'400, "how long to work; Ctrl-C ends it sooner")
      ->capture_default_str();
  number("--guests", to.guests, 1, 64, "guests, each with its own virtual SMMU")
      ->capture_default_str();
  number("--devices", to.devices, 1, 16, "devices of each guest")->capture_default_str();
  number("--shards", to.shards, 1, 64, "polling threads [as many as there are cores for them]");
  choice("--policy", to.policy, {"forward-each", "batch-until-sync", "merge"},
         "how commands become submissions [merge]");
  declare_merge(command, to.merge);
  command
      .add_option("--audit-merge", to.merge.options.audit_every,
                  "merge: recompute the coverage of every N-th plan command by command; a "
                  "mismatch leaves a file")
      ->check(CLI::Range(1, 1'000'000'000));
  choice("--abi", to.abi, {"1", "2", "auto"}, "fault ABI to ask the kernel for [auto]");
  choice(
      "--kernel", to.kernel, {"soft", "soft-process", "iommufd"},
      "the software kernel, in this process or in its own [soft]; iommufd: this host's own "
      "kernel, with the devices of --device: they are bound and given a virtual SMMU whose guest "
      "plays the trace; its invalidations go to the real IOMMU, no DMA is asked of a device");
  command.add_option(
      "--device", to.host_devices,
      "iommufd: a device bound to vfio-pci, as its PCI address (0000:01:00.0) or its "
      "file (/dev/vfio/devices/vfio0); may be repeated");
  choice("--rate", to.rate, {"fast", "recorded"}, "think time of the guests' vCPUs [fast]");
  choice("--idle", to.idle, {"auto", "spin", "pause", "monitor", "yield", "sleep"},
         "what a polling core does when nothing came [auto: pause where isolated, else yield]; "
         "monitor waits for a write to a line, where the CPU can");
  command.add_option("--trace", to.trace,
                     "recorded commands to play: NAME of NAME.cmdq, NAME.db and NAME.json");
  command.add_option("--json", to.json, "write the result to this file, - for standard output");
  choice("--plant", to.plant, {"drop-tlbi", "early-sync", "lose-record", "duplicate-record"},
         "make the engine err on purpose; the audit must notice");
  number("--chaos", to.chaos, 1, 100'000,
         "kill the engine so many times at random moments; the kernel is then a process "
         "of its own, and the run ends after the last kill");
  command.add_flag("--chaos-steps", to.chaos_steps,
                   "kill the engine once at every named step of its restart journal");
  command.add_flag("--strict-cores", to.strict_cores, "refuse more shards than polling cores");
  choice("--hugepages", to.hugepages, {"auto", "on", "off"},
         "memory of the polling threads from hugepages [auto: where there are any]; on refuses to "
         "go without");
  command.add_flag("--lock-memory", to.lock_memory,
                   "lock the guests' memory into RAM, as a kernel does for real devices");
  choice("--quirks", to.quirks, {"none", "v7"},
         "answer as the real v7 kernel did where that departs from its documentation");
  number("--fail-invalidations", to.fail_invalidations, 2, 1'000'000,
         "each N-th invalidation of a device's container fails with EIO");
  number("--storms", to.storms_ms, 1, 60'000,
         "milliseconds between bursts of faults that overrun the kernel's queues");
  number("--sleep-after", to.sleep_after_us, 1, 10'000'000,
         "microseconds without work before a shard sleeps (--idle sleep)");
  number("--rebalance", to.rebalance_ms, 1, 60'000,
         "milliseconds after which every duty moves to the next shard, again and again");
  command.add_option("--seed", to.seed, "of everything that is random")->capture_default_str();
}

}  // namespace faultline
