// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "apps/session/fd.h"

namespace faultline::session {

inline constexpr std::size_t kPacketBytes = 65536;
inline constexpr std::size_t kPacketFds = 253;  // SCM_MAX_FD of Linux

/// One packet of a SOCK_SEQPACKET socket and the descriptors that came beside it.
struct Packet {
  std::string text;
  std::vector<Fd> fds;
};

enum class Received : std::uint8_t {
  kPacket,
  kNothing,  ///< no packet waits
  kClosed,   ///< the peer is gone
  kBroken,   ///< a packet that is longer than any may be, or whose descriptors did not all arrive
};

/// Take one packet if one waits. cost: one recvmsg(2)
Received receive(int socket, Packet& packet);

/// returns  0; EAGAIN: the peer does not read; another errno: it is gone
int send(int socket, const std::string& text, const std::vector<Fd>& fds);

/// End a connection; the peer is told at once. Where packets of it are left their descriptors go as
/// those of packets that were taken do: to close them may wait (close.h).
void hang_up(Fd socket) noexcept;

}  // namespace faultline::session
