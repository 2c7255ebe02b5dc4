// SPDX-License-Identifier: BSD-3-Clause
// What a service may say to a VMM: packets of any text with or without a descriptor, long results
// in files of any content, read by the calls of the client library.
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <string_view>

#include "apps/client/connection.h"
#include "apps/client/faultline_client.h"
#include "apps/client/kept_guest.h"
#include "apps/client/requests.h"
#include "apps/client/wire.h"
#include "tests/fuzz/input.h"

namespace faultline::fuzz {
namespace {

/// The number that the next descriptor gets: the same again when none was left open.
int next_descriptor() {
  const int fd = ::dup(STDERR_FILENO);
  ::close(fd);
  return fd;
}

faultline_client* client_on(int socket) {
  auto* client = static_cast<faultline_client*>(std::calloc(1, sizeof(faultline_client)));
  client->socket = socket;
  client->beat = -1;
  client->path = ::strdup("/");
  client->text = static_cast<char*>(std::malloc(FL_WIRE_BYTES + 1));
  client->text[0] = '\0';
  return client;
}

void check(faultline_client* client, int rc, const char* text, bool wants_text) {
  hold(rc <= 0, "neither success nor an errno");
  hold((rc == 0 && wants_text) == (text != nullptr), "text without success, or none with it");
  if (rc == 0) return;
  hold_one_line(faultline_error(client));
  for (const char* c = faultline_error(client); *c != '\0'; ++c) {
    hold(static_cast<unsigned char>(*c) >= 0x20 && *c != 0x7f, "a control character in an error");
  }
}

faultline_guest any_guest() {
  faultline_guest guest{};
  guest.name = "g";
  guest.evtq_eventfd = guest.gerror_eventfd = guest.sync_eventfd = -1;
  guest.doorbell_eventfd = guest.arm_eventfd = guest.armed_eventfd = -1;
  return guest;
}

/// A kept guest after a change without an answer, as faultline_reconnect() settles it.
void settle(faultline_client* client, unsigned change) {
  fl_kept_guest* kept = client->guests;
  if (kept == nullptr) return;
  const faultline_memory part{0x4000'0000, 4096, 0, STDERR_FILENO};
  const int fd = STDERR_FILENO;
  const faultline_device device{"d", 1, 1, &fd, 1};
  hold(fl_keep_memory(kept, &part) == 0 && fl_keep_device(kept, &device) == 0, "not kept");
  kept->open = static_cast<fl_open_change>(change % (FL_OTHER_CHANGE + 1));
  check(client, fl_take_over(client, kept), nullptr, false);
}

void call(faultline_client* client, unsigned method) {
  char* text = nullptr;
  std::uint64_t ns = 0;
  switch (method % 10) {
    case 0: {
      const faultline_budget budget{.commands = 4, .records = 4, .submissions = 1, .weight = 1};
      check(client, faultline_pause(client, "g"), nullptr, false);
      check(client, faultline_resume(client, "g"), nullptr, false);
      return check(client, faultline_set_budget(client, "g", &budget), nullptr, false);
    }
    case 1: {
      const int rc = faultline_get_state(client, "g", &text);
      check(client, rc, text, true);
      break;
    }
    case 2: {
      const int rc = faultline_query(client, "g", &text);
      check(client, rc, text, true);
      break;
    }
    case 3:
      return check(client, faultline_heartbeat(client, &ns), nullptr, false);
    case 4: {
      const faultline_guest guest = any_guest();
      return check(client, faultline_attach(client, &guest), nullptr, false);
    }
    case 5: {
      const faultline_memory part{0x4000'0000, 4096, 0, STDERR_FILENO};
      return check(client, faultline_memory_add(client, "g", &part), nullptr, false);
    }
    case 6: {
      const int fd = STDERR_FILENO;
      const faultline_device device{"d", 1, 1, &fd, 1};
      return check(client, faultline_device_add(client, "g", &device), nullptr, false);
    }
    case 7:
      return check(client, faultline_device_remove(client, "g", "d"), nullptr, false);
    case 8: {
      const int rc = faultline_call(client, "memory.remove",
                                    R"({"guest":"g","gpa":1073741824,"bytes":4096})", &text);
      check(client, rc, text, true);
      break;
    }
    default:
      return check(client, faultline_detach(client, "g"), nullptr, false);
  }
  std::free(text);
}

/// A file as a service would pass it, sealed or not.
int file_of(std::string_view text, bool sealed) {
  const int fd = ::memfd_create("result", MFD_CLOEXEC | MFD_ALLOW_SEALING);
  hold(fd >= 0 && ::write(fd, text.data(), text.size()) == static_cast<ssize_t>(text.size()),
       "no file");
  if (sealed) (void)::fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE);
  return fd;
}

}  // namespace
}  // namespace faultline::fuzz

/// One byte: the first call, and whether its guest is attached already, and to be taken over; then
/// packets that end with a newline. A packet that begins with '+' has a descriptor beside it; one
/// with '*' has the file that the last line with '=' filled and sealed, or with '-' only filled.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace faultline::fuzz;
  if (size == 0) return 0;
  const int before = next_descriptor();
  int ends[2] = {-1, -1};
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0) std::abort();
  std::string_view rest(reinterpret_cast<const char*>(data + 1), size - 1);
  int file = -1;
  for (int packets = 0; !rest.empty() && packets < 8; ++packets) {
    const std::size_t end = rest.find('\n');
    std::string_view packet = rest.substr(0, end);
    rest.remove_prefix(end == std::string_view::npos ? rest.size() : end + 1);
    const char kind = packet.empty() ? '\0' : packet.front();
    if (kind == '=' || kind == '-') {
      if (file >= 0) ::close(file);
      file = file_of(packet.substr(1), kind == '=');
      continue;
    }
    const bool passes = kind == '+' || (kind == '*' && file >= 0);
    if (kind == '+' || kind == '*') packet.remove_prefix(1);
    const int* beside = kind == '*' ? &file : ends;
    (void)fl_wire_send(ends[1], packet.data(), packet.size(), beside, passes ? 1 : 0);
  }
  if (file >= 0) ::close(file);
  faultline_client* client = client_on(ends[0]);
  if ((data[0] & 0x80) != 0) {
    const faultline_guest guest = any_guest();
    client->guests = fl_keep(&guest);
    hold(client->guests != nullptr && (client->guests->token = ::strdup("t")) != nullptr,
         "no guest");
  }
  if ((data[0] & 0x40) != 0) settle(client, data[0]);
  for (unsigned i = 0; i < 3; ++i) call(client, (data[0] & 0x7fU) + i);
  faultline_close(client);
  ::close(ends[1]);
  hold(next_descriptor() == before, "a descriptor is left open");
  return 0;
}
