#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""typed.py --release NAME --number N --work FOLDER ROOT SCENARIO

Types the shell blocks of the documents, as printed, at a terminal of a Debian system in ROOT with
systemd as PID 1, and does around them what a user does. Called by tests/readme/run, in its namespaces;
prints one TAP line a step, numbered from N + 1. The scenarios are at the end.

Every block of README.md, doc/operating.md and README.Debian is in BLOCKS: a new one has to be added
there, and a scenario fails that does not type what BLOCKS gives it.
"""
import argparse, contextlib, fcntl, json, os, pathlib, pty, re, select, signal, subprocess, sys, termios
import time, traceback

SOURCE = pathlib.Path(__file__).resolve().parents[2]
PLUGIN = next(pathlib.Path("/usr/lib").glob("*/mandos/plugins.d/mandos-client"), None)
DEBIAN = "debian/mandos-separated.README.Debian"
OPERATING = "doc/operating.md"
ENVIRONMENT = ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "LANG=C.UTF-8"]
#: (document, heading, which block below it): the scenario that types it, or why none does.
BLOCKS = {
    ("README.md", "Try it: two commands", 0): "tests/releases/run types them",
    ("README.md", "How it works", 0): "a picture",
    ("README.md", "Install", 0): "install",
    (OPERATING, "Switch over, and back", 0): "switch",
    (OPERATING, "Switch over, and back", 1): "switch",
    (OPERATING, "The live view", 0): "a picture",
    **{(OPERATING, heading, index): "install" for heading, count in (
        ("Add a client", 1), ("Approve or deny", 4), ("Revoke a client", 2), ("Rotate a key", 1),
        ("Back up and restore", 3), ("Monitor the server", 2)) for index in range(count)},
    (OPERATING, "Run two servers", 0): "tests/system/fleet_test.py does the same: it needs two machines",
    **{(DEBIAN, "", index): "package" for index in range(3)},
}
BUILD_SECONDS = 2400


class Failure(Exception):
    """An expectation that did not hold."""


class Stop(Exception):
    """The scenario ends here: a step failed, and the rest builds on it."""


def wait_until(predicate, what, seconds):
    end = time.monotonic() + seconds
    while not (value := predicate()):
        if time.monotonic() > end:
            raise Failure(f"not within {seconds} s: {what}")
        time.sleep(0.1)
    return value


def read_blocks():
    """All blocks of the documents, by (document, heading, which): the lines between fences, or the
    indented ones of README.Debian."""
    found = {}
    for document in ("README.md", OPERATING, DEBIAN):
        heading, number, code = "", 0, None
        indented = document == DEBIAN
        for line in [*(SOURCE / document).read_text().splitlines(), ""]:
            inside = line.startswith("  ") if indented else code is not None and line != "```"
            if inside:
                code = [*(code or []), line[2:] if indented else line]
            elif code is not None:
                found[document, heading, number] = code
                number, code = number + 1, None
            elif line == "```":
                code = []
            elif title := re.match(r"#+ (.*)", line):
                heading, number = title[1], 0
    return found


class Machine:
    """The system in `root`, booted: systemd in namespaces of its own. Everything in it dies with it."""
    def __init__(self, root, work):
        self.root, self.work = root, work
        self.process = self.pid = None
        hierarchy = next(pathlib.Path(line.split()[1]) for line in
                         pathlib.Path("/proc/self/mounts").read_text().splitlines() if line.split()[2] == "cgroup2")
        self.cgroup = hierarchy / f"mandos-readme-{work.name}"
        for unit in ("console-getty", "getty@tty1", "systemd-logind", "systemd-udevd"):
            place = root / f"etc/systemd/system/{unit}.service"
            if not place.is_symlink():
                place.symlink_to("/dev/null")

    def boot(self):
        self.cgroup.mkdir(exist_ok=True)
        setup = """
            echo 0 > "$1/cgroup.procs"
            exec unshare --mount --pid --net --uts --ipc --cgroup --fork --kill-child=KILL sh -euc '
              cd "$0"
              mount -t proc proc proc
              mount -t cgroup2 cgroup2 sys/fs/cgroup
              mount -t tmpfs -o mode=755 tmpfs run
              ip link set lo up
              hostname server
              exec env -i container=mandos-readme PATH=/usr/sbin:/usr/bin:/sbin:/bin chroot . \\
                /lib/systemd/systemd --unit=multi-user.target --log-target=console --show-status=no' "$0"
            """
        self.process = subprocess.Popen(["sh", "-euc", setup, self.root, self.cgroup], stdin=subprocess.DEVNULL,
                                        stdout=open(self.work / "console", "w"), stderr=subprocess.STDOUT)
        self.pid = wait_until(self.find_init, "the first process", 60)
        wait_until(lambda: self.run("systemctl", "is-system-running", check=False).stdout.strip() in
                   ("running", "degraded"), "systemd is up", 180)

    def find_init(self):
        if self.process.poll() is not None:
            raise Failure("no boot: " + (self.work / "console").read_text())
        found = pathlib.Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        if found and pathlib.Path(f"/proc/{found[0]}/comm").read_text() == "systemd\n":
            return int(found[0])
        return None

    def enter(self, *command):
        return ["nsenter", "-t", str(self.pid), "-m", "-p", "-n", "-u", "-i", "-C", "-r", "-w", "--",
                "env", "-i", *ENVIRONMENT, *map(str, command)]

    def run(self, *command, check=True, seconds=60):
        done = subprocess.run(self.enter(*command), capture_output=True, text=True, timeout=seconds,
                              stdin=subprocess.DEVNULL)
        if check and done.returncode != 0:
            raise Failure(f"{command}: {done.stdout}{done.stderr}")
        return done

    def prepare(self, *lines, seconds=600):
        """What comes before the blocks: commands that ask nothing."""
        self.run("env", "DEBIAN_FRONTEND=noninteractive", "bash", "-euc", "\n".join(lines), seconds=seconds)

    def file(self, path):
        return self.root / str(path).lstrip("/")

    def journal(self):
        return self.run("journalctl", "--no-pager", "-o", "cat", "-u", "mandos*", check=False).stdout

    def port(self):
        """Where the server listens."""
        told = self.run("systemctl", "show", "-P", "StatusText", "mandos").stdout
        found = re.search(r"on port (\d+)", told)
        return int(found[1]) if found else 4711

    def client(self, keys, *options):
        return subprocess.Popen(
            ["nsenter", "-t", str(self.pid), "-n", "--", PLUGIN, f"--connect=::1:{self.port()}",
             "--interface=none", *options, *(f"--{option}={keys / file}" for option, file in (
                 ("pubkey", "pubkey.txt"), ("seckey", "seckey.txt"), ("tls-privkey", "tls-privkey.pem"),
                 ("tls-pubkey", "tls-pubkey.pem")))],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)

    def served(self, keys, seconds=60):
        """What the real client gets and decrypts; it asks again and again. None: nothing in that time."""
        asking = self.client(keys, "--retry=1")
        try:
            return asking.communicate(timeout=seconds)[0] or None
        except subprocess.TimeoutExpired:
            asking.kill()
            return asking.communicate()[0] or None

    def refused(self, keys):
        return self.served(keys, 8) is None

    def off(self):
        """As when the power is cut, but that the disk has everything."""
        if self.pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
        if self.process:
            self.process.wait(timeout=60)
        self.pid = None
        folders = sorted(self.cgroup.rglob("*"), key=lambda each: -len(each.parts))
        for _ in range(100):
            for folder in [*(each for each in folders if each.is_dir()), self.cgroup]:
                with contextlib.suppress(OSError):
                    folder.rmdir()
            if not self.cgroup.exists():
                return
            time.sleep(0.1)


class Asker:
    """Real clients that ask without a pause until `end`. They must get nothing."""
    def __init__(self, machine, keys):
        self.asking = machine.client(keys, "--retry=0")

    def end(self):
        self.asking.kill()
        got = self.asking.communicate()[0]
        if got:
            raise Failure(f"a disabled client got its password: {got}")


def take_terminal():
    """In the new process. A shell that starts us in the background has this signal ignored, for all after us."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


class Terminal:
    """A shell of root's at a terminal. A line is typed when the prompt is there."""
    PROMPT = re.compile(rb"<<(\d+)>> $")

    def __init__(self, machine, folder):
        rc = machine.file("/root/.typed")
        rc.write_text("PS1='<<$?>> '\nPS2=\ncd " + folder + "\n")
        self.master, slave = pty.openpty()
        os.set_blocking(self.master, False)
        subprocess.run(["stty", "rows", "60", "cols", "200"], stdin=slave, check=True)
        self.shell = subprocess.Popen(
            machine.enter("TERM=dumb", "bash", "--noprofile", "--rcfile", "/root/.typed", "-i"),
            stdin=slave, stdout=slave, stderr=slave, start_new_session=True,
            preexec_fn=take_terminal)
        os.close(slave)
        self.seen = b""
        self.wait_for_prompt("the shell", 30)

    def read(self, seconds):
        """What was printed since, at most that late."""
        if select.select([self.master], [], [], seconds)[0]:
            with contextlib.suppress(BlockingIOError, OSError):
                self.seen += os.read(self.master, 65536)

    def wait_for_prompt(self, what, seconds):
        """The status of the last command."""
        end = time.monotonic() + seconds
        while not (found := self.PROMPT.search(self.seen)):
            if time.monotonic() > end:
                raise Failure(f"not within {seconds} s: the prompt after {what}\n{self.text()}")
            self.read(0.5)
        return int(found[1])

    def text(self):
        return self.seen.decode(errors="replace").replace("\r", "")[-6000:]

    def write(self, text):
        os.write(self.master, text.encode())

    def type(self, lines, *, before=None, during=None, expected=0, seconds=120):
        """Types a block. `before`: called with each command before it is typed; `during`: called while
        the last command, which does not end by itself, runs; then it is interrupted."""
        lines = list(lines)
        printed = b""
        while lines:
            command = [lines.pop(0)]
            while re.search(r"(\\|&&|\|\||\|)$", command[-1]):
                command.append(lines.pop(0))
            if before:
                before(command[0])
            self.seen = b""
            self.write("\n".join(command) + "\n")
            if during and not lines:
                during(self)
                self.write("\x03")
                self.wait_for_prompt(command[0], 30)
                return self.text()
            builds = re.match(r"(\S+=\S+ )?(apt-get|meson|ninja|dpkg-buildpackage)", command[0])
            status = self.wait_for_prompt(command[0], BUILD_SECONDS if builds else seconds)
            printed += self.seen
            if status != (expected if not lines else 0):
                raise Failure(f"status {status} of: {' '.join(command)}\n{self.text()}")
        self.seen = b""
        return printed.decode(errors="replace").replace("\r", "")

    def wait_for(self, pattern, seconds=30):
        end = time.monotonic() + seconds
        while not re.search(pattern, self.text()):
            if time.monotonic() > end:
                raise Failure(f"not within {seconds} s: {pattern!r}\n{self.text()}")
            self.read(0.5)

    def end(self):
        with contextlib.suppress(ProcessLookupError):
            self.shell.kill()
        self.shell.wait()
        os.close(self.master)


def make_client(work, name):
    """(keys, section) of a real client."""
    keys = work / f"keys-{name}"
    section = work / f"section-{name}"
    if not section.exists():
        keys.mkdir(mode=0o700)
        (work / "passphrase").write_text(f"password of {name}")
        common = ["mandos-keygen", "--dir", keys, "--name", name.split("-")[0]]
        quiet = dict(check=True, capture_output=True, text=True, timeout=300)
        subprocess.run([*common, "--force"], **quiet)
        told = subprocess.run([*common, "--no-ssh", "--passfile", work / "passphrase"], **quiet).stdout
        section.write_text(re.sub(r"(?m)^host = .*\n", "", told))
    return keys, section.read_text()


class Scenario:
    def __init__(self, arguments):
        self.arguments = arguments
        self.work = arguments.work
        self.number = arguments.number
        self.failed = 0
        self.blocks = read_blocks()
        self.typed = set()
        self.machine = Machine(arguments.root, arguments.work)
        self.terminals = []

    @contextlib.contextmanager
    def step(self, name):
        """A line of the result; the scenario ends with a step that fails."""
        self.number += 1
        began = time.monotonic()
        name = f"{self.arguments.release}: {self.arguments.scenario}: {name}"
        try:
            yield
            print(f"ok {self.number} - {name}")
            print(f"# {time.monotonic() - began:.0f} s", flush=True)
        except Exception as problem:
            self.failed += 1
            print(f"not ok {self.number} - {name}")
            story = str(problem) if isinstance(problem, Failure) else traceback.format_exc()
            with contextlib.suppress(Exception):
                story += "\n-- journal\n" + "\n".join(self.machine.journal().splitlines()[-40:])
            print("\n".join("# " + line for line in story.splitlines()), flush=True)
            raise Stop from None

    def block(self, document, heading, index=0):
        self.typed.add((document, heading, index))
        return self.blocks[document, heading, index]

    def terminal(self, folder="/root/mandos"):
        self.terminals.append(Terminal(self.machine, folder))
        return self.terminals[-1]

    def expect(self, truth, what):
        if not truth:
            raise Failure(what)

    def show(self, client):
        told = self.machine.run("mandos-ctl", "--dump-json").stdout
        return json.loads(told)[client]

    def put_section(self, name, text):
        """The file that "editor FILE" of a block saves: a person types what mandos-keygen printed."""
        self.machine.file("/root/typed").write_text(text)
        editor = self.machine.file("/usr/local/bin/editor")
        editor.write_text('#!/bin/sh\nexec cat /root/typed > "$1"\n')
        editor.chmod(0o755)

    def run(self):
        try:
            with self.step("every block of the documents has a scenario"):
                missing = set(self.blocks) ^ set(BLOCKS)
                self.expect(not missing, f"blocks and BLOCKS differ: {sorted(missing)}")
            with self.step("systemd is up as PID 1"):
                self.machine.boot()
            getattr(self, self.arguments.scenario)()
            with self.step("all its blocks were typed"):
                mine = {block for block, scenario in BLOCKS.items() if scenario == self.arguments.scenario}
                self.expect(mine == self.typed, f"typed and BLOCKS differ: {sorted(mine ^ self.typed)}")
        except Stop:
            pass
        finally:
            for terminal in self.terminals:
                terminal.end()
            self.machine.off()
        return self.failed

    # ---------------------------------------------------------------- what holds

    def mode(self, path, wanted=0o600):
        status = self.machine.file(path).stat()
        self.expect(status.st_mode & 0o7777 == wanted and status.st_uid == 0,
                    f"{path}: mode {oct(status.st_mode & 0o7777)} of user {status.st_uid}")

    def ours(self):
        self.expect("mandos-monitor" in self.machine.run("ps", "-eo", "args").stdout, "this server runs")

    def theirs(self):
        told = self.machine.run("ps", "-eo", "args").stdout
        self.expect("mandos-monitor" not in told and re.search(r"python3 .*/usr/sbin/mandos ", told),
                    f"the Python server runs: {told}")

    def add_clients_of_the_original(self):
        """Debian's server with two clients: db disabled, and web with another timeout, at run time."""
        machine = self.machine
        web, db = make_client(self.work, "web"), make_client(self.work, "db")
        machine.prepare("apt-get -qq install -y --no-install-recommends mandos")
        machine.file("/etc/mandos/mandos.conf").write_text("[DEFAULT]\nport = 4711\nzeroconf = False\n")
        machine.file("/etc/mandos/clients.conf").write_text("".join(
            section + "host = ::1\nchecker = true\n" for _, section in (web, db)))
        machine.prepare("systemctl restart mandos")
        wait_until(lambda: machine.run("mandos-ctl", "--is-enabled", "web", check=False).returncode == 0,
                   "the Python server is on the bus", 60)
        self.theirs()
        self.expect(machine.served(web[0]) == b"password of web", "web is served")
        self.expect(machine.served(db[0]) == b"password of db", "db is served")
        machine.run("mandos-ctl", "--disable", "db")
        machine.run("mandos-ctl", "--timeout=PT17M", "web")
        self.expect(machine.refused(db[0]), "db is refused")
        return web[0], db[0]

    def as_it_was(self, web, db):
        """The same clients have the same fate with the server that runs now."""
        self.expect(self.machine.served(web) == b"password of web", "web is served")
        self.expect(self.machine.refused(db), "db is refused")
        self.expect(not self.show("db")["Enabled"] and self.show("web")["Enabled"], "db is disabled, web is not")
        self.expect(self.show("web")["Timeout"] == 17 * 60000, "web's timeout of the run time")

    def switch_and_back(self, there, back, stop):
        """Types the two blocks while db asks without a pause from before the old server's end."""
        web, db = self.keys
        for title, block, holds in (("switched over", there, self.ours), ("switched back", back, self.theirs)):
            with self.step(f"{title}; the disabled client, asking all the time, gets nothing"):
                asking = []

                def before(command):
                    if re.match(stop, command):
                        asking.append(Asker(self.machine, db))
                try:
                    self.terminal().type(block, before=before)
                    # The new server answers, while db still asks.
                    self.expect(self.machine.served(web, 90) == b"password of web", "web is served")
                    self.expect(asking, "the asker was started")
                finally:
                    for each in asking:
                        each.end()
                self.mode("/root/mandos.json")
                holds()
            with self.step(f"{title}; the state is as it was"):
                self.as_it_was(web, db)
                if holds == self.ours:
                    differ = self.machine.run("mandos-ctl", "diff", "/root/mandos.json")
                    self.expect(differ.stdout == "", differ.stdout)
                    # The Python server may lose its state when it is stopped.
                    self.machine.run("systemctl", "restart", "mandos")
                    self.as_it_was(web, db)

    # ---------------------------------------------------------------- the scenarios

    def install(self):
        machine, step = self.machine, self.step
        keys, section = make_client(self.work, "web")
        new_keys, new_section = make_client(self.work, "web-new")
        file = machine.file("/etc/mandos/clients.d/web.conf")
        with step("README.md, Install: from nothing to a running, enabled service"):
            printed = self.terminal().type(self.block("README.md", "Install"))
            self.expect("Active: active (running)" in printed, printed[-3000:])
            self.expect(machine.run("systemctl", "is-enabled", "mandos").stdout == "enabled\n", "is-enabled")
            self.ours()
        with step("operating.md, Add a client: it is served"):
            self.put_section("web", section + "host = ::1\n")
            self.terminal("/root").type(self.block(OPERATING, "Add a client"))
            self.mode("/etc/mandos/clients.d/web.conf")
            self.mode("/etc/mandos/clients.d", 0o700)
            self.expect(machine.served(keys) == b"password of web", "web is served")
        with step("after a boot the service runs and serves"):
            machine.off()
            machine.boot()
            wait_until(lambda: machine.run("systemctl", "is-active", "mandos", check=False).stdout == "active\n",
                       "active", 60)
            self.ours()
            self.expect(machine.served(keys) == b"password of web", "web is served")
            self.mode("/var/lib/mandos", 0o700)
        self.approve(keys, section, file)
        with step("operating.md, Back up; what was disabled at run time is, after a restore"):
            terminal = self.terminal("/root")
            machine.run("mandos-ctl", "--disable", "web")
            terminal.type(self.block(OPERATING, "Back up and restore", 0))
            self.mode("/root/mandos-backup.tar.gz")
            machine.run("mandos-ctl", "--enable", "web")
            self.expect(machine.served(keys) == b"password of web", "web is served")
            terminal.type(self.block(OPERATING, "Back up and restore", 1))
            self.ours()
            self.expect(machine.refused(keys), "web is refused")
            self.expect(not self.show("web")["Enabled"], "web is disabled")
            machine.run("mandos-ctl", "--enable", "web")
        with step("operating.md, run-time changes saved, compared and put back"):
            terminal.type(self.block(OPERATING, "Back up and restore", 2))
            self.mode("/root/mandos.json")
        with step("operating.md, Rotate a key: the new key is served, the old one is unknown"):
            self.put_section("web", new_section + "host = ::1\n")
            terminal.type(self.block(OPERATING, "Rotate a key"))
            self.mode("/etc/mandos/clients.d/web.conf")
            self.expect(machine.served(new_keys) == b"password of web-new", "the new key is served")
            self.expect(machine.refused(keys), "the old key is refused")
        with step("operating.md, Monitor the server"):
            printed = terminal.type(self.block(OPERATING, "Monitor the server", 0))
            self.expect("web\n" not in printed.replace("\r", "").split("Enabled\"]]'\n")[-1], printed)
            # As the node exporter's package makes it.
            machine.run("mkdir", "-p", "/var/lib/prometheus/node-exporter")
            terminal.type(self.block(OPERATING, "Monitor the server", 1))
            machine.run("systemctl", "start", "mandos-metrics.service")  # not a minute later
            written = machine.run("cat", "/var/lib/prometheus/node-exporter/mandos.prom").stdout
            self.expect("mandos_up 1" in written, written)
            machine.run("systemctl", "disable", "--now", "mandos-metrics.timer")
            machine.run("mandos-ctl", "status")
            machine.run("mandos-ctl", "verify", "web")
        with step("operating.md, Revoke a client: at once, over a restart, and for good"):
            terminal.type(self.block(OPERATING, "Revoke a client", 0))
            self.expect(machine.refused(new_keys), "web is refused")
            machine.run("systemctl", "restart", "mandos")
            self.expect(machine.refused(new_keys), "web is refused after a restart")
            terminal.type(self.block(OPERATING, "Revoke a client", 1))
            self.expect(not file.exists() and machine.run("mandos-ctl", "--dump-json").stdout.strip() == "{}",
                        "web is gone")
            self.expect(machine.refused(new_keys), "web is refused")
        with step("operating.md, --remove: gone over reload and restart, back when its section is edited"):
            self.put_section("web", new_section + "host = ::1\n")
            add = self.block(OPERATING, "Add a client")
            terminal.type(add)
            self.expect(machine.served(new_keys) == b"password of web-new", "web is served")
            machine.run("mandos-ctl", "--remove", "web")
            machine.run("systemctl", "reload", "mandos")
            machine.run("systemctl", "restart", "mandos")
            self.expect(machine.refused(new_keys), "web is refused")
            file.write_text(new_section + "host = ::1\ntimeout = PT20M\n")
            machine.run("systemctl", "reload", "mandos")
            self.expect(machine.served(new_keys) == b"password of web-new", "web is served")

    def approve(self, keys, section, file):
        machine = self.machine
        with self.step("operating.md, Approve or deny: notified, shown, approved and denied"):
            file.write_text(section + "host = ::1\napproval_delay = PT1M\napproved_by_default = False\n")
            machine.run("systemctl", "reload", "mandos")
            terminal = self.terminal("/root")
            events = self.block(OPERATING, "Approve or deny", 0)
            listen = self.block(OPERATING, "Approve or deny", 1)
            asking = []

            def heard(typing):
                machine.run("sh", "-c", "for n in $(seq 100); do pgrep -f 'gdbus monito[r]' && exit; sleep 0.1; done; exit 1")
                asking.append(machine.client(keys, "--retry=1"))
                typing.wait_for(r"NeedApproval \(")
            try:
                terminal.type(events)
                # There is no mail server to see the mail arrive.
                machine.file("/etc/mandos/event").write_text('#!/bin/sh\necho "told $MANDOS_EVENT $MANDOS_CLIENT"\n')
                machine.run("sh", "-c", "for n in $(seq 100); do pgrep -f 'events --exe[c]' && exit; sleep 0.1; done; exit 1")
                asking.append(machine.client(keys, "--retry=1"))
                told = lambda: machine.run("journalctl", "-u", "mandos-events", "-o", "cat").stdout
                wait_until(lambda: "told waiting web" in told(), "the program was run", 30)
                machine.run("systemctl", "disable", "--now", "mandos-events")
                asking.pop().kill()
                wait_until(lambda: not self.show("web")["ApprovalPending"], "nobody waits", 30)
                terminal.type(listen, during=heard)
                printed = terminal.type(self.block(OPERATING, "Approve or deny", 2))
                self.expect(re.search(r"(?m)^web$", printed), printed)
                approve, deny = self.block(OPERATING, "Approve or deny", 3)
                terminal.type([approve])
                got = asking[0].communicate(timeout=30)[0]
                self.expect(got == b"password of web", f"approved: {got}")

                def waits():
                    # An approval holds for a second: whoever asks in it is served at once.
                    if asking[0].poll() is not None:
                        asking[:] = [machine.client(keys, "--retry=1")]
                    return self.show("web")["ApprovalPending"]
                wait_until(waits, "web waits", 30)
                terminal.type([deny])
                wait_until(lambda: re.search('verdict=refused client="web".*[Dd]enied', machine.journal()), "denied", 30)
                self.expect(asking[0].poll() is None, "it got nothing")
            finally:
                for each in asking:
                    each.kill()
                    each.communicate()
            file.write_text(section + "host = ::1\n")
            machine.run("systemctl", "reload", "mandos")

    def switch(self):
        with self.step("Debian's own server serves web, and refuses db, which was disabled at run time"):
            self.keys = self.add_clients_of_the_original()
        there, back = (self.block(OPERATING, "Switch over, and back", index) for index in (0, 1))
        self.switch_and_back(there, back, "systemctl stop mandos")
        with self.step("a second time there: the same block"):
            self.terminal().type(there)
            self.ours()
            self.as_it_was(*self.keys)
        with self.step("a boot starts this server, in the same state"):
            self.machine.off()
            self.machine.boot()
            self.expect(self.machine.served(self.keys[0], 60) == b"password of web", "web is served")
            self.ours()
            self.as_it_was(*self.keys)

    def package(self):
        machine, step = self.machine, self.step
        with step("README.md, dpkg-buildpackage -us -uc -b"):
            machine.prepare("apt-get -qq install -y build-essential debhelper fakeroot",
                            "cd /root/mandos && apt-get -qq build-dep -y ./")
            self.terminal().type(["dpkg-buildpackage -us -uc -b"])
        with step("README.Debian, where no other server runs: enabled, running; a client is served"):
            machine.prepare("apt-get -qq install -y avahi-daemon dbus fping /root/mandos-separated_*.deb")
            self.terminal().type(self.block(DEBIAN, "", 0))
            keys, section = make_client(self.work, "web")
            self.put_section("web", section + "host = ::1\n")
            machine.prepare("umask 077", "cp /root/typed /etc/mandos/clients.d/web.conf", "systemctl reload mandos")
            self.ours()
            self.expect(machine.served(keys) == b"password of web", "web is served")
        with step("after a boot the service runs and serves"):
            machine.off()
            machine.boot()
            self.expect(machine.served(keys, 60) == b"password of web", "web is served")
        with step("Debian's own server serves web, and refuses db; this package comes beside it"):
            machine.prepare("apt-get -qq purge -y mandos-separated")
            self.keys = self.add_clients_of_the_original()
            machine.prepare("apt-get -qq install -y /root/mandos-separated_*.deb")
            self.theirs()
        self.switch_and_back(self.block(DEBIAN, "", 1), self.block(DEBIAN, "", 2), "systemctl disable --now")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--release", required=True)
    parser.add_argument("--number", type=int, required=True)
    parser.add_argument("--work", type=pathlib.Path, required=True)
    parser.add_argument("root", type=pathlib.Path)
    parser.add_argument("scenario", choices=("install", "switch", "package"))
    sys.exit(Scenario(parser.parse_args()).run() != 0)


main()
