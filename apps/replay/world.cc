// SPDX-License-Identifier: BSD-3-Clause
#include "apps/replay/world.h"

#include <sys/mman.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <string>

#include "apps/guest/player.h"
#include "apps/guest/registers.h"
#include "engine/viommu/command.h"

namespace faultline {
namespace {

constexpr Gpa kBase{0x4000'0000};
// Tables and the event queue need less than 1 MiB, the largest command queue 2 MiB twice, because
// it is aligned to its size.
constexpr std::size_t kRamBytes = std::size_t{8} << 20;
constexpr unsigned kCommandLog2 = 12;

/// Large enough for what a vCPU writes at once.
unsigned command_log2(const guest::Trace& trace) {
  const guest::Script script = guest::make_script(trace);
  std::uint32_t most = 0;
  const auto look = [&](const std::vector<guest::Group>& groups) {
    for (const guest::Group& g : groups) most = std::max(most, g.count + 1);
  };
  look(script.prologue);
  for (const auto& groups : script.vcpus) look(groups);
  return std::max(kCommandLog2, static_cast<unsigned>(std::bit_width(most)));
}

/// Whether some TLBI names pages of this granule.
bool names_granule(const guest::Trace& trace, unsigned tg) {
  return std::any_of(trace.commands.begin(), trace.commands.end(), [&](const guest::Command& c) {
    const bool by_address =
        c.opcode() == guest::op::kTlbiNhVa || c.opcode() == guest::op::kTlbiNhVaa;
    return by_address && (c.word[1] >> 10 & 3) == tg;
  });
}

}  // namespace

viommu::Features replay_features(const guest::Trace& trace, const SinkCaps& caps) {
  viommu::Features wanted;
  wanted.ssid_bits = 20;
  wanted.granule_16k = names_granule(trace, 2);
  wanted.granule_64k = names_granule(trace, 3);
  wanted.ats = caps.atc;
  wanted.pri = caps.atc;
  wanted.stalls = true;
  wanted.ranges = trace.uses_range;
  return wanted;
}

Result<void> check_commands(const guest::Trace& trace, const viommu::Features& features) {
  for (std::size_t i = 0; i < trace.commands.size(); ++i) {
    const guest::Command& c = trace.commands[i];
    viommu::Command decoded;
    if (viommu::decode({{c.word[0], c.word[1]}}, features, decoded) !=
        viommu::CommandError::kNone) {
      return fail(0, "command " + std::to_string(i) + " of " + trace.name + " (opcode " +
                         viommu::hex(c.opcode()) + ") is illegal on this virtual SMMU");
    }
  }
  return {};
}

Result<std::unique_ptr<ReplayWorld>> ReplayWorld::make(const guest::Trace& trace,
                                                       const viommu::Features& features) {
  std::unique_ptr<ReplayWorld> world(new ReplayWorld());
  if (auto ok = world->build(trace, features); !ok) return tl::unexpected(ok.error());
  return world;
}

Result<void> ReplayWorld::build(const guest::Trace& trace, const viommu::Features& features) {
  bytes_ = kRamBytes + viommu::kRegisterBytes;
  void* host = mmap(nullptr, bytes_, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
  if (host == MAP_FAILED) return fail(errno, "no memory for a guest");
  host_ = host;
  spec_.name = "replay";
  spec_.memory.push_back({kBase, bytes_, host_, -1});
  spec_.registers = kBase + kRamBytes;
  spec_.mode = engine::RegisterMode::kExitless;
  auto memory = viommu::GuestMemory::make(spec_.memory);
  if (!memory) return tl::unexpected(memory.error());
  memory_.emplace(std::move(*memory));
  auto page = viommu::RegisterPage::map(*memory_, spec_.registers);
  if (!page) return tl::unexpected(page.error());
  page_ = *page;
  // A journal is of at least one device; nobody looks at that one's part.
  auto journal = engine::Journal::create(spec_.name, 1, 1);
  if (!journal) return tl::unexpected(journal.error());
  journal_.emplace(std::move(*journal));
  features_ = features;

  engine::EventDutySetup events;
  events.memory = &*memory_;
  events.page = page_;
  events.mode = spec_.mode;
  events.evtq_log2 = features_.evtq_log2;
  events.rings = &rings_;
  events_ = std::make_unique<engine::EventDuty<NoSources>>(sources_, std::move(events),
                                                           journal_->event());

  ram_.emplace(kBase, host_, kRamBytes);
  const guest::Registers registers(static_cast<unsigned char*>(host_) + kRamBytes);
  guest::DriverOptions options;
  options.command_log2size = command_log2(trace);
  driver_ = std::make_unique<guest::SmmuDriver>(*ram_, registers, observations_, options);
  return {};
}

ReplayWorld::~ReplayWorld() {
  memory_.reset();
  if (host_ != nullptr) munmap(host_, bytes_);
}

engine::CommandDutySetup ReplayWorld::setup() noexcept {
  return {0, &spec_, &*memory_, page_, features_, &rings_, &*journal_};
}

}  // namespace faultline
