// SPDX-License-Identifier: BSD-3-Clause
// The three files of a trace, damaged, foreign or hostile, plain and compressed.
#include "apps/guest/trace.h"

#include <fcntl.h>
#include <unistd.h>
#include <zstd.h>

#include <cstdio>
#include <filesystem>
#include <string_view>

#include "tests/fuzz/input.h"

namespace faultline::fuzz {
namespace {

constexpr std::uint8_t kOpcodes[] = {1,    2,    3,    4,    5,    6,    0x10, 0x11, 0x12,
                                     0x13, 0x18, 0x1a, 0x20, 0x21, 0x22, 0x23, 0x28, 0x2a,
                                     0x30, 0x40, 0x41, 0x44, 0x45, 0x46, 0x50, 0x51, 0x52};

/// A folder of our own, gone when the process ends well.
class Folder {
 public:
  Folder() {
    const char* base = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";
    path_ = std::string(base) + "/faultline-fuzz-XXXXXX";
    if (mkdtemp(path_.data()) == nullptr) std::abort();
  }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;
  ~Folder() {
    for (const char* name : {".cmdq", ".db", ".json", ".cmdq.zst", ".db.zst"}) remove(name);
    rmdir(path_.c_str());
  }
  [[nodiscard]] std::string stem() const { return path_ + "/t"; }
  void remove(const std::string& suffix) const { std::remove((stem() + suffix).c_str()); }
  void write(const std::string& suffix, std::string_view bytes) const {
    const int fd = open((stem() + suffix).c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0 || ::write(fd, bytes.data(), bytes.size()) != static_cast<ssize_t>(bytes.size())) {
      std::abort();
    }
    close(fd);
  }

 private:
  std::string path_;
};

const Folder& folder() {
  static const Folder made;
  return made;
}

void put(std::string& to, std::uint64_t value, int bytes) {
  for (int i = 0; i < bytes; ++i) to.push_back(static_cast<char>(value >> 8 * i));
}
std::uint64_t number(std::string_view bytes, std::size_t at, int size) {
  std::uint64_t value = 0;
  for (int i = 0; i < size; ++i)
    value |= std::uint64_t{static_cast<unsigned char>(bytes[at + i])} << 8 * i;
  return value;
}

/// Records that follow each other, so that the fuzzer starts inside the format.
std::string commands(Input& in) {
  std::string out;
  for (unsigned n = in.byte() % 8; n > 0; --n) {
    put(out, in.byte(), 8);
    put(out, kOpcodes[in.byte() % std::size(kOpcodes)] | in.u64() << 8, 8);
    put(out, in.u32(), 8);
  }
  return out;
}
std::string doorbells(Input& in, std::size_t commands) {
  std::string out;
  std::uint64_t at = 0;
  for (std::size_t first = 0; first < commands;) {
    const std::size_t count = 1 + in.byte() % 4;
    put(out, at += in.byte() % 4, 8);
    put(out, first, 4);
    put(out, count, 2);
    put(out, in.byte() % 4, 2);
    first += count;
    if (first > commands && in.flag()) break;
  }
  return out;
}
void damage(Input& in, std::string& bytes) {
  for (unsigned n = in.byte() % 4; n > 0 && !bytes.empty(); --n) {
    bytes[in.below(bytes.size())] = static_cast<char>(in.byte());
  }
  const std::uint8_t cut = in.byte();
  if (cut > 200) bytes.resize(bytes.size() - std::min<std::size_t>(bytes.size(), cut - 200));
}

bool commands_sound(std::string_view bytes) {
  if (bytes.empty() || bytes.size() % 24 != 0) return false;
  for (std::size_t at = 0; at < bytes.size(); at += 24) {
    if (std::find(std::begin(kOpcodes), std::end(kOpcodes), number(bytes, at + 8, 1)) ==
        std::end(kOpcodes)) {
      return false;
    }
  }
  return true;
}
bool doorbells_sound(std::string_view bytes, std::size_t commands) {
  if (bytes.empty() || bytes.size() % 16 != 0) return false;
  std::uint64_t next = 0;
  std::uint64_t before = 0;
  for (std::size_t at = 0; at < bytes.size(); at += 16) {
    const auto count = number(bytes, at + 12, 2);
    if (number(bytes, at, 8) < before || number(bytes, at + 8, 4) != next || count == 0)
      return false;
    if (number(bytes, at + 14, 2) >= 1024) return false;
    before = number(bytes, at, 8);
    next += count;
    if (next > commands) return false;
  }
  return next == commands;
}

/// Leave the file as it is, or packed, or call something "packed" that is not.
bool place(Input& in, const std::string& suffix, const std::string& bytes) {
  folder().remove(suffix);
  folder().remove(suffix + ".zst");
  const std::uint8_t how = in.byte() % 4;
  if (bytes.empty()) {  // there is no file without content to read: a folder of its name
    std::filesystem::create_directory(folder().stem() + suffix);
    return true;
  }
  if (how < 2) {
    folder().write(suffix, bytes);
    return true;
  }
  std::string packed(ZSTD_compressBound(bytes.size()), '\0');
  packed.resize(ZSTD_compress(packed.data(), packed.size(), bytes.data(), bytes.size(), 1));
  if (how == 3) damage(in, packed);
  folder().write(suffix + ".zst", packed);
  return how == 2;
}

void check(const guest::Trace& trace, std::string_view raw_commands, std::string_view raw_bells) {
  hold(trace.name == "t" && trace.vcpus >= 1 && trace.vcpus <= 1024, "name and vCPUs");
  hold(trace.commands.size() * 24 == raw_commands.size(), "number of commands");
  bool range = false;
  for (std::size_t i = 0; i < trace.commands.size(); ++i) {
    const auto& c = trace.commands[i];
    hold(c.word[0] == number(raw_commands, 24 * i + 8, 8) &&
             c.word[1] == number(raw_commands, 24 * i + 16, 8),
         "a command");
    const auto op = c.word[0] & 0xff;
    range |= (op == 0x12 || op == 0x13) && (c.word[1] & 0xc00) != 0;
    if (op == 0x11 || op == 0x12) hold(trace.uses_asid(c.word[0] >> 48), "an ASID is denied");
  }
  hold(trace.uses_range == range, "ranges");
  hold(trace.doorbells.size() * 16 == raw_bells.size(), "number of doorbells");
  std::size_t next = 0;
  for (std::size_t i = 0; i < trace.doorbells.size(); ++i) {
    const auto& d = trace.doorbells[i];
    hold(d.first == next && d.count != 0 && next + d.count <= trace.commands.size(),
         "a doorbell for commands that are not there");
    hold(d.vcpu < trace.vcpus, "a vCPU that is not there");
    hold(i == 0 || d.at >= trace.doorbells[i - 1].at, "time runs backward");
    next += d.count;
  }
  hold(next == trace.commands.size(), "commands without a doorbell");
}

void run(Input in) {
  std::string raw_commands = commands(in);
  std::string raw_bells = doorbells(in, raw_commands.size() / 24);
  if (in.flag()) damage(in, raw_commands);
  if (in.flag()) damage(in, raw_bells);
  bool known = place(in, ".cmdq", raw_commands);
  known = place(in, ".db", raw_bells) && known;
  std::string json = R"({"vcpus": 2})";
  const bool own_json = in.flag();
  if (own_json) json.assign(reinterpret_cast<const char*>(in.rest().data()), in.rest().size());
  folder().write(".json", json);

  const auto trace = guest::read_trace(folder().stem());
  const bool sound =
      commands_sound(raw_commands) && doorbells_sound(raw_bells, raw_commands.size() / 24);
  if (known && !own_json) hold(trace.has_value() == sound, "accepted or refused against the rules");
  if (trace) {
    if (known) check(*trace, raw_commands, raw_bells);
  } else {
    hold_one_line(trace.error().message());
    hold(trace.error().what.find(folder().stem()) != std::string::npos, "which file?");
  }
}

}  // namespace
}  // namespace faultline::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  faultline::fuzz::run({data, size});
  return 0;
}
