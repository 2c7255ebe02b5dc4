// SPDX-License-Identifier: BSD-3-Clause
#include "kernel/soft/soft_kernel.h"

#include <utility>

#include "kernel/soft/files.h"
#include "kernel/soft/kernel.h"

namespace faultline::soft {

Result<std::unique_ptr<SoftKernel>> SoftKernel::create(SoftKernelConfig config) {
  auto kernel = Kernel::create(std::move(config));
  if (!kernel) return tl::unexpected(kernel.error());
  return std::unique_ptr<SoftKernel>(new SoftKernel(std::move(*kernel)));
}

SoftKernel::SoftKernel(std::unique_ptr<Kernel> kernel) : kernel_(std::move(kernel)) {}

SoftKernel::~SoftKernel() {
  stop();
}

void SoftKernel::start() {
  for (auto& device : kernel_->devices()) device->start();
}

void SoftKernel::stop() {
  for (auto& device : kernel_->devices()) device->stop();
}

std::size_t SoftKernel::devices() const noexcept {
  return kernel_->devices().size();
}

const SoftKernelConfig& SoftKernel::config() const noexcept {
  return kernel_->config();
}

DmaCompletion SoftKernel::dma(std::size_t i, const DmaRequest& request) {
  return kernel_->devices()[i]->execute(request);
}

int SoftKernel::bar_fd(std::size_t i) const noexcept {
  return kernel_->devices()[i]->bar().fd();
}

void* SoftKernel::bar(std::size_t i) noexcept {
  return kernel_->devices()[i]->bar().data();
}

void* SoftKernel::ledger(std::size_t i) noexcept {
  return kernel_->devices()[i]->ledger().data();
}

SoftKernel::Msi SoftKernel::msi(std::size_t i) const noexcept {
  const DeviceShare& share = kernel_->devices()[i]->share();
  // Pairs with the device's release of the count: its data is there.
  const std::uint64_t count = load_acquire(share.msi_count);
  return {count, load_relaxed(share.msi_data)};
}

SoftKernelStats SoftKernel::stats() const noexcept {
  return kernel_->stats();
}

std::vector<int> SoftKernel::descriptors() const {
  std::vector<int> all;
  for (const auto& device : kernel_->devices()) device->descriptors(all);
  return all;
}

int SoftKernel::open(const char* path, FilePtr& file) noexcept {
  return kernel_->open(path, file);
}

int SoftKernel::ioctl(const FilePtr& file, unsigned long request, UserCall& call) noexcept {
  return file->ioctl(request, call);
}

ssize_t SoftKernel::pread(const FilePtr& file, void* out, std::size_t size, off_t at) noexcept {
  return file->pread(out, size, at);
}

ssize_t SoftKernel::pwrite(const FilePtr& file, const void* in, std::size_t size,
                           off_t at) noexcept {
  return file->pwrite(in, size, at);
}

int SoftKernel::mmap(const FilePtr& file, std::size_t size, int prot, int flags, off_t at,
                     RegionMapping& mapping) noexcept {
  return file->mmap(size, prot, flags, at, mapping);
}

}  // namespace faultline::soft
