// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <string>
#include <string_view>

#include "apps/metrics/moment.h"
#include "kernel/base/result.h"

namespace faultline::metrics {

/// A moment as one JSON object: `{"version": 1, "node", "backend", "now_ns", "uptime_ns",
/// "sessions": {...}, "shards": [...], "guests": [...]}`, every counter by its name in the engine.
/// A histogram is `{"max", "buckets": [[bucket, samples], ...]}`, empty buckets left out.
std::string to_json(const Moment& moment);

/// errors  text that to_json() did not make
Result<Moment> moment_from_json(std::string_view text);

}  // namespace faultline::metrics
