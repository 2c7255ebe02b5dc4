// SPDX-License-Identifier: BSD-3-Clause
#include <CLI/CLI.hpp>
#include <cstdio>
#include <exception>
#include <optional>
#include <string>

#include "apps/faultlined/check.h"
#include "apps/faultlined/log.h"
#include "apps/faultlined/service.h"
#include "apps/metrics/table.h"
#include "config/keys.h"
#include "config/parse.h"

namespace {

constexpr int kUsage = 2;

int print(const std::string& text) {
  if (std::fputs(text.c_str(), stdout) >= 0 && std::fflush(stdout) == 0) return 0;
  std::perror("faultlined: cannot write to stdout");
  return 1;
}

int complain(const std::string& what, int status) {
  faultline::daemon::log(faultline::daemon::Level::kError, what);
  return status;
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Serves the IOMMU faults and invalidations of one NUMA node's guests.",
               "faultlined");
  app.set_version_flag("--version", "faultlined 0.1.0");
  std::optional<unsigned> node;
  std::string file;
  bool check = false;
  bool print_config = false;
  bool print_keys = false;
  bool print_metrics = false;
  app.add_option("--node", node, "the NUMA node to serve [service.node of the configuration]")
      ->check(CLI::Range(0, 1023));
  app.add_option("--config", file, "TOML; doc/configuration.md has every key [all defaults]");
  app.add_flag("--check", check, "say what is wrong with the configuration, and end");
  app.add_flag("--print-config", print_config, "print the whole configuration, and end");
  app.add_flag("--print-keys", print_keys, "print every key as tables of Markdown, and end");
  app.add_flag("--print-metrics", print_metrics, "print every metric likewise, and end");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    if (e.get_exit_code() == 0) return app.exit(e);  // --help, --version
    return complain(std::string(e.what()) + " (see faultlined --help)", kUsage);
  }
  try {
    if (print_keys) return print(faultline::config::to_markdown());
    if (print_metrics) return print(faultline::metrics::metrics_markdown());
    faultline::config::Parsed parsed;
    if (!file.empty()) parsed = faultline::config::parse_file(file);
    for (const std::string& error : parsed.errors) complain(error, kUsage);
    if (!parsed.errors.empty()) return kUsage;
    if (node) parsed.options.node = *node;
    if (print_config) return print(faultline::config::to_toml(parsed.options));
    if (check) {
      const auto wrong = faultline::daemon::check(parsed.options, true);
      for (const std::string& error : wrong) complain(error, kUsage);
      if (!wrong.empty()) return kUsage;
      return print((file.empty() ? "the defaults" : file) + ": ok\n");
    }
    const auto served = faultline::daemon::serve(std::move(parsed.options), file);
    return served ? 0 : complain(served.error().message(), 1);
  } catch (const std::exception& e) {
    return complain(e.what(), 1);
  }
}
