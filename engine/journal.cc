// SPDX-License-Identifier: BSD-3-Clause
#include "engine/journal.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <new>
#include <utility>

namespace faultline::engine {
namespace {

constexpr std::array<std::string_view, kJournalSteps> kStepNames = {
    "event-polled",     "event-placed",       "event-intent",        "event-published",
    "event-committed",  "event-done",         "event-interrupted",   "evtq-journalled",
    "irq-journalled",   "gerror-journalled",  "gerror-published",    "registers-journalled",
    "commands-fetched", "commands-submitted", "cons-journalled",     "cons-published",
    "sync-journalled",  "sync-msi-written",   "sync-msi-journalled", "sync-cons-published",
    "sync-done",        "error-journalled",   "error-published",     "attach-marked",
    "attach-done",      "attach-journalled",
};

constexpr std::uint32_t kMaxLog2Size = 19;  // of an SMMUv3 queue
constexpr std::uint32_t kMaxS1CdMax = 20;

tl::unexpected<Error> bad(const std::string& field, std::uint64_t value) {
  return fail(EINVAL, "restart journal refused: " + field + " is " + std::to_string(value) +
                          "; start the guest with a fresh journal");
}

Result<void> validate_event(const JournalEventPart& event, std::size_t devices) {
  if (event.intent_valid > 1) return bad("intent mark", event.intent_valid);
  if (event.intent_valid == 1 && event.intent_device != kNoDevice &&
      event.intent_device >= devices) {
    return bad("intent device", event.intent_device);
  }
  if (event.intent_held > 1) return bad("mark of records held", event.intent_held);
  if (event.reading > devices) return bad("reading mark", event.reading);
  if (event.loss_owed > 1) return bad("owed overflow mark", event.loss_owed);
  const JournalEvtq evtq = event.evtq.load();
  if (evtq.enabled > 1) return bad("event queue enable", evtq.enabled);
  if (evtq.log2size > kMaxLog2Size) return bad("event queue log2size", evtq.log2size);
  if (event.irq.load().control > 7) return bad("IRQ_CTRL", event.irq.load().control);
  for (const JournalCookie& request : event.cookie) {
    if (request.valid > 1) return bad("page request mark", request.valid);
    if (request.valid == 1 && request.device >= devices) {
      return bad("page request device", request.device);
    }
  }
  return {};
}

Result<void> validate_command(const JournalCommandPart& command, std::size_t devices) {
  if (command.sync_state > static_cast<std::uint32_t>(SyncState::kPublishCons)) {
    return bad("SYNC state", command.sync_state);
  }
  if (command.sync_state == static_cast<std::uint32_t>(SyncState::kWriteMsi) &&
      command.sync_address % 4 != 0) {
    return bad("SYNC MSI address", command.sync_address);
  }
  const JournalRegisters registers = command.registers.load();
  if (registers.cmdq_log2size > kMaxLog2Size) {
    return bad("command queue log2size", registers.cmdq_log2size);
  }
  for (std::size_t i = 0; i < devices; ++i) {
    const std::string of = " of device " + std::to_string(i);
    const JournalBinding& binding = command.binding[i];
    if (binding.attaching > 1) return bad("attach mark" + of, binding.attaching);
    const JournalStage1 s = binding.stage1.load();
    if (s.bound > 1) return bad("stage-1 mark" + of, s.bound);
    if (s.mode > static_cast<std::uint8_t>(Stage1Config::Mode::kTranslate)) {
      return bad("stage-1 mode" + of, s.mode);
    }
    if (s.s1fmt > 2) return bad("stage-1 format" + of, s.s1fmt);
    if (s.s1cdmax > kMaxS1CdMax) return bad("stage-1 s1cdmax" + of, s.s1cdmax);
  }
  return {};
}

}  // namespace

std::string_view step_name(JournalStep step) noexcept {
  const auto i = static_cast<std::size_t>(step);
  return i < kStepNames.size() ? kStepNames[i] : "?";
}

std::optional<JournalStep> step_from_name(std::string_view name) noexcept {
  const auto* const at = std::find(kStepNames.begin(), kStepNames.end(), name);
  if (at == kStepNames.end()) return std::nullopt;
  return static_cast<JournalStep>(at - kStepNames.begin());
}

void CommandJournal::set_stage1(std::size_t device, const Stage1Config& config) noexcept {
  JournalStage1 s;
  s.bound = 1;
  s.mode = static_cast<std::uint8_t>(config.mode);
  s.s1fmt = config.s1fmt;
  s.s1dss = config.s1dss;
  s.s1cdmax = config.s1cdmax;
  s.cd_table = config.cd_table;
  s.ste[0] = config.ste[0];
  s.ste[1] = config.ste[1];
  part_->binding[device].stage1.store(s);
  store_release(part_->binding[device].attaching, std::uint64_t{0});
}

bool CommandJournal::stage1(std::size_t device, Stage1Config& out) const noexcept {
  const JournalStage1 s = part_->binding[device].stage1.load();
  if (s.bound == 0) return false;
  out.mode = static_cast<Stage1Config::Mode>(s.mode);
  out.s1fmt = s.s1fmt;
  out.s1dss = s.s1dss;
  out.s1cdmax = s.s1cdmax;
  out.cd_table = s.cd_table;
  out.ste[0] = s.ste[0];
  out.ste[1] = s.ste[1];
  return true;
}

Result<void> validate(const JournalLayout& journal, std::size_t bytes) {
  if (bytes < sizeof(JournalLayout)) return bad("size", bytes);
  const JournalHeader& header = journal.header;
  if (header.magic != kJournalMagic) return bad("magic number", header.magic);
  if (header.version != kJournalVersion) {
    return fail(EINVAL, "restart journal refused: it is of layout version " +
                            std::to_string(header.version) + ", this engine writes version " +
                            std::to_string(kJournalVersion) + "; restart the guest");
  }
  if (header.bytes != sizeof(JournalLayout)) return bad("length", header.bytes);
  if (header.devices == 0 || header.devices > kJournalDevices) {
    return bad("number of devices", header.devices);
  }
  if (header.in_use > 1) return bad("in-use mark", header.in_use);
  if (auto ok = validate_event(journal.event, header.devices); !ok) return ok;
  return validate_command(journal.command, header.devices);
}

Result<Journal> Journal::create(const std::string& name, std::size_t devices,
                                std::uint64_t identity) {
  if (devices == 0 || devices > kJournalDevices) {
    return fail(EINVAL, "guest " + name + " has " + std::to_string(devices) +
                            " devices; a guest needs 1 to " + std::to_string(kJournalDevices));
  }
  const int fd = memfd_create(("journal-" + name).c_str(), MFD_CLOEXEC | MFD_ALLOW_SEALING);
  if (fd < 0) return fail(errno, "create the restart journal of guest " + name);
  void* at = MAP_FAILED;
  if (ftruncate(fd, sizeof(JournalLayout)) == 0 &&
      fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW) == 0) {
    at = mmap(nullptr, sizeof(JournalLayout), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd,
              0);
  }
  if (at == MAP_FAILED) {
    const int error = errno;
    ::close(fd);
    return fail(error, "map the restart journal of guest " + name);
  }
  auto* layout = new (at) JournalLayout();
  layout->header.version = kJournalVersion;
  layout->header.bytes = sizeof(JournalLayout);
  layout->header.identity = identity;
  layout->header.devices = static_cast<std::uint32_t>(devices);
  // Pairs with validate() in whoever maps it: half an initialisation is no journal.
  store_release(layout->header.magic, kJournalMagic);
  return Journal(fd, layout);
}

Result<Journal> Journal::open(int memfd) {
  const int fd = fcntl(memfd, F_DUPFD_CLOEXEC, 3);
  if (fd < 0) return fail(errno, "duplicate the descriptor of a restart journal");
  struct stat info {};
  if (fstat(fd, &info) != 0 || info.st_size < static_cast<off_t>(sizeof(JournalLayout))) {
    ::close(fd);
    return bad("size", static_cast<std::uint64_t>(std::max<off_t>(info.st_size, 0)));
  }
  void* at = mmap(nullptr, sizeof(JournalLayout), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE,
                  fd, 0);
  if (at == MAP_FAILED) {
    const int error = errno;
    ::close(fd);
    return fail(error, "map a restart journal");
  }
  Journal journal(fd, static_cast<JournalLayout*>(at));
  if (auto ok = validate(*journal.layout_, sizeof(JournalLayout)); !ok) {
    return tl::unexpected<Error>(ok.error());
  }
  return journal;
}

Journal::Journal(Journal&& other) noexcept
    : memfd_(std::exchange(other.memfd_, -1)), layout_(std::exchange(other.layout_, nullptr)) {}

Journal& Journal::operator=(Journal&& other) noexcept {
  if (this != &other) {
    drop();
    memfd_ = std::exchange(other.memfd_, -1);
    layout_ = std::exchange(other.layout_, nullptr);
  }
  return *this;
}

Journal::~Journal() {
  drop();
}

void Journal::drop() noexcept {
  if (layout_ != nullptr) munmap(layout_, sizeof(JournalLayout));
  if (memfd_ >= 0) ::close(memfd_);
  layout_ = nullptr;
  memfd_ = -1;
}

Nanos Journal::last_beat() const noexcept {
  return std::min(load_relaxed(layout_->event.heartbeat), load_relaxed(layout_->command.heartbeat));
}

}  // namespace faultline::engine
