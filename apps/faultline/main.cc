// SPDX-License-Identifier: BSD-3-Clause
#include <CLI/CLI.hpp>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <exception>
#include <new>
#include <regex>
#include <string>
#include <system_error>

#include "apps/faultline/doctor.h"
#include "apps/faultline/drain.h"
#include "apps/faultline/engine_child.h"
#include "apps/faultline/options.h"
#include "apps/faultline/place_command.h"
#include "apps/faultline/replay_command.h"
#include "apps/faultline/run.h"
#include "apps/faultline/status.h"
#include "apps/faultline/status_socket.h"
#include "apps/faultline/top.h"
#include "apps/live/live_host.h"
#include "engine/merge/plan_audit.h"

namespace {

constexpr int kUsage = 2;

int complain(const std::string& what, int status) {
  std::fprintf(stderr, "faultline: %s\n", what.c_str());
  return status;
}

/// What the operator can do about an errno, where that is the same wherever it comes from.
std::string advice(int code) {
  switch (code) {
    case EMFILE:
      return "; fewer guests or devices, or more files: ulimit -n";
    case ENFILE:
      return "; this machine has too many open files: sysctl fs.file-max";
    case ENOMEM:
      return "; fewer guests or devices, or more memory (ulimit -v)";
    case EAGAIN:
      return "; it gets no more threads or processes: fewer guests, or ulimit -u";
    case EFBIG:
      return "; files may not grow so large: ulimit -f";
    default:
      return {};
  }
}

int complain(const faultline::Error& error) {
  if (error.code == faultline::kUsageError) return complain(error.what, kUsage);
  return complain(error.message() + advice(error.code), 1);
}

/// Buffered text that a full disk did not take shows no earlier than at the end.
int finish_output() {
  if (std::fflush(stdout) == 0 && std::ferror(stdout) == 0) return 0;
  return complain("cannot write to stdout: " + std::string(std::strerror(errno)), 1);
}

int run_command(const faultline::RunOptions& options) {
  const auto status = faultline::run(options);
  const int done = finish_output();
  if (done != 0) return done;
  return status ? *status : complain(status.error());
}

int finish(const faultline::Result<void>& ok) {
  const int done = finish_output();
  if (done != 0) return done;
  return ok ? 0 : complain(ok.error());
}

int live(const faultline::live::LiveOptions& options) {
  auto host = faultline::live::LiveHost::make(options);
  if (!host) return complain(host.error());
  const auto clean = (*host)->run();
  if (!clean) return complain(clean.error());
  return *clean ? 0 : 1;
}

int replay_audit(const std::string& file) {
  const auto covered = faultline::merge::replay_audit(file);
  if (!covered) return complain(covered.error().message(), kUsage);
  std::puts(*covered ? "covered: this program plans it right"
                     : "NOT covered: the error is still there");
  return *covered ? 0 : 1;
}

/// returns  1 where no backend at all can be used
int doctor(bool json, const std::string& device) {
  static const std::regex form(
      "[0-9a-fA-F]{4,8}:[0-9a-fA-F]{2}:[0-9a-fA-F]{2}\\.[0-7]|/dev/vfio/devices/vfio[0-9]+");
  if (!device.empty() && !std::regex_match(device, form)) {
    return complain("--device: '" + device +
                        "' is neither a PCI address like 0000:01:00.0 nor /dev/vfio/devices/vfioN",
                    kUsage);
  }
  const faultline::Diagnosis found = faultline::diagnose(faultline::this_host(), device);
  std::fputs((json ? doctor_json(found) : doctor_text(found)).c_str(), stdout);
  const int done = finish_output();
  if (done != 0) return done;
  return found.any_usable() ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Carries IOMMU faults and invalidations between a host kernel and its guests.",
               "faultline");
  app.set_version_flag("--version", "faultline 0.1.0");
  app.require_subcommand(1);
  app.set_config("--config", "",
                 "read options from this TOML file: tables [run] and [replay], keys as the options "
                 "without --; the command line wins");
  app.allow_config_extras(CLI::config_extras_mode::error);
  faultline::RunOptions run;
  CLI::App* const run_app = app.add_subcommand(
      "run", "the whole path on this machine: software kernel, devices, guests and engine");
  faultline::declare_run(*run_app, run);
  run_app->fallthrough();  // to --config
  run_app->footer("--config FILE: the same options from the table [run] of a TOML file");
  faultline::ReplayCommand replayed;
  CLI::App* const replay_app = app.add_subcommand(
      "replay",
      "one recorded trace against the engine, without a kernel or devices: counts, times");
  faultline::declare_replay(*replay_app, replayed);
  replay_app->fallthrough();
  replay_app->footer("--config FILE: the same options from the table [replay] of a TOML file");
  faultline::PlaceCommand placed;
  CLI::App* const place_app = app.add_subcommand(
      "place", "which CPU would poll what, on this machine or a recorded one, and why");
  faultline::declare_place(*place_app, placed);
  std::string audit;
  CLI::App* const audit_app = app.add_subcommand(
      "replay-audit", "plan again what a file of run --audit-merge says was asked");
  audit_app->add_option("FILE", audit, "the .audit file that a mismatch left")->required();
  bool doctor_as_json = false;
  CLI::App* const doctor_app = app.add_subcommand(
      "doctor", "what this machine can do for each backend, what is missing, how to get it");
  doctor_app->add_flag("--json", doctor_as_json, "the same as JSON");
  std::string doctor_device;
  doctor_app->add_option("--device", doctor_device,
                         "ask this device's IOMMU, too: PCI address or /dev/vfio/devices/vfioN");
  std::string socket = faultline::default_socket();
  const auto of_service = [&](const char* name, const char* about) {
    CLI::App* const command = app.add_subcommand(name, about);
    command->add_option("--socket", socket, "the service's")->capture_default_str();
    return command;
  };
  bool status_as_json = false;
  CLI::App* const status_app =
      of_service("status", "what a running service does: sessions, shards, guests, devices");
  status_app->add_flag("--json", status_as_json, "its own answer, as JSON");
  CLI::App* const top_app = of_service("top", "the same on a terminal, every second anew");
  CLI::App* const drain_app =
      of_service("drain", "have a running service finish what is in flight, and end");
  unsigned drain_limit = 30;
  drain_app->add_option("--timeout", drain_limit, "seconds to wait for that")
      ->check(CLI::Range(1, 3600))
      ->capture_default_str();
  // What a chaos run starts, kills and starts again; of no use to anybody else.
  int description = -1;
  CLI::App* const child = app.add_subcommand("engine", "")->group("");
  child->add_option("--description", description)->required();

  // What a VMM starts for its guests (./fl guest).
  faultline::live::LiveOptions lives;
  CLI::App* const live_app = app.add_subcommand("live", "")->group("");
  live_app->add_option("--control", lives.control)->required();
  live_app->add_option("--guests", lives.guests)->check(CLI::Range(1, 16));
  live_app->add_option("--devices", lives.devices)->check(CLI::Range(1, 5));
  live_app->add_option("--memory", lives.memory_mib)->check(CLI::Range(64, 4096));
  live_app->add_option("--policy", lives.policy)
      ->check(CLI::IsMember({"forward-each", "batch-until-sync", "merge"}));
  live_app->add_option("--record", lives.record);
  live_app->add_option("--seed", lives.seed);

  // A file that may not grow is an error to report, not the end.
  std::signal(SIGXFSZ, SIG_IGN);
  try {
    app.parse(argc, argv);
    if (child->parsed()) return faultline::engine_child(description);
    if (replay_app->parsed()) return finish(faultline::replay_command(replayed));
    if (place_app->parsed()) return finish(faultline::place_command(placed));
    if (live_app->parsed()) return live(lives);
    if (audit_app->parsed()) return replay_audit(audit);
    if (doctor_app->parsed()) return doctor(doctor_as_json, doctor_device);
    if (status_app->parsed()) return finish(faultline::status_command(socket, status_as_json));
    if (top_app->parsed()) return finish(faultline::top_command(socket));
    if (drain_app->parsed()) return finish(faultline::drain_command(socket, drain_limit));
    return run_command(run);
  } catch (const CLI::ParseError& e) {
    if (e.get_exit_code() == 0) return app.exit(e);  // --help, --version
    std::string help = "faultline";
    for (const CLI::App* command : app.get_subcommands()) help += " " + command->get_name();
    std::string what = e.what();
    if (dynamic_cast<const CLI::ConfigError*>(&e) != nullptr ||
        dynamic_cast<const CLI::FileError*>(&e) != nullptr) {
      what = "--config: " + what;
    }
    return complain(what + " (see " + help + " --help)", kUsage);
  } catch (const std::system_error& e) {
    return complain(e.what() + advice(e.code().value()), 1);
  } catch (const std::bad_alloc&) {
    return complain("out of memory" + advice(ENOMEM), 1);
  } catch (const std::exception& e) {
    return complain(e.what(), 1);
  }
}
