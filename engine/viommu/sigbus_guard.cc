// SPDX-License-Identifier: BSD-3-Clause
#include "engine/viommu/sigbus_guard.h"

#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <mutex>
#include <utility>

namespace faultline::viommu {

namespace {

constexpr int kGuests = 256;
constexpr std::size_t kSlots = 2048;

/// One guarded range. The handler reads it without a lock: `version` is odd while a control thread
/// writes it, and changes with every use, so a torn read is recognised and passed over.
struct Slot {
  std::atomic<std::uint32_t> version{0};
  std::atomic<std::uintptr_t> begin{0};
  std::atomic<std::uintptr_t> end{0};  ///< 0: free
  std::atomic<int> guest{-1};
};

// Never freed: the handler may run at any time in any thread, also while the process ends.
std::array<Slot, kSlots> g_slots;
std::array<std::atomic<bool>, kGuests> g_poisoned;

// Control path only.
std::mutex g_mutex;
std::array<bool, kGuests> g_guest_used{};
struct sigaction g_previous;
std::atomic<bool> g_installed{false};

void set(Slot& slot, std::uintptr_t begin, std::uintptr_t end, int guest) noexcept {
  // seq_cst throughout: a seqlock's writer would need fences that ThreadSanitizer cannot see, and
  // nothing here is hot.
  slot.version.fetch_add(1);
  slot.begin.store(begin);
  slot.end.store(end);
  slot.guest.store(guest);
  slot.version.fetch_add(1);
}

struct Hit {
  std::uintptr_t begin = 0;
  std::uintptr_t end = 0;
  int guest = -1;
};

Hit find(std::uintptr_t address) noexcept {
  for (const Slot& slot : g_slots) {
    const std::uint32_t version = slot.version.load();
    const Hit hit{slot.begin.load(), slot.end.load(), slot.guest.load()};
    if (slot.version.load() != version || version % 2 != 0) continue;
    if (address >= hit.begin && address < hit.end) return hit;
  }
  return {};
}

/// Put zeroes where the page was. The page's size is not known here: a hugetlb mapping refuses a
/// smaller piece than its own, so try the sizes that exist, smallest first.
bool replace_page(std::uintptr_t address, const Hit& hit) noexcept {
  constexpr std::uintptr_t kSizes[] = {std::uintptr_t{1} << 12, std::uintptr_t{1} << 16,
                                       std::uintptr_t{1} << 21, std::uintptr_t{1} << 25,
                                       std::uintptr_t{1} << 30};
  for (const std::uintptr_t size : kSizes) {
    const std::uintptr_t begin = address & ~(size - 1);
    if (begin < hit.begin || hit.end - begin < size) break;
    // The bare system call: async-signal-safe by nature, and ThreadSanitizer, which takes mmap()
    // for a write by this thread, is left out of what no synchronisation could order. Two threads
    // may both replace a page that both missed; the guest is lost anyway.
    const long at = syscall(SYS_mmap, begin, size, PROT_READ | PROT_WRITE,
                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1L, 0L);
    if (at != -1) return true;
  }
  return false;
}

void chain(int signal, siginfo_t* info, void* context) noexcept {
  if ((g_previous.sa_flags & SA_SIGINFO) != 0 && g_previous.sa_sigaction != nullptr) {
    g_previous.sa_sigaction(signal, info, context);
    return;
  }
  if (g_previous.sa_handler != SIG_DFL && g_previous.sa_handler != SIG_IGN) {
    g_previous.sa_handler(signal);
    return;
  }
  // Nobody else wants it: let the access fault again with the default action.
  struct sigaction standard {};
  standard.sa_handler = SIG_DFL;
  sigaction(signal, &standard, nullptr);
  // A signal sent by a process does not come again by itself.
  if (info->si_code <= 0) raise(signal);
}

void on_sigbus(int signal, siginfo_t* info, void* context) {
  const int saved = errno;
  const auto address = reinterpret_cast<std::uintptr_t>(info->si_addr);
  // si_code > 0: the kernel raised it for an access, so si_addr is an address.
  const Hit hit = info->si_code > 0 ? find(address) : Hit{};
  if (hit.guest >= 0 && replace_page(address, hit)) {
    g_poisoned[static_cast<std::size_t>(hit.guest)].store(true);
  } else {
    chain(signal, info, context);
  }
  errno = saved;
}

/// Requires g_mutex.
Result<void> install() {
  if (g_installed.load()) return {};
  struct sigaction action {};
  action.sa_sigaction = on_sigbus;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
  sigemptyset(&action.sa_mask);
  if (sigaction(SIGBUS, nullptr, &g_previous) != 0 || sigaction(SIGBUS, &action, nullptr) != 0) {
    return fail(errno, "sigaction(SIGBUS)");
  }
  g_installed.store(true);
  return {};
}

/// Requires g_mutex.
int take_guest() noexcept {
  for (std::size_t i = 0; i < g_guest_used.size(); ++i) {
    if (g_guest_used[i]) continue;
    g_guest_used[i] = true;
    g_poisoned[i].store(false);
    return static_cast<int>(i);
  }
  return -1;
}

/// Requires g_mutex.
void drop_guest(int guest) noexcept {
  for (Slot& slot : g_slots) {
    if (slot.end.load() != 0 && slot.guest.load() == guest) set(slot, 0, 0, -1);
  }
  g_guest_used[static_cast<std::size_t>(guest)] = false;
}

}  // namespace

SigbusGuard::SigbusGuard(SigbusGuard&& other) noexcept : guest_(std::exchange(other.guest_, -1)) {}

SigbusGuard& SigbusGuard::operator=(SigbusGuard&& other) noexcept {
  if (this != &other) {
    release();
    guest_ = std::exchange(other.guest_, -1);
  }
  return *this;
}

SigbusGuard::~SigbusGuard() {
  release();
}

void SigbusGuard::release() noexcept {
  if (guest_ < 0) return;
  const std::lock_guard lock(g_mutex);
  drop_guest(std::exchange(guest_, -1));
}

Result<SigbusGuard> SigbusGuard::watch(std::span<const Range> ranges) {
  const std::lock_guard lock(g_mutex);
  if (auto installed = install(); !installed) return tl::unexpected(installed.error());
  const int guest = take_guest();
  if (guest < 0) {
    return fail(ENOSPC, "more than " + std::to_string(kGuests) + " guests in one engine");
  }
  std::size_t slot = 0;
  for (const Range& range : ranges) {
    while (slot < kSlots && g_slots[slot].end.load() != 0) ++slot;
    if (slot == kSlots) {
      drop_guest(guest);
      return fail(ENOSPC, "more than " + std::to_string(kSlots) + " memory regions in one engine");
    }
    const auto begin = reinterpret_cast<std::uintptr_t>(range.begin);
    set(g_slots[slot], begin, begin + range.bytes, guest);
  }
  return SigbusGuard(guest);
}

bool SigbusGuard::poisoned() const noexcept {
  return guest_ >= 0 &&
         g_poisoned[static_cast<std::size_t>(guest_)].load(std::memory_order_relaxed);
}

}  // namespace faultline::viommu
