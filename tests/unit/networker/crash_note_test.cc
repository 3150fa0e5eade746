// SPDX-License-Identifier: GPL-3.0-or-later
#include "networker/crash_note.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "common/unique_fd.h"

namespace mandos::networker {
namespace {

const Source kOne{.address = {1, 2, 3}, .scope = 7};
const Instant kNow(std::chrono::hours(1));

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

  void die_of(const Source& source) {
    die([&source](CrashNote& note) {
      const CrashNote::Handling handling(note, source);
      raise(SIGKILL);
    });
  }

  /// What a new process is told at `now`.
  std::vector<Source> told(Instant now = kNow) {
    std::vector<Source> sources;
    for (const auto& deadly : CrashNote(file_.get()).take(now)) {
      EXPECT_LE(deadly.found, now);
      sources.push_back(deadly.source);
    }
    return sources;
  }
  using Sources = std::vector<Source>;

  const UniqueFd file_{memfd_create("note", MFD_CLOEXEC)};
};

TEST_F(CrashNoteTest, NewFileHoldsNone) {
  CrashNote note(file_.get());
  EXPECT_TRUE(note.kept());
  EXPECT_TRUE(note.take(kNow).empty());
}

TEST_F(CrashNoteTest, FoundByTheNextProcessAndKnownToThoseThatFollow) {
  die_of(kOne);
  const auto first = CrashNote(file_.get()).take(kNow);
  ASSERT_EQ(first.size(), 1U);
  EXPECT_EQ(first[0].source, kOne);
  EXPECT_EQ(first[0].found, kNow);
  const auto second = CrashNote(file_.get()).take(kNow + Milliseconds(1));
  ASSERT_EQ(second.size(), 1U);
  EXPECT_EQ(second[0].found, kNow) << "once only is it new";
}

TEST_F(CrashNoteTest, SeveralAreRememberedOldestFirst) {
  Sources sources;
  for (unsigned char number = 0; number < 100; ++number) {
    sources.push_back({.address = {9, number}, .scope = 0});
    die_of(sources.back());
    EXPECT_EQ(told().back(), sources.back());
  }
  EXPECT_EQ(told(), Sources(sources.end() - 64, sources.end()));
  // A clock of somebody else's making.
  for (const auto& deadly : CrashNote(file_.get()).take(kNow - Milliseconds(5))) {
    EXPECT_EQ(deadly.found, kNow - Milliseconds(5));
  }
  for (const auto& deadly : CrashNote(file_.get()).take(kNow)) {
    EXPECT_EQ(deadly.found, kNow - Milliseconds(5)) << "is not new again";
  }
}

TEST_F(CrashNoteTest, WhoWasHandledBeforeIsNotTold) {
  die([](CrashNote& note) {
    { const CrashNote::Handling handling(note, kOne); }
    raise(SIGKILL);
  });
  EXPECT_EQ(told(), Sources());
}

TEST_F(CrashNoteTest, KeptUntilSomebodyAsks) {
  die_of(kOne);
  die([](CrashNote&) { raise(SIGKILL); });  // it never got so far
  EXPECT_EQ(told(), Sources({kOne}));
}

TEST_F(CrashNoteTest, ProofsAreKeptForThoseThatFollow) {
  die([](CrashNote& note) {
    note.proved(kOne, kNow);
    note.proved({.address = {4}, .scope = 0}, kNow);
    note.proved(kOne, kNow + Milliseconds(5));
    raise(SIGKILL);
  });
  const auto proofs = CrashNote(file_.get()).proofs(kNow + Milliseconds(9));
  ASSERT_EQ(proofs.size(), 2U);
  for (const auto& proof : proofs) {
    EXPECT_EQ(proof.last, proof.source == kOne ? kNow + Milliseconds(5) : kNow);
  }
  // A clock of somebody else's making.
  for (const auto& proof : CrashNote(file_.get()).proofs(kNow - Milliseconds(5))) {
    EXPECT_EQ(proof.last, kNow - Milliseconds(5));
  }
  EXPECT_EQ(told(), Sources()) << "nobody died of these";
}

TEST_F(CrashNoteTest, ProofsAreBoundedAndTheOldestGoFirst) {
  CrashNote note(file_.get());
  constexpr unsigned kMany = 16384;
  const auto nth = [](unsigned number) {
    Source source;
    source.address[6] = static_cast<unsigned char>(number >> 8);
    source.address[7] = static_cast<unsigned char>(number);
    return source;
  };
  for (unsigned number = 0; number < kMany; ++number) {
    note.proved(nth(number), kNow + Milliseconds(number));
  }
  EXPECT_GT(note.proofs(kNow + Milliseconds(kMany)).size(), kMany * 99 / 100);
  for (unsigned number = kMany; number < 4 * kMany; ++number) {
    note.proved(nth(number), kNow + Milliseconds(number));
  }
  const auto proofs = note.proofs(kNow + Milliseconds(4 * kMany));
  EXPECT_LE(proofs.size(), 2 * kMany);
  EXPECT_GT(proofs.size(), 2 * kMany * 99 / 100);
  std::size_t recent = 0;
  for (const auto& proof : proofs) {
    recent += proof.last >= kNow + Milliseconds(3 * kMany) ? 1 : 0;
  }
  EXPECT_GT(recent, kMany * 99 / 100);
}

// As the supervisor does it, Supervisor::ended().
TEST_F(CrashNoteTest, TheNoteCanBeTakenBackByWhoKnowsNothingElse) {
  die_of(kOne);
  EXPECT_EQ(told(), Sources({kOne}));
  die_of({.address = {4}, .scope = 0});
  const std::uint32_t none = 0;
  ASSERT_EQ(pwrite(file_.get(), &none, sizeof none, 0), 4);
  EXPECT_EQ(told(), Sources({kOne}));
}

TEST_F(CrashNoteTest, WithoutMemoryNothingIsNoted) {
  const UniqueFd null(open("/dev/null", O_RDWR | O_CLOEXEC));
  const UniqueFd sealed(memfd_create("sealed", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  ASSERT_EQ(fcntl(sealed.get(), F_ADD_SEALS, F_SEAL_GROW), 0);
  for (const int fd : {-1, null.get(), sealed.get()}) {
    CrashNote note(fd);
    EXPECT_FALSE(note.kept());
    { const CrashNote::Handling handling(note, kOne); }
    EXPECT_TRUE(note.take(kNow).empty());
    note.proved(kOne, kNow);
    EXPECT_TRUE(note.proofs(kNow).empty());
  }
}

}  // namespace
}  // namespace mandos::networker
