// SPDX-License-Identifier: BSD-3-Clause
#include "apps/faultlined/log.h"

#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <string>

namespace faultline::daemon {

namespace {

/// Whether the journal reads what goes to stderr, and so takes a level from its beginning: it says
/// which file it is, since $JOURNAL_STREAM also reaches those whose stderr leads elsewhere.
bool journal_reads() {
  const char* const named = std::getenv("JOURNAL_STREAM");
  struct stat file {};
  return named != nullptr && ::fstat(STDERR_FILENO, &file) == 0 &&
         std::to_string(file.st_dev) + ':' + std::to_string(file.st_ino) == named;
}

}  // namespace

void log(Level level, std::string_view line) {
  static const bool journal = journal_reads();
  std::string text =
      journal ? '<' + std::to_string(static_cast<unsigned>(level)) + '>' : "faultlined: ";
  if (!journal && level == Level::kError) text += "error: ";
  if (!journal && level == Level::kWarning) text += "warning: ";
  text.append(line).append("\n");
  // One call, so that lines of several threads do not mix.
  static_cast<void>(!::write(STDERR_FILENO, text.data(), text.size()));
}

}  // namespace faultline::daemon
