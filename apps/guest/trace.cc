// SPDX-License-Identifier: BSD-3-Clause
#include "apps/guest/trace.h"

#include <zstd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <string_view>

namespace faultline::guest {
namespace {

constexpr std::size_t kCommandRecord = 24;
constexpr std::size_t kDoorbellRecord = 16;
// No recording is nearly as large; a corrupt frame header must not make us allocate without bound.
constexpr unsigned long long kLargest = 1ULL << 30;
// A block takes at least 4 bytes and unpacks to at most 128 KiB (RFC 8878, 3.1.1.2).
constexpr unsigned long long kMostPerByte = (128U << 10U) / 4;

Result<std::string> read_file(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  if (!in) return fail(errno, "cannot read trace file " + path);
  std::string bytes;
  try {
    bytes.assign(std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>());
  } catch (const std::ios_base::failure&) {  // a folder, a disk that fails: the buffer throws
    return fail(errno, "cannot read trace file " + path);
  }
  return bytes;
}

Result<std::string> decompress(const std::string& path, const std::string& packed) {
  const unsigned long long size = ZSTD_getFrameContentSize(packed.data(), packed.size());
  if (size == ZSTD_CONTENTSIZE_ERROR || size == ZSTD_CONTENTSIZE_UNKNOWN || size > kLargest ||
      size > packed.size() * kMostPerByte) {
    return fail(0, path + " is not a zstd file with a known size");
  }
  std::string bytes(static_cast<std::size_t>(size), '\0');
  const std::size_t n = ZSTD_decompress(bytes.data(), bytes.size(), packed.data(), packed.size());
  if (ZSTD_isError(n) != 0 || n != size) {
    return fail(0, path + " is truncated or damaged (zstd: " + ZSTD_getErrorName(n) + ")");
  }
  return bytes;
}

/// `path` itself, or `path`.zst where only that exists.
Result<std::string> read_either(const std::string& path) {
  std::error_code ignored;
  const std::string packed = path + ".zst";
  if (!std::filesystem::exists(path, ignored) && std::filesystem::exists(packed, ignored)) {
    auto bytes = read_file(packed);
    if (!bytes) return bytes;
    return decompress(packed, *bytes);
  }
  return read_file(path);
}

template <class T>
T little_endian(const std::string& bytes, std::size_t at) {
  T value = 0;
  for (std::size_t i = sizeof(T); i-- > 0;) {
    value = static_cast<T>(value << 8 | static_cast<unsigned char>(bytes[at + i]));
  }
  return value;
}

constexpr std::array<std::uint8_t, 27> kOpcodes = {
    0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x10, 0x11, 0x12, 0x13, 0x18, 0x1a, 0x20, 0x21,
    0x22, 0x23, 0x28, 0x2a, 0x30, 0x40, 0x41, 0x44, 0x45, 0x46, 0x50, 0x51, 0x52};

bool known(std::uint8_t opcode) {
  return std::find(kOpcodes.begin(), kOpcodes.end(), opcode) != kOpcodes.end();
}

Result<void> parse_commands(const std::string& file, const std::string& bytes, Trace& out) {
  if (bytes.empty() || bytes.size() % kCommandRecord != 0) {
    return fail(0, file + " is truncated: its size is no multiple of 24 bytes");
  }
  out.commands.reserve(bytes.size() / kCommandRecord);
  for (std::size_t at = 0; at < bytes.size(); at += kCommandRecord) {
    const Command c{{little_endian<std::uint64_t>(bytes, at + 8),
                     little_endian<std::uint64_t>(bytes, at + 16)}};
    if (!known(c.opcode())) {
      return fail(0, file + " is not a command trace: command " +
                         std::to_string(out.commands.size()) + " has no SMMUv3 opcode");
    }
    if ((c.opcode() == op::kTlbiNhVa || c.opcode() == op::kTlbiNhVaa) &&
        (c.word[1] >> 10 & 3) != 0) {
      out.uses_range = true;
    }
    out.commands.push_back(c);
  }
  return {};
}

Result<void> parse_doorbells(const std::string& file, const std::string& bytes, Trace& out) {
  if (bytes.empty() || bytes.size() % kDoorbellRecord != 0) {
    return fail(0, file + " is truncated: its size is no multiple of 16 bytes");
  }
  std::size_t next = 0;
  Nanos before = 0;
  for (std::size_t at = 0; at < bytes.size(); at += kDoorbellRecord) {
    const Doorbell d{
        little_endian<std::uint64_t>(bytes, at), little_endian<std::uint32_t>(bytes, at + 8),
        little_endian<std::uint16_t>(bytes, at + 12), little_endian<std::uint16_t>(bytes, at + 14)};
    const std::string which = "doorbell " + std::to_string(out.doorbells.size());
    if (d.first != next || d.count == 0 || d.at < before || d.vcpu >= 1024) {
      return fail(0, file + " is not a doorbell trace: " + which + " does not follow the last one");
    }
    next += d.count;
    before = d.at;
    if (next > out.commands.size()) {
      return fail(0, file + " and its command file do not belong together: " + which +
                         " rings for commands that are not there");
    }
    out.doorbells.push_back(d);
  }
  if (next != out.commands.size()) {
    return fail(0, file + " is truncated: the last " + std::to_string(out.commands.size() - next) +
                       " commands have no doorbell");
  }
  return {};
}

Result<void> parse_description(const std::string& file, const std::string& text, Trace& out) {
  const auto json = nlohmann::json::parse(text, nullptr, false);
  if (!json.is_object() || !json.contains("vcpus") || !json["vcpus"].is_number_unsigned()) {
    return fail(0, file + " does not describe a trace: it has no number \"vcpus\"");
  }
  out.vcpus = std::clamp(json["vcpus"].get<unsigned>(), 1U, 1024U);
  for (const Doorbell& d : out.doorbells) {
    out.vcpus = std::max(out.vcpus, static_cast<unsigned>(d.vcpu) + 1);
  }
  return {};
}

}  // namespace

bool Trace::uses_asid(std::uint16_t asid) const noexcept {
  return std::any_of(commands.begin(), commands.end(), [&](const Command& c) {
    return (c.opcode() == op::kTlbiNhAsid || c.opcode() == op::kTlbiNhVa) &&
           c.word[0] >> 48 == asid;
  });
}

bool Trace::uses_sid(StreamId sid) const noexcept {
  return std::any_of(commands.begin(), commands.end(), [&](const Command& c) {
    const bool by_sid = c.opcode() <= op::kCfgiCdAll || c.opcode() == 0x40;
    return by_sid && c.opcode() != op::kCfgiSteRange && c.word[0] >> 32 == sid.value;
  });
}

Result<Trace> read_trace(const std::string& path) {
  std::string stem = path;
  for (const std::string_view suffix : {".zst", ".cmdq", ".db", ".json"}) {
    if (stem.size() > suffix.size() && stem.ends_with(suffix)) {
      stem.resize(stem.size() - suffix.size());
    }
  }
  Trace trace;
  trace.name = std::filesystem::path(stem).filename().string();
  auto commands = read_either(stem + ".cmdq");
  if (!commands) return tl::unexpected(commands.error());
  if (auto r = parse_commands(stem + ".cmdq", *commands, trace); !r) {
    return tl::unexpected(r.error());
  }
  auto doorbells = read_either(stem + ".db");
  if (!doorbells) return tl::unexpected(doorbells.error());
  if (auto r = parse_doorbells(stem + ".db", *doorbells, trace); !r) {
    return tl::unexpected(r.error());
  }
  auto text = read_file(stem + ".json");
  if (!text) return tl::unexpected(text.error());
  if (auto r = parse_description(stem + ".json", *text, trace); !r) {
    return tl::unexpected(r.error());
  }
  return trace;
}

}  // namespace faultline::guest
