// SPDX-License-Identifier: BSD-3-Clause
// hot path: the shape of what a shard polls and submits to.
#pragma once

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>

#include "kernel/base/clock.h"
#include "kernel/operation.h"
#include "kernel/record.h"

namespace faultline {

/// All fault sources (devices) of one guest. Every call is noexcept and from the owning shard.
///
/// size()            number of sources; index = the guest's device index
/// poll(i, out)      decode records that came since the last poll of i, in the kernel's order;
///                   fills out[0..n), returns n; 0 = nothing now. Nothing is given back yet
/// position(i)       what to journal: the position after everything polled so far
/// commit(i)         give everything polled back to the kernel, in one write; 0 or -errno
/// take_loss(i)      losses learnt that no polled record carries; cleared by the call. To be
///                   reported to the guest before any record polled later
/// housekeeping(now) the backstop and whatever else is due; returns work done. Called every round,
///                   must cost next to nothing when nothing is due
/// next_active(i, n) optional: the first source of [i, n) whose poll() may return something, n when
///                   there is none. What idle rounds then look at instead of polling each
/// watched_word(i)   optional: a word on the line that the kernel writes when source i has
///                   something; null: there is none
///
/// A source whose kernel gives records away for good (a read(2)) also has
/// kPollTakes        a constant, true: the journal then carries a reading mark
/// holds()           whether something was taken that no poll() or take_loss() has handed out
///
/// One that has page requests to answer also has
/// answer(answers)   write them, each whatever becomes of the others; returns how many the kernel
///                   took
/// answer_taken()    after a restart: let every request try again that an earlier life may have
///                   taken and told nobody of; returns how many there were
template <class S>
concept FaultSourceSet = requires(S& s, std::size_t i, std::span<FaultRecord> out, Nanos now) {
  { s.size() }
  noexcept->std::convertible_to<std::size_t>;
  { s.poll(i, out) }
  noexcept->std::same_as<std::size_t>;
  { s.position(i) }
  noexcept->std::same_as<SourcePosition>;
  { s.commit(i) }
  noexcept->std::same_as<int>;
  { s.take_loss(i) }
  noexcept->std::same_as<SourceLoss>;
  { s.housekeeping(now) }
  noexcept->std::same_as<std::size_t>;
};

/// Where one guest's operations go.
///
/// caps()                 asked once at start
/// submit(ops)            blocks until every operation took effect or the submission failed.
///                        thread: the shard that owns the guest's CommandDuty
/// note_asid(device,asid) a context descriptor of `device` carries this ASID: a sink without
///                        kTlbAll needs to know them all, others may route by it
/// set_stage1(device,cfg) bind, replace or drop stage 1; may block long: the cold lane calls it
///                        while the guest's command queue is parked (never beside submit)
template <class S>
concept InvalidationSink = requires(S& s, std::span<const Operation> ops, std::size_t device,
                                    std::uint16_t asid, const Stage1Config& config) {
  { s.caps() }
  noexcept->std::convertible_to<SinkCaps>;
  { s.submit(ops) }
  noexcept->std::same_as<SubmitResult>;
  { s.note_asid(device, asid) }
  noexcept->std::same_as<void>;
  { s.set_stage1(device, config) }
  noexcept->std::same_as<SubmitResult>;
};

}  // namespace faultline
