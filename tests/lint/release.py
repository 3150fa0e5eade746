#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""release.py SOURCE MESON: the release tarball (doc/releasing.md) and the version numbers of SOURCE.

The tarball is made twice, from two clones in different folders, with another umask, time zone and git
configuration, and must have the same bytes. What is cloned is a commit of SOURCE as it is now, made in
a repository of the test's own: so SOURCE may be a clone, an unpacked tarball, or a fresh `git init`
without a commit. Skipped (status 77) where git is not installed."""
import concurrent.futures, hashlib, os, pathlib, re, shutil, subprocess, sys, tarfile, tempfile, unittest

SOURCE, MESON = pathlib.Path(sys.argv.pop(1)).resolve(), sys.argv.pop(1)
DATE = 1700000000
# Without the configuration of the user and of the machine.
CLEAN = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")} | {
    "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_NOSYSTEM": "1"}
# As in doc/releasing.md: the files in the tarball belong to root whoever makes it.
AS_ROOT = [] if os.geteuid() == 0 else ["unshare", "--map-root-user"]


def run(*command, umask=0o022, **environment):
    done = subprocess.run([*map(str, command)], env=CLEAN | environment, umask=umask, stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode != 0:
        raise AssertionError(f"{' '.join(map(str, command))}: status {done.returncode}\n{done.stdout}")
    return done.stdout


def commit_of_source(repository):
    """A bare repository with one commit: what `git add -A` takes of SOURCE."""
    run("git", "init", "--bare", "--quiet", repository)
    git = ["git", "--git-dir", repository, "--work-tree", SOURCE, "-c", "user.name=test", "-c", "user.email=test@example.invalid"]
    run(*git, "add", "-A")
    run(*git, "commit", "--quiet", "--message", "Release",
        GIT_AUTHOR_DATE=f"{DATE} +0000", GIT_COMMITTER_DATE=f"{DATE} +0000")


def tarball(repository, clone, umask, **environment):
    run("git", "clone", "--quiet", repository, clone, umask=umask, **environment)
    # The fewest look-ups of libraries; the options are not in the tarball.
    run(MESON, "setup", clone / "build", clone, "-Dtests=false", "-Dmonitor_only=true", umask=umask, **environment)
    run(*AS_ROOT, MESON, "dist", "-C", clone / "build", "--no-tests", umask=umask, **environment)
    return next((clone / "build/meson-dist").glob("*.tar.xz"))


def version():
    return re.search(r"(?m)^  version: '([\d.]+)'", (SOURCE / "meson.build").read_text())[1]


class Release(unittest.TestCase):
    def test_tarball_has_the_same_bytes_wherever_it_is_made(self):
        with tempfile.TemporaryDirectory() as name:
            folder = pathlib.Path(name)
            repository = folder / "origin.git"
            commit_of_source(repository)
            configuration = folder / "gitconfig"
            configuration.write_text("[tar]\n\tumask = 0077\n")
            with concurrent.futures.ThreadPoolExecutor() as both:  # most of the time goes into the compression
                first = both.submit(tarball, repository, folder / "a", 0o022, TZ="UTC")
                second = both.submit(tarball, repository, folder / "another/folder/b", 0o077, TZ="Asia/Tokyo",
                                     GIT_CONFIG_GLOBAL=str(configuration))
            first, second = first.result(), second.result()
            top = f"mandos-separated-{version()}"
            self.assertEqual((first.name, second.name), (f"{top}.tar.xz",) * 2)
            with tarfile.open(first) as archive:
                members = archive.getmembers()
            for member in members:
                self.assertEqual((member.mtime, member.uname, member.gname, member.uid, member.gid),
                                 (DATE, "root", "root", 0, 0), member.name)
                self.assertIn(member.mode, (0o644, 0o755), member.name)
            committed = run("git", "--git-dir", repository, "ls-tree", "-r", "-z", "--name-only", "HEAD")
            self.assertEqual({member.name for member in members if not member.isdir()},
                             {f"{top}/{file}" for file in committed.split("\0") if file})
            self.assertEqual(*(hashlib.sha256(each.read_bytes()).hexdigest() for each in (first, second)))

    def test_version_is_the_same_everywhere(self):
        changes = re.findall(r"(?m)^## (\d[\d.]*)", (SOURCE / "CHANGELOG.md").read_text())
        package = re.match(r"mandos-separated \((\d[\d.]*)[-+~)]", (SOURCE / "debian/changelog").read_text())
        self.assertEqual((changes[0], package[1]), (version(), version()))


if not shutil.which("git"):
    print("skipped: git is not installed")
    sys.exit(77)
unittest.main(verbosity=2)
