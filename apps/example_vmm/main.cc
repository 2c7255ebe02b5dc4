// SPDX-License-Identifier: BSD-3-Clause
// faultline-vmm: an example of a VMM whose guests a Faultline service serves. Its devices are those
// of a soft kernel, its guests are drivers that encode, ring and read as real ones do, and whose
// ledger it audits. What a VMM needs of Faultline is in attach() and Connection; the rest is
// what a VMM has anyway.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <cstdio>

#include "apps/example_vmm/vmm.h"
#include "apps/faultline/options.h"

int main(int argc, char** argv) {
  using namespace faultline;
  vmm::Options options;
  options.socket = vmm::default_socket();
  CLI::App app("An example VMM: attaches guests to a Faultline service and audits what they see.",
               "faultline-vmm");
  app.add_option("--socket", options.socket, "The service's socket")->capture_default_str();
  app.add_option("--guests", options.guests, "How many guests")
      ->check(CLI::Range(1, 64))
      ->capture_default_str();
  app.add_option("--devices", options.devices, "Devices of each guest")
      ->check(CLI::Range(1, 64))
      ->capture_default_str();
  app.add_option("--seconds", options.seconds, "How long they run")
      ->check(CLI::Range(1, 1'000'000))
      ->capture_default_str();
  app.add_option("--trace", options.trace,
                 "What the guests' drivers play: NAME of NAME.cmdq, .db and .json "
                 "[tests/data/traces/vnet-strict-4 in a folder above the program]");
  app.add_option("--json", options.json,
                 "Write what was found to this file, - for standard output");
  CLI11_PARSE(app, argc, argv);
  const Result<bool> clean = vmm::run(options);
  if (!clean) {
    const Error& error = clean.error();
    fmt::print(stderr, "faultline-vmm: {}\n",
               error.code == kUsageError ? error.what : error.message());
    return 2;
  }
  return *clean ? 0 : 1;
}
