// SPDX-License-Identifier: BSD-3-Clause
#include "apps/session/request_fds.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <string>
#include <utility>
#include <vector>

#include "apps/session/fd.h"

namespace faultline::session {
namespace {

constexpr std::array kVfio = {FileKind::kCharacterDevice, FileKind::kCharacterDevice,
                              FileKind::kVfioDevice};
constexpr std::array kCharacter = {FileKind::kCharacterDevice};
constexpr std::array kSoft = {FileKind::kSocket};

Fd character() {
  return Fd(::open("/dev/null", O_RDWR | O_CLOEXEC));
}
Fd event() {
  return Fd(::eventfd(0, EFD_CLOEXEC));
}
Fd memory() {
  return Fd(::memfd_create("file", MFD_CLOEXEC));
}
Fd socket() {
  return Fd(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
}

/// The error of a guest with one device of these files.
std::string error_of(std::vector<Fd> device, std::span<const FileKind> kinds, Fd backend = Fd(),
                     std::span<const FileKind> backend_kinds = {}) {
  GuestRequest request;
  request.name = "g";
  request.devices.push_back({"d", StreamId{1}, 1, {}});
  for (Fd& fd : device) request.devices[0].fds.push_back(fd.release());
  if (backend) request.backend_fds.push_back(backend.release());
  const OwnedRequest owned(std::move(request));
  const auto ok = check_descriptors(*owned, kinds, backend_kinds);
  return ok ? "" : ok.error().what;
}

template <class... F>
std::vector<Fd> files(F... fds) {
  std::vector<Fd> out;
  (out.push_back(std::move(fds)), ...);
  return out;
}

TEST(RequestFds, AVfioDeviceComesAsItsContainerItsGroupAndItself) {
  EXPECT_EQ(error_of(files(memory(), character(), event()), kVfio),
            "guest g: device d: its descriptor 0 is no character device");
  EXPECT_EQ(error_of(files(character(), socket(), event()), kVfio),
            "guest g: device d: its descriptor 1 is no character device");
  for (Fd (*wrong)() : {event, memory, character, socket}) {
    EXPECT_EQ(error_of(files(character(), character(), wrong()), kVfio),
              "guest g: device d: its descriptor 2 is no device of a VFIO group");
  }
  EXPECT_EQ(error_of(files(character()), kVfio),
            "guest g: device d came with 1 descriptors; here it needs 3");
}

TEST(RequestFds, AnIommufdDeviceAndItsIommufdAreCharacterDevices) {
  EXPECT_EQ(error_of(files(character()), kCharacter, character(), kCharacter), "");
  EXPECT_EQ(error_of(files(event()), kCharacter, character(), kCharacter),
            "guest g: device d: its descriptor 0 is no character device");
  EXPECT_EQ(error_of(files(character()), kCharacter, memory(), kCharacter),
            "guest g: its backend: its descriptor 0 is no character device");
  EXPECT_EQ(error_of(files(character()), kCharacter, Fd(), kCharacter),
            "guest g came with 0 descriptors of its backend; here it needs 1");
}

TEST(RequestFds, AFileOfTheSoftKernelIsASocket) {
  EXPECT_EQ(error_of(files(socket()), kSoft, socket(), kSoft), "");
  EXPECT_EQ(error_of(files(character()), kSoft, socket(), kSoft),
            "guest g: device d: its descriptor 0 is no file of the soft kernel");
  EXPECT_EQ(error_of(files(socket()), kSoft, event(), kSoft),
            "guest g: its backend: its descriptor 0 is no file of the soft kernel");
}

}  // namespace
}  // namespace faultline::session
