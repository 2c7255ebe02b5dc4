// SPDX-License-Identifier: BSD-3-Clause
// What a SoftProcessSys and the kernel process say to each other, one SOCK_SEQPACKET message each.
//
// An open file is a connection. Several processes may hold it, so nothing is ever answered on it:
// each process sends kHello once with one end of a connection of its own (a session) and makes its
// calls there. A process that dies in a call takes its session, with the answer, along.
#pragma once

#include <cstddef>
#include <cstdint>

namespace faultline::soft {

inline constexpr std::uint32_t kProtocolMagic = 0x464c5331;
inline constexpr std::size_t kMaxPayload = 32UL << 10U;
inline constexpr std::size_t kMaxDescriptors = 2;

enum class MessageKind : std::uint32_t {
  kHello = 1,  ///< on a file: + session descriptor; no answer
  kOpen,       ///< payload path; answers + descriptor of the new file
  kIoctl,      ///< number, value; payload the argument's bytes; answers with them as changed
  kPread,      ///< size, at; answers with bytes
  kPwrite,     ///< at; payload
  kSettle,     ///< on the root; answers when every file that was closed before is closed
  kMmap,       ///< size, at, prot, flags; answers value = offset, + descriptor to map
};

struct MessageHeader {
  std::uint32_t magic = kProtocolMagic;
  MessageKind kind{};
  std::uint64_t number = 0;  ///< of the ioctl
  std::uint64_t value = 0;   ///< ioctl: argument as a number; MAP_DMA: offset in the descriptor
  std::uint64_t size = 0;    ///< pread, mmap; ioctl: bytes that may be written back
  std::int64_t at = 0;
  std::int32_t prot = 0;
  std::int32_t flags = 0;
};
static_assert(sizeof(MessageHeader) == 48);

struct ReplyHeader {
  std::uint32_t magic = kProtocolMagic;
  std::uint32_t descriptors = 0;
  std::int64_t result = 0;  ///< of the call
  std::uint64_t value = 0;
};
static_assert(sizeof(ReplyHeader) == 24);

}  // namespace faultline::soft
