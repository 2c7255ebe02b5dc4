// SPDX-License-Identifier: BSD-3-Clause
#include "apps/faultline/result_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <csignal>
#include <filesystem>
#include <fstream>
#include <iterator>

namespace faultline {
namespace {

using ::testing::HasSubstr;
namespace fs = std::filesystem;

class ResultFileTest : public testing::Test {
 protected:
  ResultFileTest() : folder_(fs::path(testing::TempDir()) / "result-file") {
    fs::remove_all(folder_);
    fs::create_directories(folder_);
  }
  ~ResultFileTest() override { fs::remove_all(folder_); }

  std::string path() const { return (folder_ / "out.json").string(); }
  std::string content() const {
    std::ifstream in(path());
    return {std::istreambuf_iterator<char>(in), {}};
  }
  std::ptrdiff_t files() const {
    return std::distance(fs::directory_iterator(folder_), fs::directory_iterator());
  }

  fs::path folder_;
};

TEST_F(ResultFileTest, AppearsAtTheCommitAndWhole) {
  {
    auto file = ResultFile::open(path());
    ASSERT_TRUE(file);
    EXPECT_FALSE(fs::exists(path()));
    EXPECT_TRUE(file->commit("{}\n"));
  }
  EXPECT_EQ(content(), "{}\n");
  EXPECT_EQ(files(), 1);
}

TEST_F(ResultFileTest, LeavesWhatWasThereWithoutACommit) {
  std::ofstream(path()) << "old";
  { ASSERT_TRUE(ResultFile::open(path())); }
  EXPECT_EQ(content(), "old");
  EXPECT_EQ(files(), 1);
}

TEST_F(ResultFileTest, LeavesNothingHalfWrittenWhereTheDiskIsFull) {
  std::ofstream(path()) << "old";
  auto file = ResultFile::open(path());
  ASSERT_TRUE(file);
  // As a disk that has room for its first half: the write stops and then fails.
  const auto before = std::signal(SIGXFSZ, SIG_IGN);
  rlimit limit{};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &limit), 0);
  const rlimit small{4096, limit.rlim_max};
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &small), 0);
  const auto r = file->commit(std::string(8192, 'x'));
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &limit), 0);
  std::signal(SIGXFSZ, before);
  ASSERT_FALSE(r);
  EXPECT_THAT(r.error().message(), HasSubstr("cannot write " + path()));
  EXPECT_EQ(content(), "old");
  EXPECT_EQ(files(), 1);
}

TEST_F(ResultFileTest, NoticesAFullDevice) {
  auto file = ResultFile::open("/dev/full");
  ASSERT_TRUE(file);
  const auto r = file->commit("{}\n");
  ASSERT_FALSE(r);
  EXPECT_THAT(r.error().message(), HasSubstr("No space left on device"));
  EXPECT_TRUE(fs::exists("/dev/full"));
}

TEST_F(ResultFileTest, GoesThroughALink) {
  std::ofstream(folder_ / "there") << "old";
  fs::create_symlink("there", path());
  auto file = ResultFile::open(path());
  ASSERT_TRUE(file);
  ASSERT_TRUE(file->commit("new"));
  EXPECT_TRUE(fs::is_symlink(path()));
  EXPECT_EQ(content(), "new");
}

TEST_F(ResultFileTest, RefusesFoldersAndPlacesThatAreNotThere) {
  for (const std::string& where : {folder_.string(), path() + "/below", std::string()}) {
    const auto file = ResultFile::open(where);
    ASSERT_FALSE(file) << where;
    EXPECT_EQ(file.error().message().find('\n'), std::string::npos);
  }
}

}  // namespace
}  // namespace faultline
