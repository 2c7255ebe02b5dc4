// SPDX-License-Identifier: BSD-3-Clause
#include "apps/faultline/doctor_boot.h"

#include <fmt/format.h>

#include <array>
#include <optional>
#include <span>
#include <sstream>

#include "apps/faultline/place_report.h"

namespace faultline {
namespace {

struct Word {
  const char* start;
  const char* needs;
};
constexpr std::array kWords = {
    Word{"isolcpus=managed_irq,domain,", "CONFIG_CPU_ISOLATION"},
    Word{"nohz_full=", "CONFIG_NO_HZ_FULL"},
    Word{"rcu_nocbs=", "CONFIG_RCU_NOCB_CPU"},
};

std::string add(const Host& host, std::span<const Word> wanted, const std::vector<unsigned>& cpus) {
  const auto options = host.kernel_options ? host.kernel_options() : std::nullopt;
  std::string words;
  std::string lacking;
  for (const Word& word : wanted) {
    // One that does not tell is taken to have it.
    if (!options ||
        ("\n" + *options).find(fmt::format("\n{}=y", word.needs)) != std::string::npos) {
      words += fmt::format("{} {}{}", words.empty() ? "add" : "", word.start, cpu_list(cpus));
    } else {
      lacking += (lacking.empty() ? "" : ", ") + std::string(word.needs);
    }
  }
  if (words.empty()) return "this kernel was built without it: boot one that has " + lacking;
  std::string out = on_command_line(host, words + " to");
  if (lacking.empty()) return out;
  return out + "; for the rest boot a kernel that has " + lacking +
         ", which this one was built without";
}

}  // namespace

std::string on_command_line(const Host& host, const std::string& what) {
  constexpr const char* kFile = "/etc/default/grub";
  constexpr const char* kKey = "GRUB_CMDLINE_LINUX";
  std::istringstream lines(host.read(kFile).value_or(""));
  std::size_t number = 0, found = 0;
  for (std::string line; std::getline(lines, line);) {
    ++number;
    if (line.compare(0, 19, std::string(kKey) + "=") == 0) found = number;
  }
  if (found == 0) return what + " the kernel's command line (boot loader), then reboot";
  return fmt::format("{}:{}: {} {}, then update-grub and reboot", kFile, found, what, kKey);
}

std::string isolate(const Host& host, const std::vector<unsigned>& cpus) {
  return add(host, kWords, cpus);
}

std::string make_tickless(const Host& host, const std::vector<unsigned>& cpus) {
  return add(host, std::span(kWords).subspan(1), cpus);
}

std::string take_callbacks(const Host& host, const std::vector<unsigned>& cpus) {
  return add(host, std::span(kWords).subspan(2), cpus);
}

}  // namespace faultline
