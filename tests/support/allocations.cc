// SPDX-License-Identifier: BSD-3-Clause
#include "tests/support/allocations.h"

#include <cstdlib>
#include <new>

// clang's sanitizers have an operator new of their own, which cannot be replaced.
#define FAULTLINE_OPERATOR_NEW 1
#ifdef FAULTLINE_TSAN
#undef FAULTLINE_OPERATOR_NEW
#elif defined(__clang__)
#if __has_feature(address_sanitizer)
#undef FAULTLINE_OPERATOR_NEW
#endif
#endif

namespace {
thread_local std::size_t count = 0;

#ifdef FAULTLINE_OPERATOR_NEW
void* allocate(std::size_t bytes, std::size_t align) {
  ++count;
  void* at = align <= alignof(std::max_align_t)
                 ? std::malloc(bytes)
                 : std::aligned_alloc(align, (bytes + align - 1) / align * align);
  if (at == nullptr) throw std::bad_alloc();
  return at;
}
#endif
}  // namespace

namespace faultline::testing_support {
std::size_t allocations() noexcept {
  return count;
}
}  // namespace faultline::testing_support

#ifdef FAULTLINE_OPERATOR_NEW
void* operator new(std::size_t bytes) {
  return allocate(bytes, 0);
}
void* operator new[](std::size_t bytes) {
  return allocate(bytes, 0);
}
void* operator new(std::size_t bytes, std::align_val_t align) {
  return allocate(bytes, static_cast<std::size_t>(align));
}
void* operator new[](std::size_t bytes, std::align_val_t align) {
  return allocate(bytes, static_cast<std::size_t>(align));
}
void operator delete(void* at) noexcept {
  std::free(at);
}
void operator delete[](void* at) noexcept {
  std::free(at);
}
void operator delete(void* at, std::size_t) noexcept {
  std::free(at);
}
void operator delete[](void* at, std::size_t) noexcept {
  std::free(at);
}
void operator delete(void* at, std::align_val_t) noexcept {
  std::free(at);
}
void operator delete[](void* at, std::align_val_t) noexcept {
  std::free(at);
}
void operator delete(void* at, std::size_t, std::align_val_t) noexcept {
  std::free(at);
}
void operator delete[](void* at, std::size_t, std::align_val_t) noexcept {
  std::free(at);
}
#endif
