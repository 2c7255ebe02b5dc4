// SPDX-License-Identifier: BSD-3-Clause
#include "apps/faultlined/seccomp.h"

#include <sched.h>
#include <seccomp.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <string>

#include "kernel/uapi/iommufd.h"
#include "kernel/uapi/vfio_cdev.h"
#include "kernel/uapi/vfio_nested.h"

namespace faultline::daemon {
namespace {

using namespace uapi;  // NOLINT(google-build-using-namespace): a table of its names

constexpr std::array kIoctls = {
    // kernel/vfio: the seed's interface
    AllowedIoctl{"VFIO_GET_API_VERSION", kVfioGetApiVersion},
    AllowedIoctl{"VFIO_CHECK_EXTENSION", kVfioCheckExtension},
    AllowedIoctl{"VFIO_SET_IOMMU", kVfioSetIommu},
    AllowedIoctl{"VFIO_GROUP_GET_STATUS", kVfioGroupGetStatus},
    AllowedIoctl{"VFIO_GROUP_SET_CONTAINER", kVfioGroupSetContainer},
    AllowedIoctl{"VFIO_GROUP_UNSET_CONTAINER", kVfioGroupUnsetContainer},
    AllowedIoctl{"VFIO_GROUP_GET_DEVICE_FD", kVfioGroupGetDeviceFd},
    AllowedIoctl{"VFIO_DEVICE_GET_INFO", kVfioDeviceGetInfo},
    AllowedIoctl{"VFIO_DEVICE_GET_REGION_INFO", kVfioDeviceGetRegionInfo},
    AllowedIoctl{"VFIO_DEVICE_GET_IRQ_INFO", kVfioDeviceGetIrqInfo},
    AllowedIoctl{"VFIO_DEVICE_SET_IRQS", kVfioDeviceSetIrqs},
    AllowedIoctl{"VFIO_DEVICE_RESET", kVfioDeviceReset},
    AllowedIoctl{"VFIO_IOMMU_GET_INFO", kVfioIommuGetInfo},
    AllowedIoctl{"VFIO_IOMMU_MAP_DMA", kVfioIommuMapDma},
    AllowedIoctl{"VFIO_IOMMU_UNMAP_DMA", kVfioIommuUnmapDma},
    AllowedIoctl{"VFIO_IOMMU_ATTACH_PASID_TABLE", kVfioIommuAttachPasidTable},
    AllowedIoctl{"VFIO_IOMMU_DETACH_PASID_TABLE", kVfioIommuDetachPasidTable},
    AllowedIoctl{"VFIO_IOMMU_CACHE_INVALIDATE", kVfioIommuCacheInvalidate},
    AllowedIoctl{"VFIO_IOMMU_BIND_MSI", kVfioIommuBindMsi},
    AllowedIoctl{"VFIO_IOMMU_UNBIND_MSI", kVfioIommuUnbindMsi},
    // kernel/iommufd: mainline's
    AllowedIoctl{"VFIO_DEVICE_BIND_IOMMUFD", kVfioDeviceBindIommufd},
    AllowedIoctl{"VFIO_DEVICE_ATTACH_IOMMUFD_PT", kVfioDeviceAttachIommufdPt},
    AllowedIoctl{"VFIO_DEVICE_DETACH_IOMMUFD_PT", kVfioDeviceDetachIommufdPt},
    AllowedIoctl{"IOMMU_DESTROY", kIommuDestroy},
    AllowedIoctl{"IOMMU_IOAS_ALLOC", kIommuIoasAlloc},
    AllowedIoctl{"IOMMU_IOAS_IOVA_RANGES", kIommuIoasIovaRanges},
    AllowedIoctl{"IOMMU_IOAS_MAP", kIommuIoasMap},
    AllowedIoctl{"IOMMU_IOAS_MAP_FILE", kIommuIoasMapFile},
    AllowedIoctl{"IOMMU_IOAS_UNMAP", kIommuIoasUnmap},
    AllowedIoctl{"IOMMU_GET_HW_INFO", kIommuGetHwInfo},
    AllowedIoctl{"IOMMU_HWPT_ALLOC", kIommuHwptAlloc},
    AllowedIoctl{"IOMMU_HWPT_SET_DIRTY_TRACKING", kIommuHwptSetDirtyTracking},
    AllowedIoctl{"IOMMU_HWPT_GET_DIRTY_BITMAP", kIommuHwptGetDirtyBitmap},
    AllowedIoctl{"IOMMU_HWPT_INVALIDATE", kIommuHwptInvalidate},
    AllowedIoctl{"IOMMU_FAULT_QUEUE_ALLOC", kIommuFaultQueueAlloc},
    AllowedIoctl{"IOMMU_VIOMMU_ALLOC", kIommuViommuAlloc},
    AllowedIoctl{"IOMMU_VDEVICE_ALLOC", kIommuVdeviceAlloc},
    AllowedIoctl{"IOMMU_VEVENTQ_ALLOC", kIommuVeventqAlloc},
};

constexpr std::initializer_list<const char*> kCalls = {
    // files that are open, and reading the configuration and /proc again
    "read", "write", "readv", "writev", "pread64", "pwrite64", "preadv", "pwritev", "close",
    "lseek", "openat", "open", "fstat", "newfstatat", "fstatat64", "stat", "lstat", "statx",
    "statfs", "fstatfs", "access", "faccessat", "faccessat2", "readlink", "readlinkat",
    "getdents64", "getcwd", "fcntl", "flock", "dup", "dup2", "dup3", "pipe2", "ftruncate",
    "fallocate", "fsync", "fdatasync",
    // sockets in the file system are removed at the end
    "unlink", "unlinkat",
    // waiting
    "poll", "ppoll", "select", "pselect6", "epoll_create1", "epoll_ctl", "epoll_wait",
    "epoll_pwait", "epoll_pwait2", "eventfd2", "timerfd_create", "timerfd_settime",
    "timerfd_gettime", "signalfd4", "inotify_init1", "inotify_add_watch", "inotify_rm_watch",
    "nanosleep", "clock_nanosleep", "futex", "futex_waitv", "sched_yield", "pause",
    "restart_syscall",
    // sessions, metrics, sd_notify; socket() is below
    "bind", "listen", "accept", "accept4", "getsockname", "getpeername", "getsockopt", "setsockopt",
    "shutdown", "sendto", "sendmsg", "sendmmsg", "recvfrom", "recvmsg", "recvmmsg",
    // memory; mmap() and mprotect() are below
    "munmap", "mremap", "madvise", "mincore", "msync", "brk", "mlock", "mlock2", "munlock",
    "memfd_create", "mbind", "set_mempolicy", "get_mempolicy", "membarrier",
    // threads; clone() is below
    "set_robust_list", "get_robust_list", "rseq", "set_tid_address", "sched_getaffinity",
    "sched_setaffinity", "sched_getparam", "sched_getscheduler", "getcpu", "exit", "exit_group",
    // signals to this process; tgkill() is below
    "rt_sigaction", "rt_sigprocmask", "rt_sigreturn", "rt_sigtimedwait", "rt_sigpending",
    "rt_sigsuspend", "sigaltstack",
    // asking
    "clock_gettime", "clock_getres", "gettimeofday", "time", "times", "getrandom", "getpid",
    "gettid", "getppid", "getuid", "geteuid", "getgid", "getegid", "getresuid", "getresgid",
    "getgroups", "getrlimit", "getrusage", "uname", "sysinfo"};

constexpr std::initializer_list<const char*> kHostile = {"execve",
                                                         "execveat",
                                                         "ptrace",
                                                         "process_vm_readv",
                                                         "process_vm_writev",
                                                         "bpf",
                                                         "mount",
                                                         "umount2",
                                                         "move_mount",
                                                         "fsopen",
                                                         "pivot_root",
                                                         "chroot",
                                                         "unshare",
                                                         "setns",
                                                         "init_module",
                                                         "finit_module",
                                                         "delete_module",
                                                         "kexec_load",
                                                         "kexec_file_load",
                                                         "reboot",
                                                         "swapon",
                                                         "open_by_handle_at",
                                                         "userfaultfd",
                                                         "perf_event_open",
                                                         "add_key",
                                                         "keyctl",
                                                         "request_key",
                                                         "pidfd_getfd",
                                                         "modify_ldt",
                                                         "iopl",
                                                         "ioperm"};

constexpr std::initializer_list<const char*> kRing = {"io_uring_setup", "io_uring_enter",
                                                      "io_uring_register"};

/// Collects rules; the first that libseccomp refuses is kept.
class Filter {
 public:
  Filter() : context_(seccomp_init(SCMP_ACT_ERRNO(EPERM)), &seccomp_release) {}
  [[nodiscard]] bool made() const { return context_ != nullptr; }

  void attribute(scmp_filter_attr which, std::uint32_t value) {
    note(seccomp_attr_set(context_.get(), which, value), "attribute");
  }
  void calls(std::uint32_t action, std::initializer_list<const char*> names) {
    for (const char* name : names) rule(action, name, {});
  }
  void rule(std::uint32_t action, const char* name, std::initializer_list<scmp_arg_cmp> when) {
    // Not every architecture has every call, nor every libseccomp.
    const int number = seccomp_syscall_resolve_name(name);
    if (number < 0) return;
    note(seccomp_rule_add_array(context_.get(), action, number, static_cast<unsigned>(when.size()),
                                when.begin()),
         name);
  }
  Result<void> load() {
    note(seccomp_load(context_.get()), "load");
    if (error_ == 0) return {};
    return fail(error_, "seccomp: " + where_ +
                            ": the system call filter cannot be had; a kernel with "
                            "CONFIG_SECCOMP_FILTER has it");
  }

 private:
  void note(int result, const char* what) {
    if (result >= 0 || error_ != 0) return;
    error_ = -result;
    where_ = what;
  }

  std::unique_ptr<void, decltype(&seccomp_release)> context_;
  int error_ = 0;
  std::string where_;
};

scmp_arg_cmp is(unsigned argument, std::uint64_t value) {
  return {argument, SCMP_CMP_EQ, value, 0};
}

scmp_arg_cmp masked(unsigned argument, std::uint64_t mask, std::uint64_t value) {
  return {argument, SCMP_CMP_MASKED_EQ, mask, value};
}

}  // namespace

std::span<const AllowedIoctl> allowed_ioctls() noexcept {
  return kIoctls;
}

Result<void> allow_only_listed_calls(const SeccompOptions& options) {
  Filter filter;
  if (!filter.made()) return fail(ENOMEM, "seccomp: a filter");
  filter.attribute(SCMP_FLTATR_CTL_TSYNC, 1);
  filter.attribute(SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS);
  filter.attribute(SCMP_FLTATR_API_SYSRAWRC, 1);
  filter.attribute(SCMP_FLTATR_CTL_OPTIMIZE, 2);  // a tree, not a list of comparisons

  constexpr std::uint32_t kAllow = SCMP_ACT_ALLOW;
  filter.calls(kAllow, kCalls);
  filter.calls(SCMP_ACT_KILL_PROCESS, kHostile);
  if (options.io_uring) filter.calls(kAllow, kRing);
  for (const AllowedIoctl& i : kIoctls) filter.rule(kAllow, "ioctl", {is(1, i.request)});

  constexpr std::uint64_t kWord = 0xffffffff;  // of arguments that are int in the kernel
  for (const char* call : {"mmap", "mprotect"}) {
    filter.rule(kAllow, call, {masked(2, PROT_EXEC, 0)});
  }
  for (const int family : {AF_UNIX, AF_INET, AF_INET6}) {
    filter.rule(kAllow, "socket", {masked(0, kWord, static_cast<std::uint64_t>(family))});
  }
  filter.rule(kAllow, "socketpair", {masked(0, kWord, AF_UNIX)});
  // The flags of clone3 are in memory, where no filter can see them; libc then takes clone.
  filter.rule(SCMP_ACT_ERRNO(ENOSYS), "clone3", {});
  constexpr std::uint64_t kSpaces = CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC |
                                    CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNET;
  filter.rule(kAllow, "clone", {masked(0, CLONE_THREAD | kSpaces, CLONE_THREAD)});
  const auto self = static_cast<std::uint64_t>(getpid());
  filter.rule(kAllow, "tgkill", {masked(0, kWord, self)});
  // The fd store asks which descriptors are one file.
  filter.rule(kAllow, "kcmp", {masked(0, kWord, self), masked(1, kWord, self)});
  for (const int option : {PR_SET_NAME, PR_GET_NAME, PR_SET_TIMERSLACK, PR_GET_NO_NEW_PRIVS,
                           PR_GET_DUMPABLE, PR_GET_SECCOMP}) {
    filter.rule(kAllow, "prctl", {masked(0, kWord, static_cast<std::uint64_t>(option))});
  }
  // Reading limits only.
  filter.rule(kAllow, "prlimit64", {is(2, 0)});
  return filter.load();
}

}  // namespace faultline::daemon
