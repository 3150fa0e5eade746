# SPDX-License-Identifier: GPL-3.0-or-later
"""What the system tests share: real processes in namespaces of their own.

A test is a Python script run by `meson test`. It marks functions with @case("sentence") and ends
with harness.main(), which prints one TAP line a case. All cases run inside new network, mount and
process-ID namespaces: own loopback, own /run, own /dev/log, own accounts; whatever a case leaves
running dies with the namespace. The build is staged and laid over the prefix it was configured for
(an overlay that only the namespace sees), so what runs is what would be installed.

Environment, set by tests/system/meson.build:
  MANDOS_BUILD    build folder               MANDOS_PREFIX  the prefix it was configured with
  MANDOS_STAGED   1: the prefix is installed already, use it as it is
  MANDOS_SLACK    factor on every time limit (sanitizers, slow machines)
"""
import base64, collections, configparser, contextlib, ctypes, fcntl, json, os, pathlib, re, shutil
import signal, socket, struct, subprocess, sys, tempfile, threading, time, traceback

SOURCE = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("MANDOS_BUILD", SOURCE / "build"))
PREFIX = pathlib.Path(os.environ.get("MANDOS_PREFIX", "/usr"))
SLACK = float(os.environ.get("MANDOS_SLACK", "1"))
TEST_CLIENT = BUILD / "tests/support/test-client"
ACCOUNTS = ("_mandos", "_mandos-net", "_mandos-bus")
PORT = 4711
#: A sanitizer's report, or a filter that killed.
ALARM = re.compile(r"(ERROR|WARNING): \w+Sanitizer|runtime error:|SIGSYS|signal 31")


# ---------------------------------------------------------------- namespaces

def mount(source, target, kind=None, flags=0, data=None):
    libc = ctypes.CDLL(None, use_errno=True)
    text = lambda value: None if value is None else os.fsencode(str(value))
    if libc.mount(text(source), text(target), text(kind), flags, text(data)) != 0:
        raise OSError(ctypes.get_errno(), f"mounting {kind or source} on {target}")


def bind(source, target):
    mount(source, target, flags=0x1000 | 0x4000)  # MS_BIND | MS_REC


def stage():
    """Installs the build: in place when the prefix is inside the build folder, else below the build
    folder, and lays it over the prefix."""
    if os.environ.get("MANDOS_STAGED") == "1":
        return
    in_place = BUILD.resolve() in PREFIX.parents
    root = BUILD / "stage"
    with open(BUILD / ".stage-lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        subprocess.run(["meson", "install", "--no-rebuild", "--quiet", "-C", BUILD,
                        *([] if in_place else ["--destdir", root])],
                       check=True, stdout=subprocess.DEVNULL)
    if in_place:
        return
    over = PREFIX
    while not over.exists():
        over = over.parent
    if over == pathlib.Path("/"):
        sys.exit(f"Bail out! nothing to lay {PREFIX} over: make its first folder")
    mount("overlay", over, "overlay", data=f"lowerdir={root}{over}:{over}")
    # Another server may well lie there already: the original has the same name.
    if not (PREFIX / "libexec/mandos/mandos-monitor").exists():
        sys.exit(f"Bail out! {BUILD} was not configured for the prefix {PREFIX}")


def sanitized():
    """Whether the build was made with sanitizers. Without any, Meson says "none", or, since 1.8, []."""
    told = json.loads((BUILD / "meson-info/intro-buildoptions.json").read_text())
    return any(each["name"] == "b_sanitize" and each["value"] not in ("none", []) for each in told)


def private_accounts(directory):
    """The server's accounts, for this namespace only."""
    for name in ("passwd", "group"):
        lines = pathlib.Path("/etc", name).read_text().splitlines()
        known = {line.split(":")[0] for line in lines}
        for number, account in enumerate((*ACCOUNTS, "_mandos-watch"), 64700):
            if account not in known:
                lines.append(f"{account}:x:{number}:{number}::/nonexistent:/usr/sbin/nologin"
                             if name == "passwd" else f"{account}:x:{number}:")
        copy = directory / name
        copy.write_text("\n".join(lines) + "\n")
        bind(copy, f"/etc/{name}")


def loopback_up():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        fcntl.ioctl(control, 0x8914, struct.pack("16sH14x", b"lo", 0x41))  # SIOCSIFFLAGS: UP


def enter_namespaces(with_stage=True):
    """Runs this script again inside; returns only there. Needs root."""
    if os.environ.get("MANDOS_INSIDE") != "1":
        if os.geteuid() != 0:
            sys.exit("Bail out! the system tests need root")
        os.execvpe("unshare", ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child",
                               "--mount-proc", sys.executable, *sys.argv],
                   dict(os.environ, MANDOS_INSIDE="1", PYTHONDONTWRITEBYTECODE="1"))
    loopback_up()
    for place in ("/run", "/mnt"):
        mount("tmpfs", place, "tmpfs", data="mode=755")
    nodes = ["null", "zero", "full", "random", "urandom", "tty", "pts", "shm"]
    for node in (pathlib.Path("/dev", name) for name in nodes):  # a /dev that may have its own log
        inside = pathlib.Path("/mnt", node.name)
        inside.mkdir() if node.is_dir() else inside.touch()
        bind(node, inside)
    bind("/mnt", "/dev")
    private_accounts(temporary())
    if with_stage:
        try:
            stage()
        except BaseException:
            remove_temporary()
            raise


_temporary = None


def temporary():
    """This run's directory, gone at its end. Everybody may enter, nobody else may list it."""
    global _temporary
    if _temporary is None:
        _temporary = pathlib.Path(tempfile.mkdtemp(prefix="mandos-test-"))
        _temporary.chmod(0o711)
    return _temporary


def remove_temporary():
    """Removes this run's directory, and before it what cases have mounted there. Whatever cannot be
    removed is a fault of the test."""
    mounts = [line.split()[1] for line in pathlib.Path("/proc/self/mounts").read_text().splitlines()]
    for place in reversed(mounts):
        if pathlib.Path(place).is_relative_to(temporary()):
            subprocess.run(["umount", place], check=True)
    shutil.rmtree(temporary())


# ---------------------------------------------------------------- waiting and checking

class Failure(Exception):
    """An expectation that did not hold; its text is for the reader of the test's output."""


def expect(truth, what):
    if not truth:
        raise Failure(what)


def expect_equal(found, wanted, what):
    if found != wanted:
        raise Failure(f"{what}: found {found!r}, expected {wanted!r}")


def wait_until(predicate, what, seconds=10):
    """The first true value of `predicate`; a Failure after `seconds` (times MANDOS_SLACK)."""
    end = time.monotonic() + seconds * SLACK
    while True:
        value = predicate()
        if value:
            return value
        if time.monotonic() > end:
            raise Failure(f"not within {seconds * SLACK:g} s: {what}")
        time.sleep(0.01)


class DatagramSink:
    """A UNIX datagram socket that keeps what it gets: /dev/log or a NOTIFY_SOCKET."""

    def __init__(self, path):
        self.lines = []
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        self.socket.bind(str(path))
        os.chmod(path, 0o666)
        threading.Thread(target=self._collect, daemon=True).start()

    def _collect(self):
        while True:
            self.lines += self.socket.recv(65536).decode(errors="replace").splitlines()

    def find(self, pattern, start=0):
        return next((line for line in self.lines[start:] if re.search(pattern, line)), None)

    def wait_for(self, pattern, seconds=10, start=0):
        return wait_until(lambda: self.find(pattern, start), f"a line like {pattern!r}", seconds)


# ---------------------------------------------------------------- processes

def stat_of(pid):
    """(state, parent) of a process, or None when it is gone."""
    try:
        fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return fields[0], int(fields[1])
    except (OSError, IndexError):
        return None


def processes():
    """{pid: parent} of everything alive in this namespace."""
    found = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit() and (stat := stat_of(entry)) and stat[0] not in "ZX":
            found[int(entry)] = stat[1]
    return found


def tree(root):
    """`root` and its living descendants."""
    parents, found = processes(), [root]
    for pid in found:
        found += [child for child, parent in parents.items() if parent == pid]
    return [pid for pid in found if pid in parents]


def role_of(pid):
    """supervisor, monitor, networker, checker-runner, bus-agent, or another program's name."""
    try:
        name = os.path.basename(os.readlink(f"/proc/{pid}/exe")).removesuffix(" (deleted)")
    except OSError:
        return None
    return "supervisor" if name == "mandos" else name.removeprefix("mandos-")


def status_of(pid):
    """/proc/PID/status as a dictionary."""
    text = pathlib.Path(f"/proc/{pid}/status").read_text()
    return {key: value.strip() for key, _, value in (l.partition(":") for l in text.splitlines())}


# ---------------------------------------------------------------- keys and configuration

def test_key(kind="ed25519"):
    """(file, key ID) of a new key of the test client."""
    file = pathlib.Path(tempfile.mktemp(prefix=f"{kind}-", suffix=".pem", dir=temporary()))
    made = subprocess.run([TEST_CLIENT, "--generate", kind, "--key", file], check=True,
                          capture_output=True, text=True)
    return file, made.stdout.strip()


def real_client(passphrase=b"correct horse battery staple"):
    """(key directory, options of its section) of the real mandos-client; made once a build."""
    cache = BUILD / "tests/system/real-client"
    if not (cache / "section").exists():
        shutil.rmtree(cache, ignore_errors=True)
        cache.mkdir(parents=True)
        (cache / "passphrase").write_bytes(passphrase)
        quiet = dict(check=True, capture_output=True, text=True, timeout=120)
        subprocess.run(["mandos-keygen", "--dir", cache, "--name", "real", "--force"], **quiet)
        made = subprocess.run(["mandos-keygen", "--dir", cache, "--name", "real", "--no-ssh",
                               "--passfile", cache / "passphrase"], **quiet)
        (cache / "section").write_text(made.stdout)
    section = configparser.ConfigParser(interpolation=None)
    section.read(cache / "section")
    return cache, dict(section["real"])


class Configuration:
    """A configuration directory and a state directory in the making."""

    def __init__(self):
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="config-", dir=temporary()))
        self.state = pathlib.Path(tempfile.mkdtemp(prefix="state-", dir=temporary()))
        self.server_options, self.clients = {}, {}
        self.owner = None  # root; the original reads as another

    def client(self, name, key_id, secret=None, **options):
        """Adds a section; `secret` is bytes. Checked by `true`, rarely, unless told otherwise."""
        section = {"key_id": key_id, "fingerprint": "00", "checker": "true", "timeout": "PT1H",
                   "interval": "PT10M"}
        if secret is not None:
            section["secret"] = base64.b64encode(secret).decode()
        self.clients[name] = section | options
        return self

    def write(self):
        for name, sections in (("mandos.conf", {"DEFAULT": self.server_options}),
                               ("clients.conf", self.clients)):
            with open(self.directory / name, "w") as file:
                os.fchmod(file.fileno(), 0o600)
                for section, options in sections.items():
                    file.write(f"[{section}]\n")
                    for key, value in options.items():
                        indented = str(value).replace("\n", "\n\t")
                        file.write(f"{key} = {indented}\n")
        if self.owner:
            for place in (self.directory, self.state, *self.directory.iterdir()):
                shutil.chown(place, self.owner, self.owner)
        return self


# ---------------------------------------------------------------- the server

def with_little_locked_memory(size):
    """The server's command, with that many bytes that it can lock and no right to more."""
    return ["prlimit", f"--memlock={size}:{size}", "setpriv", "--bounding-set=-sys_resource", "--",
            str(PREFIX / "sbin/mandos")]


class Server:
    """The installed server, in the foreground on [::1]:PORT. A context manager: at its end the
    server is stopped by SIGTERM, and status 0, nothing left and no alarm are expected.
    `command`: another server instead; `notify`: whether it tells when it is ready."""
    current = None

    def __init__(self, config, *arguments, command=None, notify=True, wait=True,
                 address="::1", without=("--no-dbus", "--no-zeroconf"), **popen):
        Server.current = self
        self.config = config.write()
        self.log = DatagramSink("/dev/log")
        self.notices = DatagramSink("/run/notify")
        self.output = tempfile.TemporaryFile(dir=temporary())
        self.arguments = [*(command or [PREFIX / "sbin/mandos"]), *without, "--foreground",
                          "--address", address, "--port", str(PORT), "--configdir",
                          config.directory, "--statedir", config.state, *arguments]
        environment = dict(os.environ, **popen.pop("env", {}))
        if notify:
            environment["NOTIFY_SOCKET"] = "/run/notify"
        self.process = subprocess.Popen(self.arguments, stdin=subprocess.DEVNULL,
                                        stdout=self.output, stderr=subprocess.STDOUT,
                                        env=environment, **popen)
        if wait:
            wait_until(lambda: self.ready(notify), "the server is ready", 30)

    def ready(self, notify=True):
        expect(self.process.poll() is None,
               f"the server ended: {self.process.returncode}: {self.stderr()[-1000:]}")
        if notify:
            return self.notices.find("^READY=1")
        with contextlib.suppress(OSError), socket.create_connection(("::1", PORT), 1):
            return True
        return False

    def stderr(self):
        return os.pread(self.output.fileno(), 1 << 20, 0).decode(errors="replace")

    def pids(self, role):
        return [pid for pid in tree(self.process.pid) if role_of(pid) == role]

    def pid(self, role, other_than=None):
        """The process of that role, waited for; not the one that is known to be dead."""
        return wait_until(lambda: [p for p in self.pids(role) if p != other_than],
                          f"a {role} runs")[0]

    def stop(self, number=signal.SIGTERM, seconds=10):
        """Sends the signal; returns the exit status. What is left is killed and is a Failure."""
        self.process.send_signal(number)
        try:
            return self.wait(seconds)
        finally:
            self.process.kill()
            self.process.wait()

    def wait(self, seconds=10):
        """The exit status of the server, which ends by itself, leaving nothing."""
        try:
            status = self.process.wait(seconds * SLACK)
        except subprocess.TimeoutExpired:
            raise Failure("the server does not end") from None
        expect_nothing_left()
        return status

    def alarms(self):
        return [line for line in self.stderr().splitlines() + self.log.lines if ALARM.search(line)]

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        if self.process.poll() is None and kind is None:
            expect_equal(self.stop(), 0, "exit status after SIGTERM")
        self.process.kill()
        self.process.wait()
        if kind is None:
            expect_equal(self.alarms(), [], "alarms in the logs")


def expect_nothing_left(seconds=2):
    """No process of ours but this one, after a moment for those that are ending."""
    rest = lambda: {pid: role_of(pid) for pid in processes() if pid != os.getpid()}
    end = time.monotonic() + seconds * SLACK
    while rest() and time.monotonic() < end:
        time.sleep(0.01)
    expect_equal(rest(), {}, "processes left")


def kill_rest():
    """Ends everything in this namespace, which holds nobody else's."""
    end = time.monotonic() + 10
    while (rest := set(processes()) - {os.getpid()}) and time.monotonic() < end:
        for pid in rest:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.01)


# ---------------------------------------------------------------- clients

Fetched = collections.namedtuple("Fetched", "outcome blob detail")
OUTCOMES = ("blob", "usage", "nothing", "no-handshake", "closed-early", "timeout",
            "no-connection", "hung-up", "truncated")


def start_fetch(*options, key=None):
    """Starts the test client; finish_fetch() waits for it."""
    command = [TEST_CLIENT, "--port", str(PORT), *(["--key", key] if key else []),
               *map(str, options)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def finish_fetch(started, seconds=60):
    blob, detail = started.communicate(timeout=seconds * SLACK)
    code = started.returncode
    return Fetched(OUTCOMES[code] if code in range(9) else f"signal {code}", blob,
                   detail.decode().strip())


def fetch(*options, key=None):
    """Runs the test client: (outcome, blob, detail)."""
    return finish_fetch(start_fetch(*options, key=key))


def expect_outcome(fetched, *wanted):
    expect(fetched.outcome in wanted, f"expected {' or '.join(wanted)}, got {fetched.detail}")


def run_real_client(keys, *options, before=(), seconds=30):
    """The passphrase that the real mandos-client decrypts, with other options than those that connect to
    the server here if any are given; `before` is put before the command."""
    plugin = next(pathlib.Path("/usr/lib").glob("*/mandos/plugins.d/mandos-client"))
    files = [f"--{option}={keys / file}" for option, file in (
        ("pubkey", "pubkey.txt"), ("seckey", "seckey.txt"), ("tls-privkey", "tls-privkey.pem"),
        ("tls-pubkey", "tls-pubkey.pem"))]
    others = processes()
    ran = subprocess.run([*before, plugin, *(options or (f"--connect=::1:{PORT}", "--interface=none")), *files],
                         capture_output=True, timeout=seconds * SLACK)
    # GnuPG 2.4 leaves its agent behind.
    for pid in processes().keys() - others.keys():
        if role_of(pid) == "gpg-agent":
            os.kill(pid, signal.SIGKILL)
    expect_equal(ran.returncode, 0, f"mandos-client: {ran.stderr.decode(errors='replace')}")
    return ran.stdout


# ---------------------------------------------------------------- the test script itself

_cases = []


def case(name):
    """Registers a case; `name` says what holds when it passes."""
    return lambda function: _cases.append((name, function)) or function


def run_in_lanes(chosen, lanes):
    """Prints what so many copies of this script report, each with its share of the cases, in order."""
    number = {name: index for index, (name, _) in enumerate(chosen, 1)}
    print(f"1..{len(chosen)}", flush=True)
    with contextlib.ExitStack() as stack:
        said = [stack.enter_context(tempfile.TemporaryFile("w+")) for _ in range(lanes)]
        copies = [stack.enter_context(subprocess.Popen([sys.executable, *sys.argv], stdout=file, env=dict(
            os.environ, MANDOS_LANE=str(lane)))) for lane, file in enumerate(said)]
        status = max(abs(copy.wait()) for copy in copies)
        results, unclaimed = {}, []
        for file in said:
            file.seek(0)
            lines = unclaimed
            for line in file:
                if found := re.match(r"(not ok|ok) \d+ - (.*)\n", line):
                    lines = results[found[2]] = [f"{found[1]} {number[found[2]]} - {found[2]}\n"]
                elif not re.match(r"1\.\.\d+\n", line):
                    lines.append(line)
    print("".join(unclaimed + [line for name in number for line in results.get(name, [])]), end="", flush=True)
    sys.exit(status)


def main(lanes=1):
    """Runs every case, or those whose name contains an argument of the script; in `lanes`, so many at a
    time, each lane in namespaces of its own: for cases that mostly wait."""
    chosen = [(name, function) for name, function in _cases
              if all(word in name for word in sys.argv[1:])]
    lanes = min(lanes, len(chosen))
    if lanes > 1:
        if "MANDOS_LANE" not in os.environ:
            run_in_lanes(chosen, lanes)
        chosen = chosen[int(os.environ["MANDOS_LANE"])::lanes]
    enter_namespaces()
    print(f"1..{len(chosen)}", flush=True)
    failed = 0
    for number, (name, function) in enumerate(chosen, 1):
        Server.current = None
        try:
            function()
            print(f"ok {number} - {name}", flush=True)
        except Exception as problem:
            failed += 1
            print(f"not ok {number} - {name}", flush=True)
            expected = isinstance(problem, (Failure, subprocess.TimeoutExpired))
            story = [str(problem)] if expected else traceback.format_exc().splitlines()
            if Server.current:
                story += ["-- stderr"] + Server.current.stderr().splitlines()[-60:]
                story += ["-- log"] + Server.current.log.lines[-60:]
            print("\n".join("# " + line for line in story), flush=True)
        kill_rest()
    remove_temporary()
    sys.exit(1 if failed else 0)
