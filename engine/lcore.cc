// SPDX-License-Identifier: BSD-3-Clause
#include "engine/lcore.h"

#include <fcntl.h>
#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_launch.h>
#include <rte_lcore.h>
#include <rte_malloc.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <condition_variable>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <mutex>
#include <string_view>
#include <system_error>
#include <thread>
#include <utility>

#include "engine/nudge.h"

namespace faultline::engine {
namespace {

// EAL can be initialised once in the life of a process.
std::atomic<bool> g_started{false};
std::atomic<bool> g_usable{false};
std::atomic<std::size_t> g_ended{0};  // loops that returned

int run_loop_of_lcore(void* loop) {
  (*static_cast<std::function<void()>*>(loop))();
  // EAL orders this too, but in a library that the thread sanitizer cannot look into.
  g_ended.fetch_add(1, std::memory_order_release);  // pairs with the acquire in State::run()
  return 0;
}

std::vector<std::string> eal_arguments(const LcoreOptions& options) {
  // Lcore 0 is the main one; polling lcore i is number i + 1. The N@C form lets lcores share CPUs.
  std::string lcores = std::string("0@").append(std::to_string(options.housekeeping_cpu));
  for (std::size_t i = 0; i < options.cpus.size(); ++i) {
    lcores.append(",").append(std::to_string(i + 1));
    lcores.append("@").append(std::to_string(options.cpus[i]));
  }
  std::vector<std::string> arguments{
      "faultline",
      "--lcores",
      lcores,
      "--main-lcore",
      "0",
      "--no-pci",
      options.telemetry ? "--telemetry" : "--no-telemetry",
      "--log-level",
      "lib.eal:error",
      "--log-level",
      "lib.telemetry:error",
      "--file-prefix",
      options.file_prefix.empty() ? "faultline-" + std::to_string(getpid()) : options.file_prefix};
  if (options.hugepages) {
    // From the kernel as anonymous memory: no mount to find, no files that a kill leaves behind.
    arguments.emplace_back("--in-memory");
  } else {
    for (const char* word : {"--no-huge", "--no-shconf", "-m"}) arguments.emplace_back(word);
    arguments.push_back(std::to_string(options.memory_mib));
  }
  return arguments;
}

/// What goes to stderr meanwhile. EAL tells why it does not start over several lines there, partly
/// past its own log; the operator gets one.
///
/// Where EAL panics instead, abort() ends the process; then all of it is said after all.
class StderrText {
 public:
  StderrText()
      : before_(fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 0)),
        file_(memfd_create("faultline-eal", MFD_CLOEXEC)) {
    if (before_ < 0 || file_ < 0) return;
    g_stderr.store(before_);
    g_said.store(file_);
    struct sigaction action {};
    action.sa_handler = [](int) {
      std::array<char, 1024> text;
      const ssize_t n = pread(g_said.load(), text.data(), text.size(), 0);
      if (n > 0)
        static_cast<void>(!write(g_stderr.load(), text.data(), static_cast<std::size_t>(n)));
    };
    action.sa_flags = static_cast<int>(SA_RESETHAND);
    sigaction(SIGABRT, &action, &aborts_);
    dup2(file_, STDERR_FILENO);
  }
  StderrText(const StderrText&) = delete;
  StderrText& operator=(const StderrText&) = delete;
  ~StderrText() {
    restore();
    if (file_ >= 0) close(file_);
  }

  void restore() {
    if (before_ < 0) return;
    if (file_ >= 0) {
      dup2(before_, STDERR_FILENO);
      sigaction(SIGABRT, &aborts_, nullptr);
    }
    close(std::exchange(before_, -1));
  }

  /// All that was said since.
  [[nodiscard]] std::string text() const {
    std::string all(std::size_t{1} << 14U, '\0');
    const ssize_t n = file_ < 0 ? -1 : pread(file_, all.data(), all.size(), 0);
    all.resize(n < 0 ? 0 : static_cast<std::size_t>(n));
    return all;
  }

 private:
  // Of the one in use; EAL is started once in a process.
  static inline std::atomic<int> g_stderr{-1};
  static inline std::atomic<int> g_said{-1};

  int before_;
  int file_;
  struct sigaction aborts_ {};
};

/// How many more files this process may open.
std::size_t files_left() {
  rlimit limit{};
  std::error_code error;
  std::size_t used = 0;
  for (auto it = std::filesystem::directory_iterator("/proc/self/fd", error);
       !error && it != std::filesystem::directory_iterator(); it.increment(error)) {
    ++used;
  }
  // Not even one, to count them.
  if (error == std::errc::too_many_files_open) return 0;
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY)
    return ~std::size_t{0};
  return limit.rlim_cur > used ? limit.rlim_cur - used : 0;
}

/// The first line of it without EAL's name in front: that is the cause, what follows the way up.
std::string first_line(const std::string& text) {
  constexpr std::string_view kName = "EAL: ";
  std::string line = text.substr(0, text.find('\n'));
  if (line.starts_with(kName)) line.erase(0, kName.size());
  return line;
}

}  // namespace

struct Lcores::State {
  std::thread main_lcore;
  std::mutex mutex;
  std::condition_variable changed;
  std::vector<std::function<void()>> loops;
  std::vector<std::atomic<pthread_t>> threads;  ///< of the loops; 0: has not begun
  std::size_t lcores = 0;
  std::size_t returned = 0;  ///< loops
  int eal = 0;               ///< errno of the initialisation
  std::string cause;         ///< ... and what EAL said
  bool initialised = false;
  bool launched = false;  ///< the loops were handed over
  bool running = false;   ///< ... and started
  bool done = false;      ///< ... and have all returned
  bool leave = false;

  void run(LcoreOptions options);
};

void Lcores::State::run(LcoreOptions options) {
  std::vector<std::string> arguments = eal_arguments(options);
  std::vector<char*> argv;
  argv.reserve(arguments.size());
  for (std::string& argument : arguments) argv.push_back(argument.data());
  StderrText said;
  const int rc = rte_eal_init(static_cast<int>(argv.size()), argv.data());
  const int error = rte_errno;
  said.restore();
  const std::string text = said.text();
  if (rc >= 0) std::fputs(text.c_str(), stderr);

  std::unique_lock lock(mutex);
  eal = rc < 0 ? (error != 0 ? error : EINVAL) : 0;
  if (rc < 0) cause = first_line(text);
  initialised = true;
  g_usable.store(rc >= 0);
  changed.notify_all();
  if (rc < 0) return;

  changed.wait(lock, [&] { return launched || leave; });
  if (launched) {
    for (std::size_t i = 0; i < loops.size(); ++i) {
      rte_eal_remote_launch(run_loop_of_lcore, &loops[i], static_cast<unsigned>(i + 1));
    }
    running = true;
    changed.notify_all();
    // DPDK waits busily: not before there is next to nothing to wait for.
    changed.wait(lock, [&] { return returned == loops.size(); });
    lock.unlock();
    rte_eal_mp_wait_lcore();
    // pairs with the release in run_loop_of_lcore(): all that the loops did is before this.
    static_cast<void>(g_ended.load(std::memory_order_acquire));
    lock.lock();
    done = true;
    changed.notify_all();
    changed.wait(lock, [&] { return leave; });
  }
  lock.unlock();
  g_usable.store(false);
  // A folder for each process that ever was would stay.
  const std::string folder = rte_eal_get_runtime_dir();
  rte_eal_cleanup();
  std::error_code ignored;
  std::filesystem::remove_all(folder, ignored);
}

Result<std::unique_ptr<Lcores>> Lcores::start(const LcoreOptions& options) {
  if (options.cpus.empty()) return fail(0, "lcores: no CPU to poll on");
  if (options.cpus.size() >= RTE_MAX_LCORE) {
    return fail(0, "lcores: " + std::to_string(options.cpus.size()) + " shards, DPDK takes " +
                       std::to_string(RTE_MAX_LCORE - 1));
  }
  if (access("/sys/devices/system/cpu", R_OK) != 0) {
    return fail(errno,
                "lcores: DPDK finds the CPUs in /sys/devices/system/cpu; mount sysfs on /sys");
  }
  // Two pipes for each lcore, and what EAL opens for itself; without them it panics.
  if (files_left() < 4 * (options.cpus.size() + 1) + 16) {
    return fail(EMFILE, "lcores: DPDK's EAL does not start");
  }
  if (g_started.exchange(true)) {
    return fail(0, "lcores: DPDK's EAL was already started in this process");
  }
  std::unique_ptr<Lcores> lcores(new Lcores);
  lcores->state_ = std::make_unique<State>();
  take_nudges();
  State& state = *lcores->state_;
  state.lcores = options.cpus.size();
  state.main_lcore = std::thread([&state, options] { state.run(options); });
  std::unique_lock lock(state.mutex);
  state.changed.wait(lock, [&] { return state.initialised; });
  if (state.eal != 0) {
    const int error = state.eal;
    const std::string cause = state.cause.empty() ? "" : " (" + state.cause + ")";
    lock.unlock();
    return fail(error, "lcores: DPDK's EAL does not start" + cause);
  }
  return lcores;
}

Result<void> Lcores::launch(std::vector<std::function<void()>> loops) {
  State& state = *state_;
  std::unique_lock lock(state.mutex);
  if (state.launched) return fail(0, "lcores: launched before");
  if (loops.size() > state.lcores) {
    return fail(0, "lcores: " + std::to_string(loops.size()) + " loops for " +
                       std::to_string(state.lcores) + " lcores");
  }
  state.threads = std::vector<std::atomic<pthread_t>>(loops.size());
  for (std::size_t i = 0; i < loops.size(); ++i) {
    state.loops.emplace_back([&state, &at = state.threads[i], loop = std::move(loops[i])] {
      at.store(pthread_self(), std::memory_order_relaxed);
      loop();
      const std::lock_guard end(state.mutex);
      ++state.returned;
      state.changed.notify_all();
    });
  }
  state.launched = true;
  state.changed.notify_all();
  state.changed.wait(lock, [&] { return state.running; });
  return {};
}

void Lcores::join() {
  State& state = *state_;
  std::unique_lock lock(state.mutex);
  if (!state.launched) return;
  state.changed.wait(lock, [&] { return state.done; });
}

void Lcores::nudge(std::size_t loop) noexcept {
  State& state = *state_;
  if (loop >= state.threads.size()) return;
  const pthread_t thread = state.threads[loop].load(std::memory_order_relaxed);
  if (thread != 0) engine::nudge(thread);
}

Lcores::~Lcores() {
  if (state_ == nullptr) return;
  if (state_->eal == 0) join();
  {
    const std::lock_guard lock(state_->mutex);
    state_->leave = true;
    state_->changed.notify_all();
  }
  if (state_->main_lcore.joinable()) state_->main_lcore.join();
}

std::shared_ptr<void> allocate_on_node(std::size_t size, std::size_t align, unsigned node) {
  if (g_usable.load()) {
    if (void* p = rte_zmalloc_socket("faultline", size, static_cast<unsigned>(align),
                                     static_cast<int>(node))) {
      // After EAL's clean-up the memory is gone with it.
      return {p, [](void* at) {
                if (g_usable.load()) rte_free(at);
              }};
    }
  }
  void* p = std::aligned_alloc(align, (size + align - 1) / align * align);
  if (p == nullptr) return nullptr;
  std::memset(p, 0, size);
  return {p, [](void* at) { std::free(at); }};
}

}  // namespace faultline::engine
