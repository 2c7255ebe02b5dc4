// SPDX-License-Identifier: BSD-3-Clause
#include "engine/engine.h"

#include <sched.h>

#include <cerrno>

#include "engine/nudge.h"

namespace faultline::engine {

Launcher on_lcores(Lcores& lcores) {
  return {[&lcores](std::vector<std::function<void()>> loops) {
            return lcores.launch(std::move(loops));
          },
          [&lcores] { lcores.join(); }, [&lcores](std::size_t loop) { lcores.nudge(loop); }};
}

Launcher on_threads() {
  auto threads = std::make_shared<std::vector<std::thread>>();
  return {[threads](std::vector<std::function<void()>> loops) -> Result<void> {
            take_nudges();
            for (auto& loop : loops) threads->emplace_back(std::move(loop));
            return {};
          },
          [threads] {
            for (std::thread& thread : *threads) thread.join();
            threads->clear();
          },
          [threads](std::size_t loop) {
            if (loop < threads->size()) nudge((*threads)[loop].native_handle());
          }};
}

std::uint64_t identity_of(const GuestSpec& spec) noexcept {
  std::uint64_t hash = 0xcbf2'9ce4'8422'2325;  // FNV-1a, by words
  const auto mix = [&hash](std::uint64_t word) { hash = (hash ^ word) * 0x100'0000'01b3; };
  mix(spec.registers.value);
  mix(static_cast<std::uint64_t>(spec.mode));
  for (const DeviceSpec& device : spec.devices) mix(device.vsid.value);
  return hash;
}

Result<Journal> create_journal(const GuestSpec& spec) {
  return Journal::create(spec.name, spec.devices.size(), identity_of(spec));
}

Result<void> check_guest(const GuestSpec& spec, std::size_t sources, const Journal& journal) {
  const std::string where = "guest " + spec.name;
  if (spec.devices.empty() || spec.devices.size() > kJournalDevices) {
    return fail(EINVAL, where + " has " + std::to_string(spec.devices.size()) +
                            " devices; it needs 1 to " + std::to_string(kJournalDevices));
  }
  if (sources != spec.devices.size()) {
    return fail(EINVAL, where + " has " + std::to_string(spec.devices.size()) + " devices but " +
                            std::to_string(sources) + " fault sources");
  }
  const bool arms = spec.arm_eventfd >= 0;
  if (arms != (spec.armed_eventfd >= 0) || (arms && spec.doorbell_eventfd < 0)) {
    return fail(EINVAL, where + ": arm, armed and doorbell eventfds go together");
  }
  if (!spec.budget.valid()) return fail(EINVAL, where + ": " + std::string(kBudgetRule));
  for (std::size_t i = 0; i < spec.devices.size(); ++i) {
    for (std::size_t k = 0; k < i; ++k) {
      if (spec.devices[i].vsid == spec.devices[k].vsid) {
        return fail(EINVAL, where + ": devices " + spec.devices[k].name + " and " +
                                spec.devices[i].name + " have the same StreamID " +
                                std::to_string(spec.devices[i].vsid.value));
      }
    }
  }
  if (journal.devices() != spec.devices.size() || journal.identity() != identity_of(spec)) {
    return fail(EINVAL, where + ": the restart journal is of another guest");
  }
  return {};
}

void stay_on(const std::vector<unsigned>& cpus) noexcept {
  cpu_set_t set;
  CPU_ZERO(&set);
  for (const unsigned cpu : cpus) {
    if (cpu < CPU_SETSIZE) CPU_SET(cpu, &set);
  }
  if (CPU_COUNT(&set) > 0) sched_setaffinity(0, sizeof set, &set);
}

}  // namespace faultline::engine
