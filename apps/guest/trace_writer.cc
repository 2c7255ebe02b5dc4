// SPDX-License-Identifier: BSD-3-Clause
#include <cerrno>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>

#include "apps/guest/commands.h"
#include "apps/guest/trace.h"

namespace faultline::guest {
namespace {

template <class T>
void put(std::string& bytes, T value) {
  for (std::size_t i = 0; i < sizeof(T); ++i) {
    bytes += static_cast<char>(value & 0xff);
    value = static_cast<T>(value >> 8U);
  }
}

Result<void> write_file(const std::string& path, const std::string& bytes) {
  std::ofstream out(path, std::ios::binary | std::ios::trunc);
  out.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  out.close();
  if (!out) return fail(errno, "cannot write trace file " + path);
  return {};
}

}  // namespace

Result<void> write_trace(const std::string& path, const Trace& trace) {
  std::string commands;
  std::string doorbells;
  std::uint64_t syncs = 0;
  for (const Doorbell& d : trace.doorbells) {
    for (std::size_t i = d.first; i < d.first + d.count; ++i) {
      put(commands, d.at);
      put(commands, trace.commands[i].word[0]);
      put(commands, trace.commands[i].word[1]);
      syncs += trace.commands[i].opcode() == op::kSync ? 1 : 0;
    }
    put(doorbells, d.at);
    put(doorbells, d.first);
    put(doorbells, d.count);
    put(doorbells, d.vcpu);
  }
  const nlohmann::ordered_json about = {{"name", std::filesystem::path(path).filename().string()},
                                        {"commands", trace.commands.size()},
                                        {"doorbells", trace.doorbells.size()},
                                        {"syncs", syncs},
                                        {"vcpus", trace.vcpus}};
  if (auto ok = write_file(path + ".cmdq", commands); !ok) return ok;
  if (auto ok = write_file(path + ".db", doorbells); !ok) return ok;
  return write_file(path + ".json", about.dump(1) + '\n');
}

}  // namespace faultline::guest
