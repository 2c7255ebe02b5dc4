// SPDX-License-Identifier: BSD-3-Clause
#include "apps/session/sealed.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "apps/session/file_sort.h"
#include "engine/journal.h"

namespace faultline::session {
namespace {

Result<Fd> make_memfd(const std::string& name, const std::string& bytes, int seals) {
  Fd fd(::memfd_create(name.c_str(), MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!fd) return fail(errno, "create a memfd");
  if (::pwrite(fd.get(), bytes.data(), bytes.size(), 0) != static_cast<ssize_t>(bytes.size()) ||
      ::fcntl(fd.get(), F_ADD_SEALS, seals) != 0) {
    return fail(errno, "fill a memfd");
  }
  return fd;
}

}  // namespace

Result<void> check_sealed(const Fd& memfd, std::uint64_t offset, std::uint64_t bytes) {
  const int seals = ::fcntl(memfd.get(), F_GET_SEALS);
  struct stat file {};
  if (seals < 0 || ::fstat(memfd.get(), &file) != 0) {
    return fail(EINVAL, "it is no memfd; pass one that is sealed with F_SEAL_SHRINK");
  }
  if ((seals & F_SEAL_SHRINK) == 0) {
    return fail(EINVAL, "its memfd may shrink; seal it with F_SEAL_SHRINK");
  }
  if ((seals & F_SEAL_WRITE) != 0 || (::fcntl(memfd.get(), F_GETFL) & O_ACCMODE) != O_RDWR) {
    return fail(EINVAL, "its memfd cannot be written; a guest's memory is read and written");
  }
  const auto size = static_cast<std::uint64_t>(file.st_size);
  if (offset > size || bytes > size - offset) {
    return fail(EINVAL, fmt::format("{} bytes from {} are asked of a memfd that has {}", bytes,
                                    offset, size));
  }
  return {};
}

Result<void> make_nonblocking_eventfd(const Fd& fd) {
  if (!fd) return {};
  if (sort_of(fd.get()) != FileSort::kEventfd) return fail(EINVAL, "it is not an eventfd");
  const int flags = ::fcntl(fd.get(), F_GETFL);
  if (flags < 0 || ::fcntl(fd.get(), F_SETFL, flags | O_NONBLOCK) != 0) {
    return fail(errno, "it cannot be made non-blocking");
  }
  return {};
}

Result<Fd> copy_journal(int journal) {
  // Only a file in memory: to read any other one may take as long as the peer likes.
  if (::fcntl(journal, F_GET_SEALS) < 0) {
    return fail(EINVAL, "'journal' is no memfd; pass the one that start gave");
  }
  std::string bytes(sizeof(engine::JournalLayout), '\0');
  // A short one is padded with zeros, which no journal has where it counts.
  if (::pread(journal, bytes.data(), bytes.size(), 0) < 0) {
    return fail(errno, "'journal' cannot be read");
  }
  auto copy = make_memfd("journal", bytes, F_SEAL_SHRINK | F_SEAL_GROW);
  if (!copy) return copy;
  if (auto ok = engine::Journal::open(copy->get()); !ok) {
    return tl::unexpected(std::move(ok.error()));
  }
  return copy;
}

Result<Fd> sealed_text(const std::string& name, const std::string& text) {
  return make_memfd(name, text, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL);
}

Result<std::string> read_text(const Fd& file, std::size_t most) {
  struct stat info {};
  if (::fstat(file.get(), &info) != 0) return fail(errno, "look at a file");
  if (info.st_size < 0 || static_cast<std::size_t>(info.st_size) > most) {
    return fail(EINVAL, fmt::format("it has {} bytes, at most {} can be", info.st_size, most));
  }
  std::string text(static_cast<std::size_t>(info.st_size), '\0');
  const ssize_t got = ::pread(file.get(), text.data(), text.size(), 0);
  if (got < 0) return fail(errno, "read a file");
  text.resize(static_cast<std::size_t>(got));
  return text;
}

Result<Fd> read_only(int fd) {
  Fd out(::open(fmt::format("/proc/self/fd/{}", fd).c_str(), O_RDONLY | O_CLOEXEC));
  if (!out) return fail(errno, "open a descriptor again to read");
  return out;
}

}  // namespace faultline::session
