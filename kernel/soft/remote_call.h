// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <functional>
#include <vector>

#include "kernel/soft/process_channel.h"
#include "kernel/soft/user_call.h"

namespace faultline::soft {

/// A call from another process: the argument's bytes and its descriptors came in a message.
class RemoteCall : public UserCall {
 public:
  /// Finds the file behind a descriptor that a client holds; null: it is not one of ours.
  using FindFile = std::function<FilePtr(int)>;
  /// Makes a connection for a file and returns the client's end, or -errno.
  using Connect = std::function<int(const FilePtr&)>;

  RemoteCall(const MessageHeader& header, std::vector<std::byte> argument, Descriptors& fds,
             FindFile find, Connect connect);
  ~RemoteCall() override;

  [[nodiscard]] unsigned long value() const noexcept override { return header_.value; }
  int copy_in(std::size_t at, void* to, std::size_t size) noexcept override;
  int copy_out(std::size_t at, const void* from, std::size_t size) noexcept override;
  int file(int fd, FilePtr& file) noexcept override;
  int install(const FilePtr& file) noexcept override;
  int eventfd(int fd) noexcept override;
  int pin(std::uint64_t vaddr, std::uint64_t size, bool write,
          UserMemory& memory) noexcept override;

  /// The argument as it is to be copied back; empty when nothing was written.
  [[nodiscard]] std::span<const std::byte> changed() const noexcept;
  /// The client's end of an installed file's connection; -1: none.
  [[nodiscard]] int installed() const noexcept { return installed_; }

 private:
  MessageHeader header_;
  std::vector<std::byte> argument_;
  Descriptors& fds_;
  FindFile find_;
  Connect connect_;
  bool changed_ = false;
  int installed_ = -1;
};

}  // namespace faultline::soft
