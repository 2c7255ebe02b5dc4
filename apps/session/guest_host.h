// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <cstddef>
#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "engine/budget.h"
#include "engine/guest_spec.h"
#include "engine/snapshot.h"
#include "kernel/base/result.h"
#include "kernel/base/units.h"

namespace faultline::session {

/// Which kernel interface the devices of a service hang on. One service serves one.
enum class Backend : std::uint8_t { kSoft, kVfio, kIommufd };

/// One piece of guest memory, as its VMM passes it: sealed against shrinking.
struct MemoryPart {
  Gpa gpa;
  std::size_t bytes = 0;
  std::size_t offset = 0;  ///< in the memfd
  int memfd = -1;
};

/// One device with the descriptors that its VMM opened.
struct DeviceRequest {
  std::string name;  ///< PCI address
  StreamId vsid;     ///< what the guest calls it
  std::uint32_t host_sid = 0;
  std::vector<int> fds;  ///< soft, vfio: container, group, device; iommufd: device
};

/// A guest that is whole: everything before it is served. Descriptors are the host's from add() on.
struct GuestRequest {
  std::string name;
  std::vector<MemoryPart> memory;
  Gpa registers;
  engine::RegisterMode mode = engine::RegisterMode::kExitless;
  std::vector<unsigned> vcpus;  ///< host CPUs
  std::vector<DeviceRequest> devices;
  std::vector<int> backend_fds;  ///< soft: the kernel's socket; iommufd: /dev/iommu; vfio: none
  int evtq_eventfd = -1;
  int gerror_eventfd = -1;
  int sync_eventfd = -1;
  int doorbell_eventfd = -1;
  int arm_eventfd = -1;  ///< both or none (engine/doorbell.h)
  int armed_eventfd = -1;
  std::vector<engine::MsiRoute> routes;  ///< MSIs to what is no memory of the guest
  int journal = -1;                      ///< of an earlier life; -1: a fresh one is made
  std::string objects;                   ///< KeptObjects of an earlier life; empty: none
  std::vector<int> object_fds;
  bool paused = false;                   ///< not to be served before resume()
  std::optional<engine::Budget> budget;  ///< that its VMM asked for; the operator's is the most
};

/// Kernel objects that the service made for a guest and that go on when it ends, because their file
/// does (iommufd's): what the next life needs to find them. Opaque text, and files that are read.
struct KeptObjects {
  std::string record;    ///< empty: there are none
  std::vector<int> fds;  ///< the host's
};

/// Descriptors that each device and each guest of a backend come with.
struct FdCounts {
  std::size_t device = 0;
  std::size_t backend = 0;
};

/// Guest memory that was written, or may have been.
struct GpaRange {
  Gpa gpa;
  std::uint64_t bytes = 0;
};

/// What the stream of a device is bound to by its guest's stream table.
enum class StreamBinding : std::uint8_t { kNone, kAbort, kBypass, kStage1 };

/// What a session asks of the engine. The server speaks the protocol and holds the limits; a host
/// knows kernels. EngineGuests is the real one, tests have a fake.
///
/// thread   the session thread; snapshot() any
class GuestHost {
 public:
  virtual ~GuestHost() = default;
  [[nodiscard]] virtual Backend backend() const noexcept = 0;
  [[nodiscard]] virtual FdCounts fd_counts() const noexcept = 0;

  /// Serve a guest. All or nothing: after an error every descriptor of it is closed.
  /// returns  its journal's memfd, which stays the host's
  virtual Result<int> add(GuestRequest guest) = 0;
  /// Serve a guest on with other devices or memory: off its cores, and on again where its journal
  /// says. All or nothing: after an error it is served as before, or, where that cannot be either,
  /// paused as it was before: snapshot() says which. The request's own journal is not looked at.
  /// returns  the journal's memfd, another one where the devices changed
  virtual Result<int> replace(GuestRequest guest) = 0;
  /// What has to outlive the service beside what the VMM passed.
  virtual Result<KeptObjects> objects(const std::string& name) = 0;
  /// Let go of a guest and of all that it passed.
  virtual Result<void> remove(const std::string& name) = 0;
  /// Nothing is polled for it until resume(); what comes meanwhile stays in kernel and queues.
  virtual Result<void> pause(const std::string& name) = 0;
  virtual Result<void> resume(const std::string& name) = 0;
  /// Of a paused guest: what another engine has to know to go on. Opaque, versioned, checked.
  virtual Result<std::string> state(const std::string& name) = 0;
  virtual Result<void> set_state(const std::string& name, const std::string& state) = 0;
  /// Registers and journal as after a reset of the virtual SMMU. After an error that kept it from
  /// being served on, it is paused: snapshot() says so.
  virtual Result<void> reset(const std::string& name) = 0;
  /// All guest memory that the engine may have written since the guest was added, in order.
  virtual Result<std::vector<GpaRange>> written(const std::string& name) = 0;
  /// By index of the device.
  virtual Result<std::vector<StreamBinding>> bindings(const std::string& name) = 0;
  /// Change the budgets of a guest that is served (engine/budget.h), by the engine's own rules.
  /// errors  more than most()
  virtual Result<void> set_budget(const std::string& name, const nlohmann::json& budget) = 0;

  [[nodiscard]] virtual engine::EngineSnapshot snapshot() const = 0;
  /// The oldest beat of all shards, by CLOCK_MONOTONIC; for the watchdog.
  [[nodiscard]] virtual Nanos oldest_beat() const = 0;
  /// Take shards that have not begun a round since then out of a system call that blocks them, as
  /// Engine::nudge_stalled(). returns  how many
  virtual unsigned nudge_stalled(Nanos before) = 0;
  /// Guests whose VMM made an eventfd block a polling core (engine/nudge.h): with `all` those that
  /// are served, and those that were taken off their cores since the last call, each of these once.
  virtual std::vector<std::string> take_blocked(bool /*all*/) { return {}; }
  /// The operator's budget of each guest.
  [[nodiscard]] virtual engine::Budget most() const = 0;
  /// It is another one: the most of every guest from now on, also of those that are served.
  virtual void set_most(const engine::Budget& most) = 0;
  /// Stop polling with everything in flight finished; the guests stay known to the keeper, and
  /// their kernel objects stay.
  virtual Result<void> stop() = 0;
};

}  // namespace faultline::session
