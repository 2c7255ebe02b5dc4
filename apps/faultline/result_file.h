// SPDX-License-Identifier: BSD-3-Clause
#pragma once

#include <cstdio>
#include <string>

#include "kernel/base/result.h"

namespace faultline {

/// A file that appears whole or not at all: text goes to a neighbour that is renamed at the end.
/// What is no regular file (a pipe, /dev/stdout) is written as it is, as is standard output: "-".
class ResultFile {
 public:
  /// Before the work whose result it will hold: a folder that cannot be written is told now.
  ///
  /// errors   what opening says; `path` keeps what it had
  static Result<ResultFile> open(const std::string& path);

  ResultFile(ResultFile&& other) noexcept;
  ResultFile& operator=(ResultFile&&) = delete;
  /// Without a commit() nothing is left behind.
  ~ResultFile();

  /// errors   what writing, flushing to the disk and renaming say; `path` keeps what it had
  Result<void> commit(const std::string& text);

 private:
  ResultFile() = default;
  void discard() noexcept;

  std::string path_;
  std::string neighbour_;  ///< empty: `path_` itself is written
  std::FILE* file_ = nullptr;
};

}  // namespace faultline
