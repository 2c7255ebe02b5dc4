// SPDX-License-Identifier: BSD-3-Clause
// What the machine or the operator gets wrong: one line each that says what, where and what to do.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "engine/hugepages.h"
#include "tests/apps/faultline/program.h"

namespace faultline {
namespace {

using ::testing::HasSubstr;
namespace fs = std::filesystem;
using Arguments = std::vector<std::string>;

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool kSanitized = true;
#elif defined(__has_feature)
constexpr bool kSanitized = __has_feature(address_sanitizer) || __has_feature(thread_sanitizer);
#else
constexpr bool kSanitized = false;
#endif

Finished run(const Arguments& prefix, const Arguments& arguments) {
  Arguments all = {"run", "--seconds", "1"};
  all.insert(all.end(), arguments.begin(), arguments.end());
  return run_program(all, 120, {}, prefix);
}

/// The last line is ours; before it there is at most what a run prints on its way.
void expect_one_line(const Finished& f, int status, const std::string& text) {
  EXPECT_EQ(f.status, status) << f.out;
  const std::size_t at = f.out.find("faultline: ");
  ASSERT_NE(at, std::string::npos) << f.out;
  EXPECT_EQ(f.out.find('\n', at), f.out.size() - 1) << "one line: " << f.out;
  EXPECT_THAT(f.out.substr(at), HasSubstr(text));
  EXPECT_EQ(f.out.find("EAL:"), std::string::npos) << f.out;
}

class Traces : public testing::Test {
 protected:
  Traces() : folder_(fs::path(testing::TempDir()) / "bad-traces") {
    fs::remove_all(folder_);
    fs::create_directories(folder_);
    const char* root = std::getenv("FAULTLINE_SOURCE_ROOT");
    const fs::path from = fs::path(root != nullptr ? root : ".") / "tests/data/traces";
    for (const char* end : {".cmdq.zst", ".db.zst", ".json"}) {
      fs::copy_file(from / (std::string("vnet-strict-4") + end), file(end));
    }
  }
  ~Traces() override { fs::remove_all(folder_); }

  fs::path file(const std::string& end) const { return folder_ / ("t" + end); }
  Finished play() const { return run({}, {"--trace", (folder_ / "t").string()}); }

  fs::path folder_;
};

TEST_F(Traces, ThatAreTruncatedAreRefused) {
  fs::resize_file(file(".cmdq.zst"), fs::file_size(file(".cmdq.zst")) / 2);
  expect_one_line(play(), 2, "t.cmdq.zst is truncated or damaged");
}

TEST_F(Traces, ThatAreTruncatedBetweenRecordsAreRefused) {
  fs::remove(file(".cmdq.zst"));
  std::ofstream(file(".cmdq")) << std::string(25, '\x46');
  expect_one_line(play(), 2, "t.cmdq is truncated");
}

TEST_F(Traces, OfAnotherKindAreRefused) {
  fs::remove(file(".cmdq.zst"));
  std::ofstream(file(".cmdq")) << std::string(48, 'a');
  expect_one_line(play(), 2, "t.cmdq is not a command trace");
}

TEST_F(Traces, WithoutOneOfTheirFilesAreRefused) {
  fs::remove(file(".db.zst"));
  expect_one_line(play(), 2, "NAME.cmdq, NAME.db and NAME.json");
}

TEST_F(Traces, ThatCannotBeReadAreRefused) {
  fs::remove(file(".cmdq.zst"));
  fs::create_directory(file(".cmdq"));  // root may read any file, but nobody a folder
  expect_one_line(play(), 2, "t.cmdq: Is a directory");
}

TEST(Topologies, ThatAreMissingForeignOrOfAnotherMachineAreRefused) {
  const std::string foreign = testing::TempDir() + "/foreign.xml";
  std::ofstream(foreign) << "<html>";
  expect_one_line(run({"env", "HWLOC_XMLFILE=/there/is/none.xml"}, {}), 2,
                  "HWLOC_XMLFILE: topology /there/is/none.xml: cannot be read");
  expect_one_line(run({"env", "HWLOC_XMLFILE=" + foreign}, {}), 2, "not an hwloc XML");
  std::remove(foreign.c_str());
}

TEST(Results, ThatCannotBeWrittenAreNoticed) {
  expect_one_line(run({}, {"--json", "/dev/full"}), 1,
                  "cannot write /dev/full: No space left on device");
  expect_one_line(run({}, {"--json", testing::TempDir()}), 2, "--json: cannot write");
}

TEST(Results, OfAStdoutThatIsFullAreNoticed) {
  expect_one_line(run({"sh", "-c", "exec \"$@\" > /dev/full", "sh"}, {}), 1,
                  "cannot write to stdout: No space left on device");
}

TEST(Hugepages, ThatAreNotThereAreRefusedWhereTheyWereAskedFor) {
  // Whether this machine has some is not ours to say.
  if (engine::check_hugepages(0)) GTEST_SKIP() << "this machine has hugepages";
  expect_one_line(run({}, {"--hugepages", "on"}), 1, "reserve some: sysctl vm.nr_hugepages");
  expect_one_line(run({}, {"--hugepages", "on", "--chaos", "1"}), 1, "--hugepages on");
}

TEST(Hugepages, AreNotNeeded) {
  EXPECT_EQ(run({}, {"--hugepages", "off"}).status, 0);
}

class Limits : public testing::Test {
 protected:
  Limits() {
    if (::access("/usr/bin/prlimit", X_OK) != 0) skip_ = "no prlimit (package util-linux)";
  }
  void SetUp() override {
    if (!skip_.empty()) GTEST_SKIP() << skip_;
  }
  std::string skip_;
};

TEST_F(Limits, OfLockedMemoryAreToldWithWhatIsNeeded) {
  if (kSanitized) GTEST_SKIP() << "the sanitizers make mlock() a call that does nothing";
  Arguments prefix = {"prlimit", "--memlock=65536"};
  // Root may lock what it likes, so it goes without that right.
  if (::geteuid() == 0) prefix.insert(prefix.end(), {"setpriv", "--bounding-set", "-ipc_lock"});
  const Finished f = run(prefix, {"--lock-memory"});
  expect_one_line(f, 1, "the limit is 64 KiB: raise it (ulimit -l");
}

TEST_F(Limits, OfLockedMemoryDoNotMatterWhereNoneIsAskedFor) {
  EXPECT_EQ(run({"prlimit", "--memlock=65536"}, {}).status, 0);
}

TEST_F(Limits, OfOpenFilesAreToldWithWhatToDo) {
  if (kSanitized) GTEST_SKIP() << "the sanitizers open pipes of their own, and fail without";
  // Each limit stops it somewhere else.
  for (unsigned files = 18; files <= 50; ++files) {
    const std::string limit = "--nofile=" + std::to_string(files);
    expect_one_line(run({"prlimit", limit}, {"--kernel", "soft-process"}), 1, "ulimit -n");
  }
}

TEST_F(Limits, OfFileSizesAreToldWithWhatToDo) {
  expect_one_line(run({"prlimit", "--fsize=4096"}, {}), 1, "ulimit -f");
}

TEST_F(Limits, OfMemoryAreToldWithWhatToDo) {
  if (kSanitized) GTEST_SKIP() << "a sanitizer needs all of the address space";
  expect_one_line(run({"prlimit", "--as=200000000"}, {}), 1, "more memory (ulimit -v)");
}

}  // namespace
}  // namespace faultline
