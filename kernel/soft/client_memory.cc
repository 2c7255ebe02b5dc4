// SPDX-License-Identifier: BSD-3-Clause
#include "kernel/soft/client_memory.h"

#include <fcntl.h>
#include <unistd.h>

#include <iterator>
#include <utility>

#include "kernel/base/units.h"

namespace faultline::soft {
namespace {

std::size_t whole_pages(std::size_t size) {
  return (size + kPage4K - 1) / kPage4K * kPage4K;
}

}  // namespace

void ClientMemory::add(std::uintptr_t at, std::size_t size, int fd, off_t offset) {
  const int own = fcntl(fd, F_DUPFD_CLOEXEC, 0);
  if (own < 0) return;
  std::shared_ptr<const int> holder(new int(own), [](const int* p) {
    ::close(*p);
    delete p;
  });
  const std::lock_guard lock(mutex_);
  remove_locked(at, whole_pages(size));
  mappings_[at] = {whole_pages(size), std::move(holder), offset};
}

void ClientMemory::remove(std::uintptr_t at, std::size_t size) {
  const std::lock_guard lock(mutex_);
  remove_locked(at, whole_pages(size));
}

void ClientMemory::remove_locked(std::uintptr_t at, std::size_t size) {
  const std::uintptr_t end = at + size;
  auto it = mappings_.upper_bound(at);
  if (it != mappings_.begin()) it = std::prev(it);
  while (it != mappings_.end() && it->first < end) {
    const std::uintptr_t from = it->first;
    const Mapping old = it->second;
    const std::uintptr_t to = from + old.size;
    if (to <= at) {
      ++it;
      continue;
    }
    it = mappings_.erase(it);
    if (from < at) mappings_[from] = {at - from, old.fd, old.offset};
    if (to > end) mappings_[end] = {to - end, old.fd, old.offset + static_cast<off_t>(end - from)};
  }
}

int ClientMemory::find(std::uintptr_t at, std::size_t size, off_t& offset) {
  const std::lock_guard lock(mutex_);
  auto it = mappings_.upper_bound(at);
  if (it == mappings_.begin()) return -1;
  it = std::prev(it);
  const std::uintptr_t into = at - it->first;
  if (into >= it->second.size || size > it->second.size - into) return -1;
  offset = it->second.offset + static_cast<off_t>(into);
  return fcntl(*it->second.fd, F_DUPFD_CLOEXEC, 0);
}

}  // namespace faultline::soft
