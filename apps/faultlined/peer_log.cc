// SPDX-License-Identifier: BSD-3-Clause
#include "apps/faultlined/peer_log.h"

#include <algorithm>
#include <iterator>
#include <utility>

namespace faultline::daemon {
namespace {

constexpr Nanos kSecond = 1'000'000'000;
constexpr std::size_t kNameBytes = 64;
constexpr std::string_view kOthers = "other peers";

std::string harmless(std::string_view text, std::size_t most) {
  std::string out(text.substr(0, most));
  std::replace_if(
      out.begin(), out.end(), [](char c) { return c < ' ' || c > '~'; }, '?');
  if (text.size() > most) out += "...";
  return out;
}

}  // namespace

PeerLog::PeerLog(PeerLogOptions options, Sink sink) : options_(options), sink_(std::move(sink)) {
  own_.cost = kSecond / std::max(1U, options.lines_per_second);
  own_.full = own_.cost * std::max(1U, options.burst);
  total_rate_.cost = kSecond / std::max(1U, options.total_lines_per_second);
  total_rate_.full = 2 * total_rate_.cost * std::max(1U, options.total_lines_per_second);
  total_.credit = total_rate_.full;
  others_.credit = own_.full;
}

void PeerLog::fill(Bucket& bucket, const Rate& rate, Nanos now) {
  // A clock that does not move on brings nothing.
  if (now > bucket.at) bucket.credit = std::min(rate.full, bucket.credit + (now - bucket.at));
  bucket.at = std::max(bucket.at, now);
}

PeerLog::Bucket& PeerLog::bucket_of(const std::string& name, Nanos now) {
  if (const auto it = buckets_.find(name); it != buckets_.end()) return it->second;
  // Names that have been silent long enough are told apart no more: a new one begins alike.
  if (buckets_.size() >= options_.names && now >= swept_ + kSecond) {
    swept_ = now;
    for (auto it = buckets_.begin(); it != buckets_.end();) {
      fill(it->second, own_, now);
      const bool silent = it->second.credit == own_.full && it->second.suppressed == 0;
      it = silent ? buckets_.erase(it) : std::next(it);
    }
  }
  if (buckets_.size() >= options_.names) return others_;
  return buckets_.emplace(name, Bucket{own_.full, now, 0}).first->second;
}

bool PeerLog::pay(Bucket& bucket, Nanos now) {
  fill(bucket, own_, now);
  fill(total_, total_rate_, now);
  if (bucket.credit < own_.cost || total_.credit < total_rate_.cost) return false;
  bucket.credit -= own_.cost;
  total_.credit -= total_rate_.cost;
  return true;
}

void PeerLog::say_suppressed(const std::string& name, Bucket& bucket) {
  sink_(name + ": " + std::to_string(bucket.suppressed) + " lines suppressed");
  bucket.suppressed = 0;
}

void PeerLog::log(std::string_view name, std::string_view line, Nanos now) {
  const std::string shown = harmless(name, kNameBytes);
  Bucket& bucket = bucket_of(shown, now);
  // The summary is a line as well, and comes first.
  if (bucket.suppressed > 0 && pay(bucket, now)) {
    say_suppressed(&bucket == &others_ ? std::string(kOthers) : shown, bucket);
  }
  if (bucket.suppressed == 0 && pay(bucket, now)) {
    sink_(shown + ": " + harmless(line, options_.line_bytes));
    return;
  }
  ++bucket.suppressed;
  ++suppressed_;
}

void PeerLog::tick(Nanos now) {
  if (others_.suppressed > 0 && pay(others_, now)) say_suppressed(std::string(kOthers), others_);
  for (auto& [name, bucket] : buckets_) {
    if (bucket.suppressed > 0 && pay(bucket, now)) say_suppressed(name, bucket);
  }
}

}  // namespace faultline::daemon
