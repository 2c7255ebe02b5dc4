// SPDX-License-Identifier: BSD-3-Clause
#include "kernel/soft/kernel.h"

#include <bit>
#include <cerrno>
#include <charconv>
#include <set>
#include <utility>

#include "kernel/base/units.h"
#include "kernel/soft/files.h"
#include "kernel/uapi/fault_abi2.h"

namespace faultline::soft {
namespace {

constexpr std::size_t kDeviceSharesAt = 64;

bool power_of_two_or_zero(std::uint32_t n) {
  return n == 0 || std::has_single_bit(n);
}

Result<void> check(const SoftKernelConfig& config) {
  std::set<std::string> names;
  std::set<std::uint32_t> streams;
  if (config.devices.empty()) return fail(EINVAL, "the soft kernel needs a device");
  for (const SoftDeviceConfig& d : config.devices) {
    if (d.name.empty() || d.name.size() > 255 || !names.insert(d.name).second) {
      return fail(EINVAL, "device name '" + d.name + "' is empty, long or used twice");
    }
    if (!streams.insert(d.stream_id).second) {
      return fail(EINVAL, "StreamID " + std::to_string(d.stream_id) + " is used twice");
    }
  }
  if (config.max_fault_abi < 1 || config.max_fault_abi > 2) {
    return fail(EINVAL, "the fault ABI is 1 or 2");
  }
  if (!power_of_two_or_zero(config.tlb_sets) || !power_of_two_or_zero(config.walk_sets) ||
      !power_of_two_or_zero(config.config_sets)) {
    return fail(EINVAL, "a cache has a power of two of sets, or none");
  }
  if (config.ledger_entries == 0) return fail(EINVAL, "a ledger needs entries");
  return {};
}

}  // namespace

Result<DeviceMemory> Kernel::make_memory(const SoftKernelConfig& config) {
  constexpr std::size_t kRing2 =
      std::size_t{uapi::kFaultAbi2DefaultEntries} * uapi::kFaultAbi2RecordSize;
  const std::size_t producer = kPage4K + (config.max_fault_abi >= 2 ? kRing2 : kPage4K);
  DeviceMemory memory;
  const std::pair<SharedMemory*, std::pair<const char*, std::size_t>> parts[] = {
      {&memory.bar, {"faultline-bar", kDmaBarSize}},
      {&memory.ledger, {"faultline-ledger", LedgerWriter::bytes_for(config.ledger_entries)}},
      {&memory.producer, {"faultline-fault-prod", producer}},
      {&memory.consumer, {"faultline-fault-cons", kPage4K}}};
  for (const auto& [part, what] : parts) {
    auto made = SharedMemory::make(what.first, what.second);
    if (!made) return fail(made.error(), what.first);
    *part = std::move(*made);
  }
  return memory;
}

Result<std::unique_ptr<Kernel>> Kernel::create(SoftKernelConfig config) {
  if (auto ok = check(config); !ok) return tl::unexpected(ok.error());
  const std::size_t share = kDeviceSharesAt + config.devices.size() * sizeof(DeviceShare);
  auto shared = SharedMemory::make("faultline-kernel", share);
  if (!shared) return fail(shared.error(), "the kernel's counters");
  auto kernel = std::make_unique<Kernel>(std::move(config), std::move(*shared));
  for (std::size_t i = 0; i < kernel->config_.devices.size(); ++i) {
    auto memory = make_memory(kernel->config_);
    if (!memory) return fail(memory.error(), kernel->config_.devices[i].name);
    kernel->devices_.push_back(
        std::make_unique<Device>(kernel->config_, i, std::move(*memory), kernel->device_share(i)));
    Group& group = kernel->groups_[kernel->config_.devices[i].group];
    group.number = kernel->config_.devices[i].group;
    group.devices.push_back(kernel->devices_.back().get());
  }
  return kernel;
}

Kernel::Kernel(SoftKernelConfig config, SharedMemory share)
    : config_(std::move(config)), share_(std::move(share)) {}

DeviceShare& Kernel::device_share(std::size_t i) const noexcept {
  auto* base = static_cast<std::byte*>(share_.data()) + kDeviceSharesAt;
  return reinterpret_cast<DeviceShare*>(base)[i];
}

SoftKernelStats Kernel::stats() const {
  const auto& own = *static_cast<const KernelShare*>(share_.data());
  SoftKernelStats s;
  s.invalidations = load_relaxed(own.invalidations);
  s.entries_removed = load_relaxed(own.entries_removed);
  s.would_hang = load_relaxed(own.would_hang);
  for (const auto& device : devices_) {
    const DeviceShare& d = device->share();
    s.accesses += load_relaxed(d.accesses);
    s.faults += load_relaxed(d.faults);
    s.produced += load_relaxed(d.produced);
    s.dropped += load_relaxed(d.dropped);
    s.msi += load_relaxed(d.msi_count);
    s.bad_index += load_relaxed(d.bad_index);
  }
  return s;
}

int Kernel::open(std::string_view path, FilePtr& file) {
  constexpr std::string_view kFolder = "/dev/vfio/";
  if (path.substr(0, kFolder.size()) != kFolder) return -ENOENT;
  path.remove_prefix(kFolder.size());
  if (path == "vfio") {
    file = std::make_shared<ContainerFile>(std::make_shared<Container>(*this));
    return 0;
  }
  unsigned number = 0;
  const auto parsed = std::from_chars(path.data(), path.data() + path.size(), number);
  if (parsed.ec != std::errc{} || parsed.ptr != path.data() + path.size()) return -ENOENT;
  const std::lock_guard lock(mutex_);
  const auto it = groups_.find(number);
  if (it == groups_.end()) return -ENOENT;
  // One opener at a time, and none while devices of an earlier one are still in use.
  if (it->second.open || it->second.container != nullptr) return -EBUSY;
  it->second.open = true;
  file = std::make_shared<GroupFile>(*this, it->second);
  return 0;
}

int Kernel::set_container(Group& group, UserCall& call) {
  std::int32_t fd = -1;
  FilePtr file;  // outlives the lock: dropping it may close a file
  if (const int error = call.copy_in(0, &fd, sizeof fd); error != 0) return error;
  if (fd < 0) return -EINVAL;
  if (const int error = call.file(fd, file); error != 0) return error;
  const auto* container = dynamic_cast<const ContainerFile*>(file.get());
  if (container == nullptr) return -EINVAL;
  const std::lock_guard lock(mutex_);
  if (group.users != 0) return -EINVAL;
  group.users = 1;
  group.container = container->container();
  group.container->add_group(group);
  return 0;
}

int Kernel::unset_container(Group& group) {
  const std::lock_guard lock(mutex_);
  if (group.users == 0) return -EINVAL;
  if (group.users != 1) return -EBUSY;
  drop_user(group);
  return 0;
}

void Kernel::drop_user(Group& group) {
  if (group.users == 0 || --group.users > 0) return;
  group.container->remove_group(group);
  group.container.reset();
}

std::uint32_t Kernel::group_flags(Group& group) {
  const std::lock_guard lock(mutex_);
  return uapi::kVfioGroupFlagsViable |
         (group.container != nullptr ? uapi::kVfioGroupFlagsContainerSet : 0U);
}

int Kernel::get_device(Group& group, UserCall& call) {
  std::string name;
  for (std::size_t i = 0;; ++i) {
    char c = 0;
    if (i >= kPage4K) return -EINVAL;
    if (const int error = call.copy_in(i, &c, 1); error != 0) return error;
    if (c == 0) break;
    name.push_back(c);
  }
  FilePtr file;
  {
    const std::lock_guard lock(mutex_);
    if (group.users == 0 || !group.container->has_iommu()) return -EINVAL;
    Device* found = nullptr;
    for (Device* device : group.devices) {
      if (device->config().name == name) found = device;
    }
    if (found == nullptr) return -ENODEV;
    ++group.users;
    if (open_files_[found]++ == 0) found->port().open();
    file = std::make_shared<DeviceFile>(*this, group, *found);
  }
  return call.install(file);
}

void Kernel::group_closed(Group& group) {
  const std::lock_guard lock(mutex_);
  group.open = false;
  drop_user(group);
}

void Kernel::device_closed(Group& group, Device& device) {
  const std::lock_guard lock(mutex_);
  if (--open_files_[&device] == 0) {
    device.port().close();
    device.reset();
  }
  drop_user(group);
}

}  // namespace faultline::soft
