// SPDX-License-Identifier: BSD-3-Clause
// hot path: poll() is one branch while nothing was asked.
#pragma once

#include <cstddef>
#include <cstdint>

#include "engine/messages.h"

namespace faultline::engine {

/// What a CommandDuty asks of its guest's EventDuty: one request at a time, each acknowledged.
///
/// thread  the shard that owns the CommandDuty
class EventLink {
 public:
  /// gerror       GERROR as journalled
  /// last_token   the highest token used before a restart: none of them comes again
  explicit EventLink(GuestRings& rings, std::uint32_t gerror = 0,
                     std::uint32_t last_token = 0) noexcept
      : rings_(&rings), gerror_(gerror), last_token_(last_token) {}

  [[nodiscard]] bool busy() const noexcept { return busy_; }

  /// The token of the next request, to be journalled before it is sent.
  [[nodiscard]] std::uint32_t next_token() const noexcept {
    return last_token_ + 1 == 0 ? 1 : last_token_ + 1;
  }

  /// Ask. Requires !busy().
  void send(ToEventDuty request) noexcept {
    request.token = last_token_ = next_token();
    request_ = request;
    busy_ = true;
    queued_ = rings_->to_event.push(request_);
    rings_->event_bell.ring();
  }

  /// Pass on the guest's answer to a page request; nothing comes back.
  /// returns  false: no room now
  bool respond(const PageResponse& response) noexcept { return rings_->responses.push(response); }

  /// Take the acknowledgement. returns  work done
  std::size_t poll() noexcept {
    if (!busy_) [[likely]] {
      return 0;
    }
    return take();
  }

  /// GERROR as the last acknowledgement said.
  [[nodiscard]] std::uint32_t gerror() const noexcept { return gerror_; }

 private:
  std::size_t take() noexcept {
    if (!queued_) {
      queued_ = rings_->to_event.push(request_);
      rings_->event_bell.ring();
    }
    ToCommandDuty answer;
    std::size_t work = 0;
    while (rings_->to_command.pop(answer)) {
      ++work;
      gerror_ = answer.gerror;
      if (answer.token == last_token_) busy_ = false;
    }
    return work;
  }

  GuestRings* rings_;
  ToEventDuty request_;
  std::uint32_t gerror_;
  std::uint32_t last_token_;
  bool busy_ = false;
  bool queued_ = false;
};

}  // namespace faultline::engine
