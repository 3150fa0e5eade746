// SPDX-License-Identifier: GPL-3.0-or-later
#include "monitor/trusted_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <string>

namespace mandos::monitor {
namespace {

using testing::AllOf;
using testing::HasSubstr;

class TrustedFileTest : public testing::Test {
 protected:
  TrustedFileTest() {
    std::string name =
        (std::filesystem::temp_directory_path() / "trusted_file_test.XXXXXX").string();
    folder_ = mkdtemp(name.data());
    path_ = folder_ + "/file";
    std::ofstream(path_) << "content";
    chmod(path_.c_str(), 0600);
  }
  ~TrustedFileTest() override { std::filesystem::remove_all(folder_); }
  static std::string why(const std::string& path, const FileRules& rules) {
    const auto content = read_file(path, rules);
    return !content ? content.error() : *content ? std::string(**content) : "absent";
  }

  std::string folder_;
  std::string path_;
};

TEST_F(TrustedFileTest, ReadsWhatOnlyItsOwnerWrites) {
  EXPECT_EQ(why(path_, {.is_private = true}), "content");
  EXPECT_EQ(why(folder_ + "/other", {}), "absent");
  chmod(path_.c_str(), 0644);
  EXPECT_EQ(why(path_, {}), "content");
  EXPECT_THAT(why(path_, {.is_private = true}),
              AllOf(HasSubstr(path_), HasSubstr("0644"), HasSubstr("read")));
  for (const mode_t mode : {0620U, 0602U, 0666U}) {
    chmod(path_.c_str(), mode);
    EXPECT_THAT(why(path_, {}), HasSubstr("write"));
  }
}

TEST_F(TrustedFileTest, LetsOnlyTheGroupOfRootRead) {
  chmod(path_.c_str(), 0640);
  struct stat status {};
  ASSERT_EQ(stat(path_.c_str(), &status), 0);
  EXPECT_EQ(why(path_, {.is_private = true}) == "content", status.st_gid == 0);
  if (geteuid() == 0) {
    ASSERT_EQ(chown(path_.c_str(), 0, 12345), 0);
    EXPECT_THAT(why(path_, {.is_private = true}), HasSubstr("0640"));
    ASSERT_EQ(chown(path_.c_str(), 12345, 0), 0);
    EXPECT_THAT(why(path_, {}), HasSubstr("found owner 12345, expected root; run: chown root "));
    ASSERT_EQ(chown(path_.c_str(), 1, 0), 0);
    EXPECT_THAT(why(path_, {}), HasSubstr("found owner daemon, expected root; run: chown root "));
  }
}

TEST_F(TrustedFileTest, WantsTheRightKind) {
  EXPECT_THAT(why(folder_, {}), HasSubstr("regular file"));
  EXPECT_THAT(why(path_, {.is_folder = true}), HasSubstr("folder"));
  EXPECT_EQ(why(folder_, {.is_folder = true}), "");
  ASSERT_EQ(mkfifo((folder_ + "/pipe").c_str(), 0600), 0);
  EXPECT_THAT(why(folder_ + "/pipe", {}), HasSubstr("regular file"));
  EXPECT_THAT(why("/dev/null", {}), HasSubstr("regular file"));
  EXPECT_THAT(why(path_ + "/x", {}), HasSubstr("Not a directory"));
}

TEST_F(TrustedFileTest, BoundsTheLength) {
  EXPECT_EQ(why(path_, {.limit = 7}), "content");
  EXPECT_THAT(why(path_, {.limit = 6}), HasSubstr("found 7 bytes, expected at most 6"));
  // Sparse, and of a length that 32 bits would count as 0.
  std::filesystem::resize_file(path_, std::uintmax_t{1} << 40);
  EXPECT_THAT(why(path_, {}), HasSubstr("found 1099511627776 bytes, expected at most"));
}

TEST_F(TrustedFileTest, ALinkThatLeadsNowhereIsNotAnAbsentFile) {
  const auto link = folder_ + "/link";
  std::filesystem::create_symlink(folder_ + "/elsewhere/file", link);
  for (const bool is_folder : {false, true}) {
    EXPECT_THAT(why(link, {.is_folder = is_folder}),
                AllOf(HasSubstr(link), HasSubstr("leads nowhere")));
  }
  // One that leads there through another, and one in a folder that is such a link.
  std::filesystem::create_symlink(link, folder_ + "/second");
  EXPECT_THAT(why(folder_ + "/second", {}), HasSubstr("leads nowhere"));
  EXPECT_EQ(why(link + "/file", {}), "absent") << "of a folder that its own check refuses";
  std::filesystem::create_directory(folder_ + "/elsewhere");
  std::filesystem::rename(path_, folder_ + "/elsewhere/file");
  EXPECT_EQ(why(folder_ + "/second", {}), "content");
}

TEST_F(TrustedFileTest, WhatMustExistIsNotAbsent) {
  EXPECT_THAT(why(folder_ + "/other", {.must_exist = true}),
              AllOf(HasSubstr(folder_ + "/other"), HasSubstr("No such file")));
  EXPECT_EQ(why(path_, {.must_exist = true}), "content");
}

TEST_F(TrustedFileTest, BoundsTheSize) {
  EXPECT_EQ(why(path_, {.limit = 7}), "content");
  EXPECT_THAT(why(path_, {.limit = 6}), AllOf(HasSubstr("7 bytes"), HasSubstr("at most 6")));
}

}  // namespace
}  // namespace mandos::monitor
