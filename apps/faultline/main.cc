// SPDX-License-Identifier: BSD-3-Clause
#include <CLI/CLI.hpp>
#include <cstdio>
#include <exception>
#include <string>

#include "apps/faultline/engine_child.h"
#include "apps/faultline/options.h"
#include "apps/faultline/run.h"

namespace {

constexpr int kUsage = 2;

int complain(const std::string& what, int status) {
  std::fprintf(stderr, "faultline: %s\n", what.c_str());
  return status;
}

int run_command(const faultline::RunOptions& options) {
  const auto status = faultline::run(options);
  if (status) return *status;
  if (status.error().code == faultline::kUsageError) return complain(status.error().what, kUsage);
  return complain(status.error().message(), 1);
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Carries IOMMU faults and invalidations between a host kernel and its guests.",
               "faultline");
  app.set_version_flag("--version", "faultline 0.1.0");
  app.require_subcommand(1);
  faultline::RunOptions run;
  CLI::App* const run_app = app.add_subcommand(
      "run", "the whole path on this machine: software kernel, devices, guests and engine");
  faultline::declare_run(*run_app, run);
  // What a chaos run starts, kills and starts again; of no use to anybody else.
  int description = -1;
  CLI::App* const child = app.add_subcommand("engine", "")->group("");
  child->add_option("--description", description)->required();

  try {
    app.parse(argc, argv);
    if (child->parsed()) return faultline::engine_child(description);
    return run_command(run);
  } catch (const CLI::ParseError& e) {
    if (e.get_exit_code() == 0) return app.exit(e);  // --help, --version
    return complain(std::string(e.what()) + " (see faultline run --help)", kUsage);
  } catch (const std::exception& e) {
    return complain(e.what(), 1);
  }
}
