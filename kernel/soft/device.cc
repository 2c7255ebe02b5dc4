// SPDX-License-Identifier: BSD-3-Clause
#include "kernel/soft/device.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <span>
#include <utility>

#include "kernel/base/shared.h"
#include "kernel/base/units.h"

namespace faultline::soft {
namespace {

static_assert(std::endian::native == std::endian::little);

constexpr Nanos kMillisecond = 1'000'000;

template <class T>
void move_word(void* host, std::byte* bytes, bool write) noexcept {
  T word = 0;
  if (write) {
    std::memcpy(&word, bytes, sizeof word);
    store_relaxed(*static_cast<T*>(host), word);
  } else {
    word = load_relaxed(*static_cast<T*>(host));
    std::memcpy(bytes, &word, sizeof word);
  }
}

// Each naturally aligned part is one access, as on a bus; a guest may be at the same bytes.
void move_bytes(std::uint64_t host, std::span<std::byte> bytes, bool write) noexcept {
  std::size_t at = 0;
  while (at < bytes.size()) {
    void* p = reinterpret_cast<void*>(host + at);
    const std::size_t left = bytes.size() - at;
    const auto fits = [&](std::size_t n) { return left >= n && (host + at) % n == 0; };
    if (fits(8)) {
      move_word<std::uint64_t>(p, &bytes[at], write);
      at += 8;
    } else if (fits(4)) {
      move_word<std::uint32_t>(p, &bytes[at], write);
      at += 4;
    } else if (fits(2)) {
      move_word<std::uint16_t>(p, &bytes[at], write);
      at += 2;
    } else {
      move_word<std::uint8_t>(p, &bytes[at], write);
      at += 1;
    }
  }
}

void count(std::uint64_t& counter, std::uint64_t n = 1) noexcept {
  store_relaxed(counter, load_relaxed(counter) + n);  // one writer
}

bool sensible(const DmaRequest& r) noexcept {
  constexpr unsigned kFlags =
      DmaRequest::kWrite | DmaRequest::kExec | DmaRequest::kPriv | DmaRequest::kSsid;
  if ((r.flags & ~kFlags) != 0) return false;
  if (r.length == DmaRequest::kLine) return r.iova % DmaRequest::kLine == 0;
  return r.length >= 1 && r.length <= 8;
}

}  // namespace

Device::Device(const SoftKernelConfig& config, std::size_t index, DeviceMemory memory,
               DeviceShare& share)
    : kernel_(config),
      own_(config.devices[index]),
      index_(index),
      bar_(std::move(memory.bar)),
      ledger_(std::move(memory.ledger)),
      share_(share),
      port_(config, std::move(memory.producer), std::move(memory.consumer)),
      ring_(bar_.data()),
      audit_(ledger_.data(), config.ledger_entries),
      atc_entries_(config.quirks_v7 ? 0 : own_.atc_entries) {
  ring_.reset();
  fl_atc_init(&atc_, atc_entries_.data(), static_cast<std::uint32_t>(atc_entries_.size()));
  stream_.sid = own_.stream_id;
  stream_.atc = atc_entries_.empty() ? nullptr : &atc_;
  stream_.device = this;
}

void Device::descriptors(std::vector<int>& all) const {
  all.push_back(bar_.fd());
  port_.descriptors(all);
}

Device::~Device() {
  stop();
}

Nanos Device::now() const {
  return kernel_.clock ? kernel_.clock() : monotonic_ns();
}

std::unique_lock<std::mutex> Device::stand_still() {
  waiting_.fetch_add(1, std::memory_order_relaxed);
  std::unique_lock lock(run_);
  waiting_.fetch_sub(1, std::memory_order_relaxed);
  return lock;
}

DmaCompletion Device::execute(const DmaRequest& request) {
  const auto lock = stand_still();
  return execute_locked(request);
}

DmaCompletion Device::execute_locked(const DmaRequest& request) {
  DmaCompletion completion;
  completion.cookie = request.cookie;
  completion.status = DmaStatus::kBadRequest;
  if (sensible(request)) {
    count(share_.accesses);
    std::byte bytes[DmaRequest::kLine] = {};
    for (std::size_t i = 0; i < sizeof bytes; i += 8) std::memcpy(&bytes[i], &request.value, 8);
    completion.status = DmaStatus::kOk;
    std::span<std::byte> left(bytes, request.length);
    while (!left.empty() && completion.status == DmaStatus::kOk) {
      left = left.subspan(access(request, left, completion));
    }
    const bool read = (request.flags & DmaRequest::kWrite) == 0;
    if (read && completion.status == DmaStatus::kOk) {
      std::memcpy(&completion.value, bytes, std::min<std::size_t>(request.length, 8));
    }
  }
  completion.timestamp_ns = now();
  return completion;
}

// One translation and the access through it: as many of the bytes as the translation covers.
std::size_t Device::access(const DmaRequest& request, std::span<std::byte> bytes,
                           DmaCompletion& completion) {
  const bool write = (request.flags & DmaRequest::kWrite) != 0;
  const fl_request wanted{
      .iova = request.iova + (request.length - bytes.size()),
      .ssid = request.ssid,
      .ssv = (request.flags & DmaRequest::kSsid) != 0,
      .access = static_cast<std::uint8_t>(
          request.flags & (DmaRequest::kWrite | DmaRequest::kExec | DmaRequest::kPriv))};
  fl_result result{};
  fl_event event{};
  fl_outcome outcome = FL_TERMINATED;
  std::size_t done = 0;

  // seq_cst: either quiesce() sees this access, or this access sees what came before quiesce().
  epoch_.fetch_add(1, std::memory_order_seq_cst);
  if (TranslationUnit* unit = unit_.load(std::memory_order_seq_cst); unit != nullptr) {
    const std::lock_guard lock(unit->mutex);
    outcome = fl_translate(&unit->iommu, &stream_, &wanted, &result, &event);
  }
  if (outcome == FL_TRANSLATED) {
    if (kernel_.access_hook) kernel_.access_hook(index_);
    done = static_cast<std::size_t>(std::min<std::uint64_t>(result.size, bytes.size()));
    if ((result.prot & FL_PROT_MMIO) != 0) {
      completion.flags |= DmaCompletion::kMsi;
      store_relaxed(share_.msi_data, request.value);
      store_release(share_.msi_count, load_relaxed(share_.msi_count) + 1);
    } else {
      move_bytes(result.host, bytes.first(done), write);
    }
  }
  epoch_.fetch_add(1, std::memory_order_seq_cst);
  epoch_.notify_all();

  if (outcome == FL_TERMINATED) completion.status = DmaStatus::kAborted;
  if (outcome == FL_FAULTED) {
    completion.status = DmaStatus::kFaulted;
    raise(event, request);
  }
  return done;
}

void Device::raise(const fl_event& event, const DmaRequest& request) {
  count(share_.faults);
  LedgerEntry entry;
  entry.timestamp_ns = now();
  std::copy(std::begin(event.w), std::end(event.w), std::begin(entry.event));
  entry.iova = request.iova;
  entry.access = request.flags;
  if (!port_.raise(event, entry.timestamp_ns, entry)) return;
  count(entry.outcome == LedgerOutcome::kProduced ? share_.produced : share_.dropped);
  audit_.append(entry);
}

void Device::quiesce() const noexcept {
  const std::uint32_t seen = epoch_.load(std::memory_order_seq_cst);
  if ((seen & 1U) != 0) epoch_.wait(seen, std::memory_order_seq_cst);
}

void Device::attach(TranslationUnit& unit, const fl_s1_config& s1) {
  {
    const std::lock_guard lock(unit.mutex);
    stream_.domain = &unit.domain;
    static_cast<void>(fl_stream_set_s1(&unit.iommu, &stream_, &s1));
  }
  unit_.store(&unit, std::memory_order_seq_cst);
}

void Device::detach() {
  TranslationUnit* unit = unit_.exchange(nullptr, std::memory_order_seq_cst);
  if (unit == nullptr) return;
  quiesce();
  const std::lock_guard lock(unit->mutex);
  fl_inv_cd_all(&unit->iommu, stream_.sid);
  fl_inv_atc_all(&unit->iommu, &stream_);
  stream_.domain = nullptr;
}

void Device::reset() {
  const auto lock = stand_still();
  ring_.reset();
  if (TranslationUnit* unit = unit_.load(std::memory_order_seq_cst); unit != nullptr) {
    const std::lock_guard unit_lock(unit->mutex);
    fl_inv_atc_all(&unit->iommu, &stream_);
  }
}

void Device::start() {
  if (thread_.joinable()) return;
  exchange_seq_cst(stop_, 0U);
  thread_ = std::thread([this] { serve(); });
}

void Device::stop() {
  if (!thread_.joinable()) return;
  exchange_seq_cst(stop_, 1U);
  ring_.wake();
  futex_wake(stop_);
  thread_.join();
}

std::size_t Device::burst(std::size_t limit) {
  const std::lock_guard lock(run_);
  DmaRequest request;
  std::size_t n = 0;
  while (n < limit && audit_.room() && ring_.room() && ring_.take(request)) {
    ring_.complete(execute_locked(request));
    ++n;
  }
  store_relaxed(share_.bad_index, ring_.bad_index());
  return n;
}

void Device::serve() {
  std::uint64_t random = kernel_.seed * 0x9e3779b97f4a7c15U + index_ + 1;
  unsigned fruitless = 0;
  while (load_seq_cst(stop_) == 0) {
    random ^= random << 13U;  // xorshift64: how long a device keeps its run lock differs each time
    random ^= random >> 7U;
    random ^= random << 17U;
    if (burst(random % 32 + 1) > 0) {
      fruitless = 0;
      // A mutex is not fair: let whoever wants the run lock have it. Without one, yielding would
      // only cost the device its time slice.
      if (waiting_.load(std::memory_order_relaxed) > 0) std::this_thread::yield();
    } else if (!audit_.room()) {
      audit_.wait(10 * kMillisecond);
    } else if (++fruitless < 16) {
      ring_.sleep(200 * kMillisecond, stop_);
    } else {
      // A driver that keeps waking us for nothing does not get a core for it.
      futex_wait(stop_, 0, kMillisecond);
      ring_.sleep(200 * kMillisecond, stop_);
    }
  }
}

}  // namespace faultline::soft
