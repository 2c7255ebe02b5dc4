// SPDX-License-Identifier: BSD-3-Clause
#include "apps/faultline/result_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <utility>

namespace faultline {

Result<ResultFile> ResultFile::open(const std::string& path) {
  const auto refused = [&](int code) { return fail(code, "cannot write " + path); };
  if (path.empty()) return fail(0, "the name of the file is empty");
  ResultFile file;
  file.path_ = path;
  if (path == "-") {
    // Not its path: that of a file would be replaced, with what was printed before.
    const int out = ::fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 0);
    file.file_ = out < 0 ? nullptr : ::fdopen(out, "w");
    if (file.file_ == nullptr) return refused(errno);
    return file;
  }
  struct stat there {};
  const bool exists = ::stat(path.c_str(), &there) == 0;
  if (exists && S_ISDIR(there.st_mode)) return refused(EISDIR);
  if (exists && !S_ISREG(there.st_mode)) {
    file.file_ = std::fopen(path.c_str(), "we");
    if (file.file_ == nullptr) return refused(errno);
    return file;
  }
  // A rename would replace a file that may not be written.
  if (exists && ::access(path.c_str(), W_OK) != 0) return refused(errno);
  if (exists) {
    // Through a symbolic link, so that the link stays one.
    std::error_code error;
    file.path_ = std::filesystem::canonical(path, error).string();
    if (error) return refused(error.value());
  }
  std::string neighbour = file.path_ + ".tmp-" + std::to_string(::getpid());
  file.file_ = std::fopen(neighbour.c_str(), "wxe");
  if (file.file_ == nullptr) return refused(errno);
  file.neighbour_ = std::move(neighbour);
  return file;
}

ResultFile::ResultFile(ResultFile&& other) noexcept
    : path_(std::move(other.path_)),
      neighbour_(std::exchange(other.neighbour_, {})),
      file_(std::exchange(other.file_, nullptr)) {}

ResultFile::~ResultFile() {
  discard();
}

void ResultFile::discard() noexcept {
  if (file_ != nullptr) std::fclose(std::exchange(file_, nullptr));
  if (!neighbour_.empty()) ::unlink(neighbour_.c_str());
  neighbour_.clear();
}

Result<void> ResultFile::commit(const std::string& text) {
  const auto refused = [this] {
    const int code = errno;
    discard();
    return fail(code, "cannot write " + path_);
  };
  if (path_ == "-") std::fflush(stdout);  // comes first
  if (std::fwrite(text.data(), 1, text.size(), file_) != text.size()) return refused();
  // A full disk may show only when the last buffer goes out.
  if (std::fflush(file_) != 0) return refused();
  if (!neighbour_.empty() && ::fsync(::fileno(file_)) != 0) return refused();
  if (std::fclose(std::exchange(file_, nullptr)) != 0) return refused();
  if (!neighbour_.empty() && ::rename(neighbour_.c_str(), path_.c_str()) != 0) return refused();
  neighbour_.clear();
  return {};
}

}  // namespace faultline
