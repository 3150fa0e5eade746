// SPDX-License-Identifier: GPL-3.0-or-later
#include "networker/crash_note.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>

#include "common/unique_fd.h"

namespace mandos::networker {
namespace {

const Source kOne{.address = {1, 2, 3}, .scope = 7};

class CrashNoteTest : public testing::Test {
 protected:
  /// Starts a process that does `what` with a note of its own and then kills itself.
  template <typename What>
  void die(What what) {
    const pid_t pid = fork();
    if (pid == 0) {
      CrashNote note(file_.get());
      what(note);
      _exit(1);
    }
    int status = 0;
    ASSERT_EQ(waitpid(pid, &status, 0), pid);
    ASSERT_TRUE(WIFSIGNALED(status)) << status;
  }

  const UniqueFd file_{memfd_create("note", MFD_CLOEXEC)};
};

TEST_F(CrashNoteTest, NewFileHoldsNone) {
  CrashNote note(file_.get());
  EXPECT_TRUE(note.kept());
  EXPECT_EQ(note.take(), std::nullopt);
}

TEST_F(CrashNoteTest, ToldOnceByTheNextProcess) {
  die([](CrashNote& note) {
    const CrashNote::Handling handling(note, kOne);
    raise(SIGKILL);
  });
  EXPECT_EQ(CrashNote(file_.get()).take(), kOne);
  EXPECT_EQ(CrashNote(file_.get()).take(), std::nullopt);
}

TEST_F(CrashNoteTest, WhoWasHandledBeforeIsNotTold) {
  die([](CrashNote& note) {
    { const CrashNote::Handling handling(note, kOne); }
    raise(SIGKILL);
  });
  EXPECT_EQ(CrashNote(file_.get()).take(), std::nullopt);
}

TEST_F(CrashNoteTest, KeptUntilSomebodyAsks) {
  die([](CrashNote& note) {
    const CrashNote::Handling handling(note, kOne);
    raise(SIGKILL);
  });
  die([](CrashNote&) { raise(SIGKILL); });  // it never got so far
  EXPECT_EQ(CrashNote(file_.get()).take(), kOne);
}

TEST_F(CrashNoteTest, WithoutMemoryNothingIsNoted) {
  const UniqueFd null(open("/dev/null", O_RDWR | O_CLOEXEC));
  const UniqueFd sealed(memfd_create("sealed", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  ASSERT_EQ(fcntl(sealed.get(), F_ADD_SEALS, F_SEAL_GROW), 0);
  for (const int fd : {-1, null.get(), sealed.get()}) {
    CrashNote note(fd);
    EXPECT_FALSE(note.kept());
    { const CrashNote::Handling handling(note, kOne); }
    EXPECT_EQ(note.take(), std::nullopt);
  }
}

}  // namespace
}  // namespace mandos::networker
