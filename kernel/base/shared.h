// SPDX-License-Identifier: BSD-3-Clause
// hot path: every access to memory that somebody else writes or reads at the same time.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace faultline {

// Memory shared with a kernel, a guest or another process holds plain integers; these are the only
// ways to touch it. An address must be aligned to its type.

template <class T>
[[nodiscard]] inline T load_relaxed(const T& at) noexcept {
  return std::atomic_ref<T>(const_cast<T&>(at)).load(std::memory_order_relaxed);
}

/// Pairs with the other side's store_release (or the kernel's smp_store_release).
template <class T>
[[nodiscard]] inline T load_acquire(const T& at) noexcept {
  return std::atomic_ref<T>(const_cast<T&>(at)).load(std::memory_order_acquire);
}

template <class T>
[[nodiscard]] inline T load_seq_cst(const T& at) noexcept {
  return std::atomic_ref<T>(const_cast<T&>(at)).load(std::memory_order_seq_cst);
}

template <class T>
inline void store_relaxed(T& at, T value) noexcept {
  std::atomic_ref<T>(at).store(value, std::memory_order_relaxed);
}

/// Everything written before is seen by whoever load_acquire()s this value.
template <class T>
inline void store_release(T& at, T value) noexcept {
  std::atomic_ref<T>(at).store(value, std::memory_order_release);
}

/// Count. A counter has one writer, the thread that owns it; anybody may load_relaxed() it.
inline void tally(std::uint64_t& counter, std::uint64_t by = 1) noexcept {
  store_relaxed(counter, counter + by);
}

/// For store-load races (publish, then look whether the reader slept): a full barrier.
template <class T>
inline T exchange_seq_cst(T& at, T value) noexcept {
  return std::atomic_ref<T>(at).exchange(value, std::memory_order_seq_cst);
}

/// Copy out of memory that another side may be writing: word by word, each word whole.
///
/// from     8-byte aligned, `bytes` a multiple of 8
/// returns  nothing; the copy may mix old and new words, the caller validates the copy
inline void copy_from_shared(void* to, const void* from, std::size_t bytes) noexcept {
  auto* out = static_cast<unsigned char*>(to);
  const auto* in = static_cast<const std::uint64_t*>(from);
  for (std::size_t i = 0; i < bytes / sizeof(std::uint64_t); ++i) {
    const std::uint64_t word = load_relaxed(in[i]);
    std::memcpy(out + i * sizeof word, &word, sizeof word);
  }
}

/// Copy into memory that another side may be reading: word by word, each word whole.
/// Publish with a store_release afterwards.
inline void copy_to_shared(void* to, const void* from, std::size_t bytes) noexcept {
  auto* out = static_cast<std::uint64_t*>(to);
  const auto* in = static_cast<const unsigned char*>(from);
  for (std::size_t i = 0; i < bytes / sizeof(std::uint64_t); ++i) {
    std::uint64_t word = 0;
    std::memcpy(&word, in + i * sizeof word, sizeof word);
    store_relaxed(out[i], word);
  }
}

}  // namespace faultline
