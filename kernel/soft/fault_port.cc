// SPDX-License-Identifier: BSD-3-Clause
#include "kernel/soft/fault_port.h"

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "kernel/base/clock.h"
#include "kernel/base/shared.h"
#include "kernel/base/units.h"
#include "kernel/uapi/vfio_nested.h"

namespace faultline::soft {

FaultPort::FaultPort(const SoftKernelConfig& config, SharedMemory producer, SharedMemory consumer)
    : config_(config), producer_(std::move(producer)), consumer_(std::move(consumer)) {
  reset_region();
}

FaultPort::~FaultPort() {
  set_trigger(-1);
}

void FaultPort::reset_region() {
  const fl_region_memory memory{producer_.data(), producer_.size(), consumer_.data(), kPage4K};
  // The sizes fit by construction.
  static_cast<void>(fl_region_init(&region_, &memory, config_.max_fault_abi,
                                   config_.quirks_v7 ? FL_QUIRKS_V7 : 0));
}

void FaultPort::open() {
  const std::lock_guard lock(mutex_);
  reset_region();
  open_ = true;
  const std::lock_guard trigger(trigger_mutex_);
  signalled_ = false;
}

void FaultPort::close() {
  set_trigger(-1);
  const std::lock_guard lock(mutex_);
  reset_region();
  open_ = false;
}

std::uint64_t FaultPort::consumer_size() const noexcept {
  return config_.max_fault_abi >= 2 ? kPage4K : sizeof(uapi::vfio_region_fault_cons);
}

std::uint32_t FaultPort::abi() {
  const std::lock_guard lock(mutex_);
  return region_.abi;
}

ssize_t FaultPort::read_producer(void* out, std::size_t size, std::uint64_t at) {
  const auto lock = lock_spinning();
  const std::uint32_t abi = region_.abi;
  if (config_.mutation == Mutation::kProdReadableBeforeAbi && abi == 0) region_.abi = 1;
  const auto result = fl_region_read_prod(&region_, at, out, size);
  region_.abi = abi;
  if (config_.mutation != Mutation::kNone) mutate_header(out, size, at);
  return static_cast<ssize_t>(result);
}

ssize_t FaultPort::write_consumer(const void* in, std::size_t size, std::uint64_t at) {
  const std::lock_guard lock(mutex_);
  if (config_.mutation != Mutation::kNone) return write_mutated(in, size, at);
  return static_cast<ssize_t>(fl_region_write_cons(&region_, at, in, size));
}

int FaultPort::map_producer(std::uint64_t at, std::size_t size, bool write,
                            RegionMapping& mapping) {
  const std::lock_guard lock(mutex_);
  if (write || at + size > producer_.size()) return -EINVAL;
  const std::uint64_t from =
      region_.abi == 2 || config_.mutation == Mutation::kHeaderMappable ? 0 : kPage4K;
  const std::uint64_t to = region_.abi == 2 ? producer_.size() : 2 * kPage4K;
  if (at < from || at + size > to) return -EINVAL;
  mapping = {producer_.read_only_fd(), static_cast<off_t>(at)};
  return 0;
}

int FaultPort::map_consumer(std::uint64_t at, std::size_t size, RegionMapping& mapping) {
  if (config_.max_fault_abi < 2 || at != 0 || size != kPage4K) return -EINVAL;
  mapping = {consumer_.fd(), 0};
  return 0;
}

std::unique_lock<std::mutex> FaultPort::lock_spinning() {
  std::unique_lock lock(mutex_, std::try_to_lock);
  for (int i = 0; i < 200 && !lock.owns_lock(); ++i) {
    cpu_relax();
    static_cast<void>(lock.try_lock());
  }
  if (!lock.owns_lock()) lock.lock();
  return lock;
}

void FaultPort::set_trigger(int fd) {
  const std::lock_guard lock(trigger_mutex_);
  if (trigger_ >= 0) ::close(trigger_);
  trigger_ = fd;
  trigger_blocks_ = fd >= 0 && (fcntl(fd, F_GETFL) & O_NONBLOCK) == 0;
}

bool FaultPort::has_trigger() {
  const std::lock_guard lock(trigger_mutex_);
  return trigger_ >= 0;
}

void FaultPort::signal() {
  const std::lock_guard lock(trigger_mutex_);
  if (trigger_ < 0 || config_.mutation == Mutation::kNoEventfd) return;
  if (config_.mutation == Mutation::kEventfdOnce && std::exchange(signalled_, true)) return;
  const std::uint64_t one = 1;
  // A counter that is full stays readable, which is all that a signal has to achieve; never wait
  // for it to have room.
  pollfd room{trigger_, POLLOUT, 0};
  if (trigger_blocks_ && ::poll(&room, 1, 0) != 1) return;
  [[maybe_unused]] const ssize_t written = ::write(trigger_, &one, sizeof one);
}

bool FaultPort::raise(const fl_event& event, std::uint64_t timestamp_ns, LedgerEntry& entry) {
  std::unique_lock lock(mutex_);
  const std::uint32_t abi = open_ ? region_.abi : 0;
  const std::uint64_t position = abi == 2   ? region_.ring2.next
                                 : abi == 1 ? load_relaxed(*region_.ring1.prod)
                                            : 0;
  const std::uint64_t sequence = abi == 2 ? region_.ring2.next + region_.ring2.nr_lost : 0;
  const fl_produced produced = config_.mutation == Mutation::kNone
                                   ? fl_region_produce(&region_, &event, timestamp_ns)
                                   : produce_mutated(event, timestamp_ns);
  switch (produced) {
    case FL_NOT_DUE:
      return false;
    case FL_PRODUCED:
      entry.outcome = LedgerOutcome::kProduced;
      break;
    case FL_DROPPED_FULL:
      entry.outcome = LedgerOutcome::kDroppedFull;
      break;
    case FL_NO_ABI:
      entry.outcome = LedgerOutcome::kDroppedNoAbi;
      break;
  }
  entry.abi = static_cast<std::uint16_t>(abi);
  entry.position = position;
  entry.sequence = sequence;
  lock.unlock();
  // Outside of the queue's lock, as v7 does: who reads prod does not wait for the signal.
  if (produced == FL_PRODUCED) signal();
  return true;
}

}  // namespace faultline::soft
