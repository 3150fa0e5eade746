#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""The checker-runner as a process of its own, started as the supervisor starts it, with this test in
the place of the monitor. Needs root; everything runs in a private mount namespace.

Usage: checker_runner_alone_test.py CHECKER_RUNNER_PROGRAM"""

import ctypes
import itertools
import os
import pwd
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
import unittest

import system_calls

PROGRAM = None
ACCOUNT = "_mandos"
SETPRIV = ["setpriv", f"--reuid={ACCOUNT}", f"--regid={ACCOUNT}", "--clear-groups"] + [
    f"--{which}-caps=-all,+net_raw,+setpcap" for which in ("inh", "ambient")
] + ["--bounding-set=-all,+net_raw,+setpcap"]
CLONE_NEWNS = 0x20000
MS_REC_PRIVATE = 0x44000


# As much of the protocol buffers encoding as the door needs.
def varint(value):
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def number(field, value):
    return varint(field << 3) + varint(value)


def data(field, value):
    return varint(field << 3 | 2) + varint(len(value)) + value


def fields(message):
    """{field: value} of a flat message."""
    def read(at):
        value = shift = 0
        while True:
            value |= (message[at] & 0x7F) << shift
            shift += 7
            at += 1
            if message[at - 1] < 0x80:
                return value, at
    found = {}
    at = 0
    while at < len(message):
        key, at = read(at)
        value, at = read(at)
        if key & 7 == 2:
            value, at = message[at:at + value], at + value
        found[key >> 3] = value
    return found


def settings(level=7, show_output=False):
    return data(1, number(1, level) + number(2, show_output))


def run(checker, command):
    return data(2, number(1, checker) + data(2, os.fsencode(command)))


def kill(checker):
    return data(3, number(1, checker))


class Runner:
    """A running checker-runner and the other ends of its door and log socket."""

    def __init__(self, wrapper=None, output=None):
        self.door, door = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.log, log = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.output = output or tempfile.TemporaryFile()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                # High copies first, so that none is overwritten before it is in its place.
                door_copy, log_copy, out = (os.dup2(fd, high) for fd, high in (
                    (door.fileno(), 100), (log.fileno(), 101), (self.output.fileno(), 102)))
                null = os.open("/dev/null", os.O_RDWR)
                for fd, place in ((null, 0), (out, 1), (out, 2), (door_copy, 3), (log_copy, 4)):
                    os.dup2(fd, place, inheritable=True)
                # Left open on purpose: a descriptor that nobody told the runner of.
                os.set_inheritable(102, True)
                command = (SETPRIV if wrapper is None else wrapper) + [PROGRAM]
                os.execvp(command[0], command)
            finally:
                os._exit(126)
        door.close()
        log.close()
        self.status = None
        self.finished = {}

    def send(self, message):
        self.door.send(message)

    def wait_finished(self, checker, seconds=20):
        deadline = time.monotonic() + seconds
        while checker not in self.finished:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self.door], [], [], left)[0]:
                raise AssertionError(f"checker {checker} is not finished after {seconds} s")
            message = fields(self.door.recv(4096))
            if not message:
                raise AssertionError("the door is closed")
            finished = fields(message[1])
            key = finished.get(1, 0)
            assert key not in self.finished, f"finished twice: {key}"
            self.finished[key] = finished.get(2)  # None: it was not started
        return self.finished[checker]

    def run(self, checker, command, seconds=20):
        """The wait status of `command`."""
        self.send(run(checker, command))
        return self.wait_finished(checker, seconds)

    def lines(self):
        found = []
        while select.select([self.log], [], [], 0)[0]:
            line = self.log.recv(4096)
            if not line:
                break
            found.append(line.decode())
        return found

    def shown(self):
        self.output.seek(0)
        return self.output.read().decode()

    def wait(self, seconds=10):
        """The wait status of the runner itself."""
        deadline = time.monotonic() + seconds
        while self.status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.status = status
            elif time.monotonic() > deadline:
                raise AssertionError("the runner does not end")
            else:
                time.sleep(0.01)
        return self.status

    def close(self):
        self.door.close()
        try:
            self.wait()
        finally:
            if self.status is None:
                os.kill(self.pid, signal.SIGKILL)
                os.waitpid(self.pid, 0)
            self.log.close()
            self.output.close()


def marked(marker):
    """The processes, zombies excepted, with `marker` among their arguments."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                if marker.encode() in file.read().split(b"\0"):
                    found.append(int(pid))
        except OSError:
            pass
    return found


def children(pid):
    with open(f"/proc/{pid}/task/{pid}/children") as file:
        return [int(child) for child in file.read().split()]


def wait_until(condition, seconds=10):
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def exited(code):
    return code << 8


class Case(unittest.TestCase):
    next_marker = os.getpid() * 1000

    def setUp(self):
        self.directory = tempfile.mkdtemp(dir="/tmp")
        os.chmod(self.directory, 0o777)
        self.runner = Runner()
        self.runner.send(settings())

    def tearDown(self):
        self.runner.close()
        subprocess.run(["rm", "-r", self.directory], check=True)

    def marker(self):
        """An argument for sleep that no other process has."""
        Case.next_marker += 1
        return str(Case.next_marker)

    def path(self, name):
        return os.path.join(self.directory, name)

    def read(self, name):
        with open(self.path(name)) as file:
            return file.read()

    def wait_for(self, name):
        self.assertTrue(wait_until(lambda: os.path.exists(self.path(name))), name)

    def assert_gone(self, marker):
        self.assertTrue(wait_until(lambda: not marked(marker)), marked(marker))


class Statuses(Case):
    def test_each_way_to_end(self):
        for checker, (command, status) in enumerate([
                ("true", 0), ("false", exited(1)), ("exit 3", exited(3)), ("exit 255", exited(255)),
                ("/nonexistent/command", exited(127)), ("/etc/passwd", exited(126)),
                ("kill -TERM $$", signal.SIGTERM), ("kill -SEGV $$", signal.SIGSEGV),
                ("kill -KILL $$", signal.SIGKILL), ("if", exited(2)), ("", 0)]):
            with self.subTest(command=command):
                self.assertEqual(self.runner.run(checker, command), status)

    def test_shell_syntax_and_bytes(self):
        self.runner.run(1, f"printf '%s' \"$((6*7))\" | cat > '{self.path('product')}'")
        self.assertEqual(self.read("product"), "42")
        self.runner.run(2, os.fsdecode(b"printf '%s' caf\xe9 > ") + self.path("latin"))
        with open(self.path("latin"), "rb") as file:
            self.assertEqual(file.read(), b"caf\xe9")

    def test_zero_byte_is_not_run(self):
        self.assertIsNone(self.runner.run(1, "true\0false"))
        self.assertTrue(any("zero byte" in line for line in self.runner.lines()))

    def test_longest_command(self):
        padding = ": " + "x" * (128 * 1024 - 3)
        self.assertEqual(len(padding), 128 * 1024 - 1)
        self.assertEqual(self.runner.run(1, padding), 0)
        self.assertIsNone(self.runner.run(2, padding + "x"))
        self.assertTrue(any("not started: Argument list too long" in line
                            for line in self.runner.lines()))

    def test_a_thousand_in_sequence(self):
        for checker in range(1000):
            self.assertEqual(self.runner.run(checker, "true"), 0)
        self.assertTrue(wait_until(lambda: children(self.runner.pid) == []))

    def test_many_at_once(self):
        for checker in range(200):
            self.runner.send(run(checker, f"sleep 0.2; exit {checker % 7}"))
        for checker in range(200):
            self.assertEqual(self.runner.wait_finished(checker), exited(checker % 7))
        self.assertTrue(wait_until(lambda: children(self.runner.pid) == []))


class Surroundings(Case):
    def test_inherits_nothing_but_standard_descriptors(self):
        self.runner.run(1, f"ls -l /proc/self/fd > {self.path('out')}")
        entries = [line.split(" -> ") for line in self.read("out").splitlines() if "->" in line]
        found = {left.split()[-1]: target for left, target in entries}
        own = found.pop("3")  # ls's own descriptor of the listed directory
        self.assertTrue(own.startswith("/proc/"), own)
        self.assertEqual(found, {"0": "/dev/null", "1": self.path("out"), "2": "/dev/null"})

    def test_path_is_not_the_callers(self):
        runner = Runner(wrapper=["env", "PATH=/usr/bin:/bin:/nowhere", *SETPRIV])
        self.addCleanup(runner.close)
        runner.run(1, f"echo $PATH > {self.path('path')}")
        self.assertEqual(self.read("path"), "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n")

    def test_missing_programs_are_named_once(self):
        for client, command in ("web", "exec fpign -q %(host)s"), ("db", "fpign x"), ("ok", "true"):
            self.runner.send(data(5, data(1, command.encode()) + data(2, client.encode())))
        found = []
        self.assertTrue(wait_until(lambda: found.extend(self.runner.lines()) or
                                   any("fpign" in line for line in found)), found)
        line, = (line for line in found if "fpign" in line)
        self.assertIn("4checker of client web and 1 more: the checker program fpign is not found", line)

    def test_cwd_and_group(self):
        self.runner.run(1, f"pwd > {self.path('cwd')}; "
                           f"cut -d' ' -f1,5 /proc/$$/stat > {self.path('ids')}")
        self.assertEqual(self.read("cwd"), "/\n")
        pid, group = self.read("ids").split()
        self.assertEqual(pid, group)

    def test_account_capabilities_and_signals(self):
        self.runner.run(1, f"cat /proc/self/status > {self.path('status')}")
        status = dict(line.split(":\t", 1) for line in self.read("status").splitlines()
                      if ":\t" in line)
        account = pwd.getpwnam(ACCOUNT)
        self.assertEqual(status["Uid"].split(), [str(account.pw_uid)] * 4)
        self.assertEqual(status["Gid"].split(), [str(account.pw_gid)] * 4)
        self.assertEqual(status["Groups"].split(), [])
        net_raw = 1 << 13
        for which in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
            self.assertEqual(int(status[which], 16), net_raw, which)
        self.assertEqual(status["NoNewPrivs"], "1")
        # Signals 32 and 33 are the C library's own and may be ignored from before (signal(7)).
        for which in ("SigBlk", "SigIgn", "SigCgt"):
            self.assertEqual(int(status[which], 16) & ~(3 << 31), 0, which)
        if not SANITIZED:
            self.assertEqual(status["Seccomp"], "2")

    def test_runner_is_undumpable_and_confined(self):
        self.runner.run(1, f"cat /proc/{self.runner.pid}/environ > {self.path('environ')}; "
                           f"ls /proc/{self.runner.pid}/fd > {self.path('fd')}; ulimit -c > "
                           f"{self.path('core')}")
        self.assertEqual(self.read("environ"), "")
        self.assertEqual(self.read("fd"), "")
        self.assertEqual(self.read("core"), "0\n")
        line = next(line for line in self.runner.lines() if "jail:" in line)
        for layer in ("capabilities=net_raw", "no_new_privs", "undumpable"):
            self.assertIn(layer, line)

    def test_output_is_thrown_away(self):
        self.runner.run(1, "echo to stdout; echo to stderr >&2")
        self.assertEqual(self.runner.shown(), "")

    def test_output_is_shown_when_wanted(self):
        self.runner.send(settings(show_output=True))
        command = "echo to stdout; echo to stderr >&2; cat"
        self.runner.run(1, command)
        self.assertEqual([line for line in self.runner.lines() if "jail:" not in line],
                         [f"7checker [{command}]: to stdout", f"7checker [{command}]: to stderr"])
        # Nothing goes where somebody could take it for the server's words.
        self.assertEqual(self.runner.shown(), "")

    def test_flood_of_output(self):
        self.assertEqual(self.runner.run(1, "head -c 300000000 /dev/zero"), 0)
        self.assertEqual(self.runner.shown(), "")

    def test_pings(self):
        self.assertEqual(self.runner.run(1, "fping -q -- 127.0.0.1"), 0)
        self.assertEqual(self.runner.run(2, "fping -q -- ::1"), 0)
        # The discard-only prefix, RFC 6666: nobody answers, or there is no route.
        self.assertNotEqual(self.runner.run(3, "fping -q -r0 -t100 -- 100::1"), 0)

    def test_tcp_is_allowed(self):
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
            self.assertEqual(self.runner.run(1, f"bash -c ': < /dev/tcp/127.0.0.1/{port}'"), 0)

    def test_writing(self):
        libc = ctypes.CDLL(None, use_errno=True)
        # A checker's number is never used twice.
        numbers = itertools.count(0x30000)
        for forbidden in ("/etc/mandos", "/var/lib/mandos", "/usr/local/lib"):
            if not os.path.isdir(forbidden):
                continue
            # Writable by everybody, so that only Landlock stands in the way.
            mounted = libc.mount(b"none", forbidden.encode(), b"tmpfs", 0, b"mode=1777")
            self.assertEqual(mounted, 0, os.strerror(ctypes.get_errno()))
            try:
                for command in ("touch {}/file", "mkdir {}/directory", "mkfifo {}/pipe",
                                "ln -s x {}/link"):
                    self.assertNotEqual(
                        self.runner.run(next(numbers), command.format(forbidden)), 0)
                self.assertEqual(os.listdir(forbidden), [])
            finally:
                libc.umount2(forbidden.encode(), 2)
        for n, place in enumerate(("/tmp", "/var/tmp", "/dev/shm")):
            if not os.path.isdir(place):
                continue
            self.assertEqual(self.runner.run(0x10000 + n, f"""set -e
                directory=$(mktemp -d {place}/mandos.XXXXXX); cd $directory
                echo x > a; mv a b; mkdir c; mv b c/b; mkfifo p; ln -s p q; rm -r $directory"""), 0)
        self.assertEqual(self.runner.run(0x20000, "cat /etc/passwd /etc/hosts"), 0)

    def test_dangerous_calls(self):
        if SANITIZED:
            self.skipTest("no seccomp in a sanitizer build")
        for n, command in enumerate(("unshare -U true", "unshare -m true", "strace true",
                                     "mount -t tmpfs none /mnt", "setarch -R true",
                                     "nsenter -t $$ -m true")):
            self.assertNotEqual(self.runner.run(n, command), 0, command)
        probe = self.path("probe.py")
        with open(probe, "w") as file:
            file.write(f"NUMBERS = {({name: system_calls.number(name) for name in CALLS})}\n" + DANGEROUS)
        os.chmod(probe, 0o644)
        self.assertEqual(self.runner.run(100, f"/usr/bin/python3 {probe} > {self.path('out')}"), 0)
        self.assertEqual(self.read("out"), "")


# Prints what is not refused. Threads, processes and asking for the personality must work.
CALLS = ["ptrace", "bpf", "keyctl", "mount", "userfaultfd", "unshare", "setns", "chroot", "io_uring_setup",
         "process_vm_readv", "perf_event_open", "clone", "clone3", "personality"]
DANGEROUS = """
import ctypes, errno, fcntl, os, struct, subprocess, termios, threading
libc = ctypes.CDLL(None, use_errno=True)
def refused(name, wanted, number, *arguments):
    ctypes.set_errno(0)
    if libc.syscall(number, *arguments) != -1 or ctypes.get_errno() != wanted:
        print(name, ctypes.get_errno())
CLONE_NEWUSER, SIGCHLD = 0x10000000, 17
for name, number in NUMBERS.items():
    if name == "clone":
        refused(name, errno.EPERM, number, CLONE_NEWUSER | SIGCHLD, 0, 0, 0, 0)
    elif name == "clone3":
        refused(name, errno.ENOSYS, number, 0, 0)
    elif name == "personality":
        refused(name, errno.EPERM, number, 0x40000)
        if libc.syscall(number, ctypes.c_ulong(0xffffffff)) == -1: print("asking for the personality")
    else:
        refused(name, errno.EPERM, number, 0, 0, 0, 0, 0)
master, slave = os.openpty()
for request in (termios.TIOCSTI, 0x541C, termios.TIOCSTI | 1 << 32):
    ctypes.set_errno(0)
    if libc.ioctl(slave, ctypes.c_ulong(request), b"x") != -1 or ctypes.get_errno() != errno.EPERM:
        print("ioctl", hex(request), ctypes.get_errno())
thread = threading.Thread(target=lambda: None)
thread.start()
thread.join()
subprocess.run(["true"], check=True)
"""


class Ends(Case):
    def test_kill_a_hanging_one(self):
        marker = self.marker()
        self.runner.send(run(1, f"sleep {marker}"))
        self.assertTrue(wait_until(lambda: marked(marker)))
        self.runner.send(kill(1))
        self.assertEqual(self.runner.wait_finished(1), signal.SIGKILL)
        self.assert_gone(marker)

    def test_kill_one_that_ignores_signals(self):
        marker = self.marker()
        self.runner.send(run(1, f"trap '' TERM INT HUP QUIT; sleep {marker}; sleep {marker}"))
        self.assertTrue(wait_until(lambda: marked(marker)))
        self.runner.send(kill(1))
        self.assertEqual(self.runner.wait_finished(1), signal.SIGKILL)
        self.assert_gone(marker)

    def test_kill_a_stopped_one(self):
        self.runner.send(run(1, f"touch {self.path('there')}; kill -STOP $$"))
        self.wait_for("there")
        self.runner.send(kill(1))
        self.assertEqual(self.runner.wait_finished(1), signal.SIGKILL)

    def test_kill_a_forking_one(self):
        marker = self.marker()
        self.runner.send(run(1, f"for i in 1 2 3 4 5; do (sleep {marker} & sleep {marker}) & done; "
                                "wait"))
        self.assertTrue(wait_until(lambda: len(marked(marker)) == 10))
        self.runner.send(kill(1))
        self.runner.wait_finished(1)
        self.assert_gone(marker)
        self.assertTrue(wait_until(lambda: children(self.runner.pid) == []))

    def test_nothing_outlives_its_leader(self):
        marker = self.marker()
        self.assertEqual(self.runner.run(1, f"sleep {marker} & exit 0"), 0)
        self.assert_gone(marker)

    def test_escapees_end_with_their_own_checker_only(self):
        mine, other = self.marker(), self.marker()
        # Out of the group, without the environment, and with parents that are gone.
        escape = "env -i setsid sh -c 'setsid sleep {0} & setsid sleep {0} & exit' & sleep {0}"
        self.runner.send(run(1, escape.format(mine)))
        self.runner.send(run(2, escape.format(other)))
        self.assertTrue(wait_until(lambda: len(marked(mine)) == len(marked(other)) == 3))
        self.runner.send(kill(1))
        self.runner.wait_finished(1)
        self.assert_gone(mine)
        self.assertEqual(self.runner.run(3, "true"), 0)
        self.assertEqual(len(marked(other)), 3)
        self.runner.send(kill(2))
        self.runner.wait_finished(2)
        self.assert_gone(other)
        self.assertTrue(wait_until(lambda: children(self.runner.pid) == []))

    def test_long_chain_of_escapees(self):
        marker = self.marker()
        script = self.path("chain")
        with open(script, "w") as file:
            file.write('[ $1 = 0 ] && exec sleep $2\nsetsid sh $0 $(($1 - 1)) $2 &\nsleep $2\n')
        self.runner.send(run(1, f"sh {script} 20 {marker}"))
        self.assertTrue(wait_until(lambda: len(marked(marker)) >= 41), marked(marker))
        self.runner.send(kill(1))
        self.runner.wait_finished(1)
        self.assert_gone(marker)

    def test_no_zombie_stays(self):
        # Orphans that end while their checker goes on.
        self.runner.send(run(1, f"for i in 1 2 3 4 5 6 7 8 9; do (setsid true &); done; "
                                f"touch {self.path('done')}; sleep 60"))
        self.wait_for("done")
        self.assertTrue(wait_until(lambda: len(children(self.runner.pid)) == 1))
        self.runner.send(kill(1))
        self.runner.wait_finished(1)
        self.assertTrue(wait_until(lambda: children(self.runner.pid) == []))

    def test_kill_of_an_unknown_one_is_nothing(self):
        self.runner.send(kill(77))
        self.assertEqual(self.runner.run(1, "true"), 0)

    def check_nothing_left(self, end, status):
        marker = self.marker()
        self.runner.send(run(1, f"trap '' TERM; sleep {marker}; sleep {marker}"))
        self.runner.send(run(2, f"setsid sleep {marker} & (setsid sleep {marker} &); wait"))
        self.assertTrue(wait_until(lambda: len(marked(marker)) == 3), marked(marker))
        end()
        self.assertEqual(self.runner.wait(), status)
        self.assertEqual(marked(marker), [])

    def test_closed_door_leaves_nothing(self):
        self.check_nothing_left(self.runner.door.close, 0)

    def test_sigterm_leaves_nothing(self):
        self.check_nothing_left(lambda: os.kill(self.runner.pid, signal.SIGTERM), 0)

    def test_signals_of_the_terminal_are_not_ours(self):
        self.runner.run(0, "true")  # it is there
        for number_ in (signal.SIGINT, signal.SIGHUP):
            os.kill(self.runner.pid, number_)
        self.assertEqual(self.runner.run(1, "true"), 0)

    def test_malformed_messages_end_it(self):
        for message in (b"\xff\xff", b"\x0a", b"\x3a\x00", data(7, b"x"), b"x" * 140000):
            with self.subTest(message=message[:8]):
                marker = self.marker()
                runner = Runner()
                runner.send(run(1, f"sleep {marker}"))
                self.assertTrue(wait_until(lambda: marked(marker)))
                runner.send(message)
                runner.wait()
                self.assertEqual(marked(marker), [])
                runner.close()

    def test_number_in_use_ends_it(self):
        self.runner.send(run(1, "sleep 60"))
        self.runner.send(run(1, "sleep 60"))
        self.assertEqual(self.runner.wait(), exited(1))


class Limits(Case):
    def test_most_at_a_time(self):
        most = 4096
        for checker in range(most):
            self.runner.send(run(checker, "exec sleep 300"))
        self.assertIsNone(self.runner.run(most, "true", seconds=120))
        self.assertTrue(any("4096 run already" in line for line in self.runner.lines()))
        self.runner.send(kill(0))
        self.assertEqual(self.runner.wait_finished(0), signal.SIGKILL)
        self.assertEqual(self.runner.run(most + 1, "true"), 0)
        pid = self.runner.pid
        self.assertEqual(len(children(pid)), most - 1)
        self.runner.door.close()
        self.runner.wait()


class Refusals(unittest.TestCase):
    def refused(self, wrapper, reason):
        runner = Runner(wrapper=wrapper)
        self.assertEqual(runner.wait(), exited(1))
        self.assertTrue(any(reason in line for line in runner.lines()), reason)
        self.assertIn(reason, runner.shown())
        runner.close()

    def test_root(self):
        self.refused(["env"], "user or group 0")

    def test_group_of_root(self):
        self.refused(["setpriv", f"--reuid={ACCOUNT}", "--regid=0", "--clear-groups"],
                     "user or group 0")

    def test_supplementary_groups(self):
        self.refused(["setpriv", f"--reuid={ACCOUNT}", f"--regid={ACCOUNT}", "--groups=12345"],
                     "supplementary groups")

    def test_missing_capability(self):
        self.refused(["setpriv", f"--reuid={ACCOUNT}", f"--regid={ACCOUNT}", "--clear-groups"],
                     "apabilit")

    def test_by_hand(self):
        done = subprocess.run([PROGRAM], stdin=subprocess.DEVNULL, capture_output=True, text=True,
                              check=False)
        self.assertEqual(done.returncode, 2)
        self.assertIn("started by mandos", done.stderr)


def main():
    global PROGRAM, SANITIZED
    if os.getuid() != 0:
        print("needs root")
        return 77
    PROGRAM = os.path.abspath(sys.argv.pop(1))
    with open(PROGRAM, "rb") as file:
        SANITIZED = b"__asan_init" in file.read()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNS) != 0 or libc.mount(b"none", b"/", None, MS_REC_PRIVATE, None) != 0:
        print("no mount namespace:", os.strerror(ctypes.get_errno()))
        return 77
    os.environ["PATH"] = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    unittest.main(verbosity=2)
    return 0


if __name__ == "__main__":
    sys.exit(main())
