// SPDX-License-Identifier: BSD-3-Clause
// The configuration file of the service: any bytes, and lines that begin inside its grammar.
#include "config/parse.h"

#include <string>

#include "config/keys.h"
#include "tests/fuzz/input.h"

namespace faultline::fuzz {
namespace {

constexpr std::string_view kValues[] = {"true",  "0",          "1",      "0o660",   "1e9",    "nan",
                                        "\"a\"", "\"\"",       "[1, 2]", "[1, 1]",  "[\"\"]", "-1",
                                        "{}",    "4294967295", "'on'",   "\"off\"", "= ="};

/// A line with a key that there is, or one that is a letter off.
std::string line(Input& in) {
  const auto tables = config::tables();
  const config::Table& table = tables[in.below(tables.size())];
  std::string name(table.keys[in.below(table.keys.size())].name);
  if (in.byte() < 32) name[in.below(name.size())] = 'x';
  return name + " = " + std::string(kValues[in.byte() % std::size(kValues)]) + '\n';
}

void run(Input in) {
  std::string text;
  for (unsigned n = in.byte() % 8; n > 0; --n) text += line(in);
  const auto rest = in.rest();
  text.append(reinterpret_cast<const char*>(rest.data()), rest.size());

  const config::Parsed parsed = config::parse(text, "f.toml");
  for (const std::string& error : parsed.errors) {
    hold_one_line(error);
    hold(error.rfind("f.toml:", 0) == 0, "where?");
  }
  if (!parsed.errors.empty()) return;
  for (const config::Table& table : config::tables()) {
    for (const config::Key& key : table.keys) {
      if (const auto* m = std::get_if<config::Number>(&key.member)) {
        const std::uint64_t value = parsed.options.**m;
        hold(value >= key.least && value <= key.most, "out of its range");
      }
    }
  }
  const config::Parsed again = config::parse(config::to_toml(parsed.options), "again");
  hold(again.errors.empty() && again.options == parsed.options, "does not print as it was read");
}

}  // namespace
}  // namespace faultline::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  faultline::fuzz::run({data, size});
  return 0;
}
