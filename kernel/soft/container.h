// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <vector>

#include "kernel/model/fl_iommu.h"
#include "kernel/soft/file.h"
#include "kernel/soft/translation_unit.h"
#include "kernel/uapi/vfio_nested.h"

namespace faultline::soft {

class Device;
class Kernel;
struct Group;

/// A VFIO container and, once SET_IOMMU has been called, its type1 IOMMU: stage 2 made of DMA maps,
/// stage 1 bound by the guest, invalidations. Lives while a file or a group holds it.
///
/// thread   any; one lock (type1's iommu->lock) around every call
class Container {
 public:
  explicit Container(Kernel& kernel) noexcept : kernel_(kernel) {}

  int ioctl(unsigned long request, UserCall& call);
  [[nodiscard]] bool has_iommu();

  /// Join and leave; the last group takes the IOMMU and all maps with it, as v7 does.
  /// thread: under the kernel's lock
  void add_group(Group& group);
  void remove_group(Group& group);

 private:
  int check_extension(unsigned long extension) const;
  int set_iommu(unsigned long type);
  int get_info(UserCall& call);
  int map_dma(UserCall& call);
  int unmap_dma(UserCall& call);
  int attach_pasid_table(UserCall& call);
  int detach_pasid_table();
  int cache_invalidate(UserCall& call);
  int invalidate_as_v7(const uapi::iommu_cache_invalidate_info& info);
  int invalidate_as_documented(const uapi::iommu_cache_invalidate_info& info);
  int bind_msi(UserCall& call);
  int unbind_msi(UserCall& call);

  void set_stage1(const fl_s1_config& s1);
  void quiesce();
  [[nodiscard]] bool mutated(Mutation mutation) const;
  [[nodiscard]] bool bad_flags(std::uint32_t flags, std::uint32_t known = 0) const;

  Kernel& kernel_;
  std::mutex mutex_;
  std::vector<Group*> groups_;
  std::vector<Device*> devices_;           ///< of all groups
  std::unique_ptr<TranslationUnit> unit_;  ///< null: SET_IOMMU has not been called
  bool nested_ = false;
  std::uint32_t invalidations_ = 0;  ///< asked for, modulo fail_invalidation_every
  fl_s1_config s1_{};
  struct Pinned {
    std::uint64_t size;
    UserMemory memory;
  };
  std::map<std::uint64_t, Pinned> pinned_;  ///< DMA maps by guest physical address
  struct MsiBinding {
    std::uint64_t iova, gpa, size;
  };
  std::vector<MsiBinding> msi_;
};

}  // namespace faultline::soft
