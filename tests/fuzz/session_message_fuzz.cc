// SPDX-License-Identifier: BSD-3-Clause
// VMMs that send a service whatever they like, with any descriptors: each packet gets at most one
// answer in one line, the host sees only guests that are whole, and nothing is left when all have
// gone.
#include <sys/eventfd.h>

#include <array>
#include <optional>

#include "apps/session/close.h"
#include "apps/session/wire.h"
#include "tests/fuzz/session_world.h"

namespace faultline::fuzz {
namespace {

using nlohmann::json;

constexpr std::size_t kVmms = 3;

/// What a VMM could pass; made once.
struct Descriptors {
  int memory = ::memfd_create("memory", MFD_CLOEXEC | MFD_ALLOW_SEALING);
  int open_memory = ::memfd_create("open", MFD_CLOEXEC | MFD_ALLOW_SEALING);
  int event = ::eventfd(0, EFD_CLOEXEC);
  int other = ::open("/dev/null", O_RDWR | O_CLOEXEC);
  int foreign = ::open("/proc/self/status", O_RDONLY | O_CLOEXEC);  ///< that no method asks for

  Descriptors() {
    hold(::ftruncate(memory, 0x10000) == 0 && ::ftruncate(open_memory, 0x10000) == 0 &&
             ::fcntl(memory, F_ADD_SEALS, F_SEAL_SHRINK) == 0 && event >= 0 && other >= 0 &&
             foreign >= 0,
         "no descriptors");
  }
  [[nodiscard]] int any(std::uint8_t which) const {
    if (which == 0xff) return foreign;
    const std::array<int, 4> all{memory, event, other, open_memory};
    return all[which % all.size()];
  }
  static const Descriptors& get() {
    static const Descriptors made;
    return made;
  }
};

struct Message {
  std::string text;
  std::vector<int> fds;
};

/// Requests as a good VMM makes them, which the fuzzer then bends.
struct Template {
  const char* text;
  std::array<int, 3> fds;  ///< kinds: 0 memory, 1 eventfd, 2 other; -1 none
};
constexpr Template kTemplates[] = {
    {R"({"method":"hello","versions":[1],"name":"fuzz"})", {-1, -1, -1}},
    {R"({"method":"guest.add","name":"g","registers":1073741824,"mode":"exitless",
         "vcpus":[0,1],"backend_fds":[0]})",
     {2, -1, -1}},
    {R"({"method":"guest.add","name":"h","registers":1073741824,"mode":"trapped",
         "backend_fds":[0],"budget":{"weight":2}})",
     {2, -1, -1}},
    {R"({"method":"memory.add","guest":"g","gpa":1073741824,"bytes":65536,"memfd":0})",
     {0, -1, -1}},
    {R"({"method":"memory.add","guest":"g","gpa":0,"bytes":4096,"offset":4096,"memfd":0})",
     {0, -1, -1}},
    {R"({"method":"device.add","guest":"g","name":"0000:01:00.0","vsid":8,"host_sid":9,"fds":[0]})",
     {2, -1, -1}},
    {R"({"method":"device.add","guest":"g","name":"0000:02:00.0","vsid":9,"fds":[0]})",
     {2, -1, -1}},
    {R"({"method":"interrupts","guest":"g","evtq":0,
         "routes":[{"address":134217728,"data":3,"eventfd":1}]})",
     {1, 1, -1}},
    {R"({"method":"interrupts","guest":"g","gerror":0,"sync":1})", {1, 1, -1}},
    {R"({"method":"start","guest":"g"})", {-1, -1, -1}},
    {R"({"method":"pause","guest":"g"})", {-1, -1, -1}},
    {R"({"method":"resume","guest":"g"})", {-1, -1, -1}},
    {R"({"method":"reset","guest":"g"})", {-1, -1, -1}},
    {R"({"method":"get-state","guest":"g"})", {-1, -1, -1}},
    {R"({"method":"set-state","guest":"g","state":"{}"})", {-1, -1, -1}},
    {R"({"method":"stage1","guest":"g"})", {-1, -1, -1}},
    {R"({"method":"query","guest":"g"})", {-1, -1, -1}},
    {R"({"method":"budget","guest":"g","commands":64,"weight":1})", {-1, -1, -1}},
    {R"({"method":"dirty-log","guest":"g"})", {-1, -1, -1}},
    {R"({"method":"memory.remove","guest":"g","gpa":0,"bytes":4096})", {-1, -1, -1}},
    {R"({"method":"device.remove","guest":"g","name":"0000:02:00.0"})", {-1, -1, -1}},
    {R"({"method":"guest.attach","guest":"g","token":""})", {-1, -1, -1}},
    {R"({"method":"guest.remove","guest":"g"})", {-1, -1, -1}},
    {R"({"method":"heartbeat"})", {-1, -1, -1}},
    {R"({"method":"status"})", {-1, -1, -1}},
    {R"({"method":"drain"})", {-1, -1, -1}},
    {R"({"method":"goodbye"})", {-1, -1, -1}},
    {R"({"method":"interrupts","guest":"g","doorbell":0,"arm":1,"armed":2})", {1, 1, 1}},
    {R"({"method":"start","guest":"g","paused":true})", {-1, -1, -1}},
};
constexpr const char* kFields[] = {
    "guest", "name",   "gpa",   "bytes",  "offset",   "memfd",     "fds",      "vsid",
    "token", "budget", "state", "routes", "evtq",     "registers", "versions", "backend_fds",
    "mode",  "vcpus",  "id",    "force",  "doorbell", "arm",       "armed",    "paused"};

json any_value(Input& in) {
  const std::uint8_t how = in.byte();
  switch (how % 16) {
    case 0:
      return nullptr;
    case 1:
      return -1;
    case 2:
      return in.u64();
    case 3:
      return json::array();
    case 4:
      return json::object();
    case 5:
      return json::array({in.byte() % 4});
    case 6:
      return json::array({0, 1});
    case 7:
      return json::array({json::object({{"address", in.u32()}, {"data", 1}, {"eventfd", 0}})});
    case 8:
      return "g";
    case 9:
      return "h";
    case 10:
      return std::string(in.byte(), 'a');
    case 11:
      return "a\nb\x7f";
    case 12:
      return 4096U * in.byte();
    case 13:
      return (1U << 30) + 4096U * in.byte();
    case 14:
      return 0.5;
    default:
      return in.byte() % 4;
  }
}

/// A token is worth the same to every VMM, and its guest's last one is known.
Message from_template(Input& in, std::uint64_t id, const std::string& token) {
  const Template& t = kTemplates[in.byte() % std::size(kTemplates)];
  Message out;
  json body = json::parse(t.text);
  body["id"] = id;
  if (body.contains("token")) body["token"] = token;
  for (const int kind : t.fds) {
    if (kind >= 0) out.fds.push_back(Descriptors::get().any(static_cast<std::uint8_t>(kind)));
  }
  const std::uint8_t bend = in.byte();
  for (unsigned n = bend % 4; n > 0; --n) {
    const std::string field = kFields[in.byte() % std::size(kFields)];
    if (in.flag()) {
      body.erase(field);
    } else {
      body[field] = any_value(in);
    }
  }
  if ((bend & 0x10) != 0) {
    out.fds.clear();
    for (unsigned n = in.byte() % 4; n > 0; --n) {
      out.fds.push_back(Descriptors::get().any(in.byte()));
    }
  }
  out.text = body.dump(-1, ' ', true, json::error_handler_t::replace);
  return out;
}

Message raw(Input& in) {
  Message out;
  out.text.resize(in.byte());
  in.fill(out.text.data(), out.text.size());
  if ((out.text.size() & 1) != 0) out.fds.push_back(Descriptors::get().any(in.byte()));
  return out;
}

class Run {
 public:
  explicit Run(Input in) : in_(in), before_(open_descriptors()) {}

  void play() {
    {
      session::ServerOptions options;
      options.limits.sessions = 2;
      options.limits.guests_per_session = StrictHost::kGuests - 1;
      options.limits.devices_per_guest = StrictHost::kDevices;
      options.limits.memory_parts = StrictHost::kParts;
      options.limits.memory_bytes = StrictHost::kBytes;
      options.limits.messages_per_second = 1'000'000;
      options.linger_ns = in_.flag() ? 0 : 3'600'000'000'000;
      StrictHost host;
      host.makes_objects = true;
      CountingKeeper keeper;
      {
        auto server = session::Server::make(host, keeper, options);
        hold(server.has_value(), "no server");
        server_ = server->get();
        const Address address;
        server_->listen(address.listener());
        talk(host, address);
        for (int& vmm : vmms_) leave(vmm);
        server_->turn(0);
        hold(server_->counters().sessions == 0, "a session without its VMM");
        if (options.linger_ns == 0) {
          server_->turn(0);
          hold(host.guests() == 0 && keeper.held() == 0, "a guest stays behind");
        }
      }
    }
    session::wait_until_closed();
    hold(open_descriptors() == before_, "a descriptor leaks");
  }

 private:
  static void leave(int& vmm) {
    if (vmm >= 0) ::close(std::exchange(vmm, -1));
  }

  /// With packets on their way that nobody will read: the first is none, which ends the session.
  static void leave_rudely(int& vmm) {
    if (vmm < 0) return;
    (void)session::send(vmm, std::string(session::kPacketBytes + 1, 'x'), {});
    (void)session::send(vmm, "x", {});
    leave(vmm);
  }

  void talk(StrictHost& host, const Address& address) {
    for (unsigned n = 0; n < 32 && !in_.empty(); ++n) {
      const std::uint8_t how = in_.byte();
      int& vmm = vmms_[how % kVmms];
      host.refuse = (how & 0x80) != 0;
      if ((how & 0x70) == 0x10) (how & 0x08) != 0 ? leave_rudely(vmm) : leave(vmm);
      if (vmm < 0) {
        vmm = address.connect();
        server_->turn(0);
        if (vmm >= 0 && (how & 0x70) != 0x20) {
          say(vmm, {R"({"id":1,"method":"hello","versions":[1]})", {}}, 1);
        }
      }
      if (vmm < 0) continue;
      const std::uint64_t id = 2 + n;
      const bool odd = (how & 0x70) == 0x70;
      say(vmm, odd ? raw(in_) : from_template(in_, id, token_),
          odd ? std::nullopt : std::optional<std::uint64_t>(id));
    }
  }

  /// id   of the answer, unless the packet has another one or none
  void say(int& vmm, const Message& message, std::optional<std::uint64_t> id) {
    std::vector<session::Fd> fds;
    for (const int fd : message.fds) fds.emplace_back(::fcntl(fd, F_DUPFD_CLOEXEC, 3));
    if (session::send(vmm, message.text, fds) != 0) {
      leave(vmm);
      return;
    }
    fds.clear();
    server_->turn(0);
    session::Packet packet;
    unsigned answers = 0;
    for (;;) {
      const session::Received got = session::receive(vmm, packet);
      if (got == session::Received::kNothing) break;
      hold(got != session::Received::kBroken, "an answer that is too long");
      if (got == session::Received::kClosed) return leave(vmm);
      check(packet, id);
      ++answers;
    }
    hold(answers == 1, "a packet without its one answer");
  }

  void check(const session::Packet& packet, std::optional<std::uint64_t> id) {
    const json answer = json::parse(packet.text, nullptr, false);
    hold(answer.is_object() && answer.contains("id"), "an answer that is none");
    const bool error = answer.contains("error");
    hold(error != answer.contains("result") && answer.size() == 2, "a result or an error");
    if (error) {
      hold(answer["error"].is_string(), "an error in words");
      hold_one_line(answer["error"].get<std::string>());
      hold(packet.fds.empty(), "descriptors beside an error");
      return;
    }
    // The fuzzer may have bent the id into another whole number, which then comes back.
    hold(answer["id"].is_number_unsigned(), "a result for nobody");
    if (answer["result"].contains("token")) token_ = answer["result"]["token"];
    (void)id;
  }

  Input in_;
  std::size_t before_;
  session::Server* server_ = nullptr;
  std::array<int, kVmms> vmms_{-1, -1, -1};
  std::string token_ = "none";
};

}  // namespace
}  // namespace faultline::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  (void)faultline::fuzz::Descriptors::get();
  faultline::fuzz::Run({data, size}).play();
  return 0;
}
