// SPDX-License-Identifier: BSD-3-Clause
// hot path: page requests of a guest's devices, and their answers.
#pragma once

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "kernel/iommufd/event_file.h"
#include "kernel/iommufd/event_record.h"
#include "kernel/iommufd/source_stats.h"
#include "kernel/record.h"
#include "kernel/sys.h"

namespace faultline::iommufd {

/// One fault queue: what IOMMU_FAULT_QUEUE_ALLOC gives, for the nested HWPTs of all devices.
///
/// The kernel gives whole groups: one page each, all with one cookie, the last one marked. A group
/// that makes no sense is answered with failure here and never handed out, since a request without
/// an answer stops its device for ever.
///
/// cost     one read(2) for up to kMostPages pages; one write(2) for any number of answers
/// thread   owning shard only
/// source   Linux drivers/iommu/iommufd/eventq.c, iommufd_fault_fops_read(), …_write()
template <Syscalls Sys>
class FaultQueue {
 public:
  /// The largest group that a read can take: PCIe has 512 page request indices.
  static constexpr std::size_t kMostPages = 512;
  static constexpr std::size_t kRecord = sizeof(uapi::iommu_hwpt_pgfault);

  /// devices   iommufd's object id of each device
  FaultQueue(Sys& sys, int fd, std::vector<std::uint32_t> devices)
      : sys_(&sys), file_(sys, fd, kMostPages * kRecord), devices_(std::move(devices)) {}

  /// Read, if nothing is left of the last read.
  /// returns  whether a page is in front; false and `dry`: the kernel had nothing
  bool refill(bool& dry) noexcept {
    dry = false;
    if (front_) return true;
    const ReadResult result = file_.read();
    if (result == ReadResult::kSome) {
      ++stats_.reads;
      advance();
      return front_;
    }
    if (result == ReadResult::kEmpty) ++stats_.empty_reads;
    if (result == ReadResult::kFailed) ++stats_.read_failed;
    dry = result != ReadResult::kAgain;
    return false;
  }

  [[nodiscard]] std::size_t device() const noexcept { return device_; }
  [[nodiscard]] bool front() const noexcept { return front_; }
  /// Something was taken from the kernel that was not handed out.
  [[nodiscard]] bool held() const noexcept { return front_ || in_group_ || file_.left() != 0; }

  /// Hand out the pages of a device that are in front.
  std::size_t poll(std::size_t device, std::span<FaultRecord> out) noexcept {
    std::size_t n = 0;
    while (front_ && device_ == device && n < out.size()) {
      out[n++] = record_;
      if (record_.last_page) ++stats_.groups;
      advance();
    }
    stats_.records += n;
    return n;
  }

  /// Write answers. The kernel stops at the first one that it does not know; it is skipped, so that
  /// the others do not wait behind it.
  ///
  /// returns  answers that the kernel took
  std::size_t answer(std::span<const PageAnswer> answers) noexcept {
    std::size_t taken = 0;
    std::array<uapi::iommu_hwpt_page_response, kAnswers> raw;
    while (!answers.empty()) {
      const std::size_t n = std::min(answers.size(), raw.size());
      for (std::size_t i = 0; i < n; ++i) {
        raw[i] = {answers[i].cookie,
                  answers[i].retry ? uapi::kIommufdPageRespSuccess : uapi::kIommufdPageRespInvalid};
      }
      taken += write(std::span(raw).first(n));
      answers = answers.subspan(n);
    }
    return taken;
  }

  /// Let everything try again that a killed engine may have read and told nobody of.
  ///
  /// Which cookies those are is not known, but a queue hands out its lowest free ones, from 1, and
  /// takes an unknown one with EINVAL: so all that can be open are tried.
  ///
  /// open     requests that may have been open besides those of the last read
  /// cost     one write(2) each; a restart only
  [[gnu::cold, gnu::noinline]] std::size_t answer_taken(std::size_t open) noexcept {
    std::size_t taken = 0;
    for (std::uint32_t cookie = 0; cookie <= open + kMostPages; ++cookie) {
      uapi::iommu_hwpt_page_response raw{cookie, uapi::kIommufdPageRespSuccess};
      if (sys_->write(file_.fd(), &raw, sizeof raw) == static_cast<ssize_t>(sizeof raw)) ++taken;
    }
    stats_.answers += taken;
    return taken;
  }

  [[nodiscard]] const FaultStats& stats() const noexcept { return stats_; }

 private:
  static constexpr std::size_t kAnswers = 64;
  static constexpr std::size_t kResponse = sizeof(uapi::iommu_hwpt_page_response);

  /// Look at what comes next, past groups that make no sense.
  void advance() noexcept {
    front_ = false;
    while (file_.left() >= kRecord) {
      const auto raw = file_.template peek<uapi::iommu_hwpt_pgfault>();
      file_.take(kRecord);
      if (take(raw)) return;
    }
    if (file_.left() != 0) ++stats_.fragments;
  }

  /// returns  whether the page is in front now
  bool take(const uapi::iommu_hwpt_pgfault& raw) noexcept {
    if (in_group_ && raw.cookie != cookie_) [[unlikely]] {
      reject();  // the group before has no last page
    }
    record_ = decode_page(raw);
    const bool sane = record_.form == FaultRecord::Form::kPageRequest &&
                      (!in_group_ || raw.dev_id == dev_id_) && find(raw.dev_id);
    bad_ = (in_group_ && bad_) || !sane;
    in_group_ = !record_.last_page;
    cookie_ = raw.cookie;
    dev_id_ = raw.dev_id;
    if (!bad_) [[likely]] {
      front_ = true;
      return true;
    }
    if (record_.last_page) reject();
    return false;
  }

  [[gnu::cold, gnu::noinline]] void reject() noexcept {
    ++stats_.bad_groups;
    in_group_ = false;
    bad_ = false;
    const PageAnswer failed{cookie_, false};
    (void)answer(std::span(&failed, 1));
  }

  bool find(std::uint32_t dev_id) noexcept {
    if (device_ < devices_.size() && devices_[device_] == dev_id) return true;
    for (std::size_t i = 0; i < devices_.size(); ++i) {
      if (devices_[i] != dev_id) continue;
      device_ = i;
      return true;
    }
    return false;
  }

  std::size_t write(std::span<const uapi::iommu_hwpt_page_response> rest) noexcept {
    std::size_t taken = 0;
    while (!rest.empty()) {
      const ssize_t wrote = sys_->write(file_.fd(), rest.data(), rest.size_bytes());
      if (wrote == -EINTR) continue;
      const std::size_t n =
          wrote > 0 ? std::min(static_cast<std::size_t>(wrote) / kResponse, rest.size()) : 0;
      taken += n;
      rest = rest.subspan(n);
      if (n == 0) {
        ++(wrote == -EINVAL ? stats_.bad_answers : stats_.write_failed);
        rest = rest.subspan(1);
      }
    }
    stats_.answers += taken;
    return taken;
  }

  Sys* sys_;
  EventFile<Sys> file_;
  std::vector<std::uint32_t> devices_;
  bool front_ = false;
  bool in_group_ = false;  ///< the last page of the group is still to come
  bool bad_ = false;       ///< a page of the group made no sense
  std::size_t device_ = 0;
  std::uint32_t cookie_ = 0;  ///< of the group
  std::uint32_t dev_id_ = 0;
  FaultRecord record_;
  FaultStats stats_;
};

}  // namespace faultline::iommufd
