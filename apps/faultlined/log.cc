// SPDX-License-Identifier: BSD-3-Clause
#include "apps/faultlined/log.h"

#include <unistd.h>

#include <string>

namespace faultline::daemon {

void log(Level level, std::string_view line) {
  static const bool terminal = ::isatty(STDERR_FILENO) == 1;
  std::string text =
      terminal ? "faultlined: " : '<' + std::to_string(static_cast<unsigned>(level)) + '>';
  if (terminal && level == Level::kError) text += "error: ";
  if (terminal && level == Level::kWarning) text += "warning: ";
  text.append(line).append("\n");
  // One call, so that lines of several threads do not mix.
  static_cast<void>(!::write(STDERR_FILENO, text.data(), text.size()));
}

}  // namespace faultline::daemon
