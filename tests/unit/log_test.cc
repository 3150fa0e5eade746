// SPDX-License-Identifier: GPL-3.0-or-later
#include "common/log.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdlib>
#include <string>
#include <utility>

#include "common/channel.h"
#include "common/descriptors.h"

namespace mandos {
namespace {

/// Standard error leads to `reader_`, which the environment calls the journal.
class JournalTest : public testing::Test {
 protected:
  JournalTest() {
    auto pair = make_door();
    reader_ = std::move(pair->first);
    struct stat status {};
    EXPECT_EQ(fstat(pair->second.get(), &status), 0);
    setenv("JOURNAL_STREAM", concat(status.st_dev, ":", status.st_ino).c_str(), 1);
    dup2(pair->second.get(), STDERR_FILENO);
  }
  ~JournalTest() override {
    dup2(stderr_.get(), STDERR_FILENO);
    unsetenv("JOURNAL_STREAM");
  }

  std::string received() {
    std::string text;
    std::array<char, 2 * kMaxLogLine> line{};
    for (ssize_t size = 0;
         (size = recv(reader_.get(), line.data(), line.size(), MSG_DONTWAIT)) > 0;) {
      text.append(line.data(), static_cast<std::size_t>(size));
    }
    return text;
  }

  UniqueFd stderr_{fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3)};
  UniqueFd reader_;
};

TEST_F(JournalTest, ALineGoesToTheStreamWithItsLevel) {
  Log log = Log::to_system("mandos", LogLevel::kInfo, true);
  log.error("wrong");
  log.info("fine");
  log.debug("not asked for");
  EXPECT_EQ(received(), "<3>wrong\n<6>fine\n");
}

TEST_F(JournalTest, AProcessThatTheUnitDoesNotNameNamesItself) {
  Log::to_system("mandos-supervisor", LogLevel::kInfo, true).info("fine");
  EXPECT_EQ(received(), "<6>mandos-supervisor: fine\n");
}

TEST_F(JournalTest, NothingGoesThereOnceStandardErrorIsNotTheLogs) {
  Log log = Log::to_system("mandos", LogLevel::kInfo, true);
  log.set_stderr(false);
  log.error("wrong");
  EXPECT_EQ(received(), "");
}

TEST_F(JournalTest, OneThatDoesNotReadStopsNobody) {
  Log log = Log::to_system("mandos", LogLevel::kInfo, true);
  const std::string line(kMaxLogLine, 'x');
  for (int i = 0; i < 10'000; ++i) log.info(line);
  EXPECT_NE(received(), "");
  reader_.reset();
  log.info("nobody there");
}

/// Standard error is a pipe that nobody reads.
class PipeTest : public testing::Test {
 protected:
  PipeTest() {
    std::array<int, 2> ends{};
    EXPECT_EQ(pipe2(ends.data(), O_CLOEXEC), 0);
    reader_.reset(ends[0]);
    writer_.reset(ends[1]);
    fcntl(writer_.get(), F_SETPIPE_SZ, 4096);
    dup2(writer_.get(), STDERR_FILENO);
  }
  ~PipeTest() override { dup2(stderr_.get(), STDERR_FILENO); }
  std::string received() {
    std::array<char, 65536> text{};
    const ssize_t size = read(reader_.get(), text.data(), text.size());
    return {text.data(), static_cast<std::size_t>(std::max<ssize_t>(size, 0))};
  }

  UniqueFd stderr_{fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3)};
  UniqueFd reader_, writer_;
};

TEST_F(PipeTest, AReaderThatHangsStopsNobodyAndLinesAreCounted) {
  never_wait_for(STDERR_FILENO);
  EXPECT_EQ(fcntl(writer_.get(), F_GETFL) & O_NONBLOCK, 0) << "others who have it may wait";
  Log log = Log::to_system("mandos", LogLevel::kInfo, true);
  alarm(60);  // ends the test if it waits
  for (int i = 0; i < 100; ++i) log.info(std::string(kMaxLogLine, 'x'));
  alarm(0);
  const std::string before = received();
  EXPECT_LE(before.size(), 4096);
  const auto lines = std::ranges::count(before, '\n');
  log.info("after");
  const std::string after = received();
  EXPECT_NE(after.find(concat("]: ", 100 - lines, " log lines were lost\n")), after.npos) << after;
  EXPECT_TRUE(after.ends_with("]: after\n")) << after;
}

TEST_F(PipeTest, AFileIsWrittenOn) {
  const UniqueFd file(memfd_create("log", MFD_CLOEXEC));
  ASSERT_EQ(write(file.get(), "before", 6), 6);
  dup2(file.get(), STDERR_FILENO);
  never_wait_for(STDERR_FILENO);
  ASSERT_EQ(write(STDERR_FILENO, "after", 5), 5);
  std::array<char, 16> text{};
  EXPECT_EQ(pread(file.get(), text.data(), text.size(), 0), 11);
}

TEST_F(PipeTest, ASocketIsNotWaitedFor) {
  std::array<int, 2> ends{};
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()), 0);
  const UniqueFd one(ends[0]);
  const UniqueFd other(ends[1]);
  dup2(one.get(), STDERR_FILENO);
  never_wait_for(STDERR_FILENO);
  Log log = Log::to_system("mandos", LogLevel::kInfo, true);
  alarm(60);
  for (int i = 0; i < 10'000; ++i) log.info(std::string(kMaxLogLine, 'x'));
  alarm(0);
}

/// A child's log: a line is a datagram.
class SocketLogTest : public testing::Test {
 protected:
  SocketLogTest() {
    auto pair = make_door();
    reader_ = std::move(pair->first);
    writer_ = std::move(pair->second);
    // So that a log that waits is found out, and not only slow.
    fcntl(writer_.get(), F_SETFL, 0);
    const timeval patience{5, 0};
    setsockopt(writer_.get(), SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
  }
  std::string next() {
    std::array<char, 2 * kMaxLogLine> line{};
    const ssize_t size = recv(reader_.get(), line.data(), line.size(), MSG_DONTWAIT);
    return size < 0 ? "" : std::string(line.data(), static_cast<std::size_t>(size));
  }

  UniqueFd reader_;
  UniqueFd writer_;
};

TEST_F(SocketLogTest, ALineIsCutAndLabeledWithItsLevel) {
  Log log = Log::to_socket(writer_.get(), LogLevel::kInfo);
  log.info(std::string(5000, 'x'));
  EXPECT_EQ(next(), "6" + std::string(kMaxLogLine, 'x'));
  log.debug("not asked for");
  log.set_level(LogLevel::kDebug);
  log.debug("asked for");
  EXPECT_EQ(next(), "7asked for");
}

TEST_F(SocketLogTest, LinesThatWereLostAreCountedAndNobodyWaits) {
  Log log = Log::to_socket(writer_.get(), LogLevel::kInfo);
  constexpr int kLines = 10'000;
  const Instant start = BootClock::now();
  for (int i = 0; i < kLines; ++i) log.info("line");
  EXPECT_LT(BootClock::now() - start, std::chrono::seconds(5)) << "it waited for the reader";
  int taken = 0;
  while (next() == "6line") ++taken;
  EXPECT_LT(taken, kLines);
  log.info("after");
  EXPECT_EQ(next(), concat("4", kLines - taken, " log lines were lost"));
  EXPECT_EQ(next(), "6after");
  log.info("again");
  EXPECT_EQ(next(), "6again");
}

}  // namespace
}  // namespace mandos
