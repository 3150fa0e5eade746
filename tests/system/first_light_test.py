#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""The whole server against clients good and bad, and against its own death."""
import contextlib, json, os, pathlib, pwd, re, shutil, signal, socket, subprocess, sys, threading, time

import harness
from harness import (Configuration, Server, case, expect, expect_equal, expect_nothing_left,
                     expect_outcome, fetch, wait_until)

# One packet, encrypted data (RFC 9580, section 4.2): a start does not warn of it.
BLOB = b"\xd2\x19\x01what the client may have"
ROLES = ("monitor", "networker", "checker-runner")
KINDS = ("ed25519", "ed448", "p256", "p384", "p521", "rsa3072")
MANDOS = harness.PREFIX / "sbin/mandos"
LOAD_CLIENT = harness.BUILD / "tests/bench/load-client"


def forgiving(**options):
    """A configuration under which one address may misbehave again and again."""
    config = Configuration()
    config.server_options = {"source_penalty_time": "PT0S", "login_grace_time": "PT2S"} | options
    return config


def one_client(**options):
    """(running server, key file) with one client that may have BLOB."""
    key, key_id = harness.test_key()
    return Server(forgiving(**options).client("good", key_id, BLOB)), key


def expect_served(key, blob=BLOB, options=()):
    fetched = fetch(*options, key=key)
    expect_outcome(fetched, "blob")
    expect(fetched.blob == blob, f"another blob came than was configured: {len(fetched.blob)} bytes")
    return fetched


# ---------------------------------------------------------------- who gets what

@case("the real mandos-client decrypts its passphrase")
def _():
    keys, section = harness.real_client()
    config = Configuration()
    config.clients["real"] = section
    with Server(config):
        for _ in range(2):
            expect_equal(harness.run_real_client(keys), b"correct horse battery staple",
                         "passphrase")


def serves_key(kind, retry):
    key, key_id = harness.test_key(kind)
    other, _ = harness.test_key(kind)
    options = ["--groups", "SECP384R1"] if retry else []
    with Server(forgiving().client("good", key_id, BLOB)) as server:
        fetched = expect_served(key, options=options)
        expect(f"hello_retried={'yes' if retry else 'no'}" in fetched.detail, fetched.detail)
        expect_outcome(fetch(*options, key=other), "nothing")
        expect_served(key, options=options)
        expect_equal(len(server.pids("networker")), 1, "networkers")


for kind in KINDS:
    for retry in (False, True):
        case(f"a key of type {kind} is served{' after a HelloRetryRequest' * retry}, another is not"
             )(lambda kind=kind, retry=retry: serves_key(kind, retry))


@case("an RSA key of 2048 bits gets nothing")
def _():
    key, key_id = harness.test_key("rsa2048")
    with Server(forgiving().client("weak", key_id, BLOB)):
        expect_outcome(fetch(key=key), "nothing", "no-handshake")


@case("a disabled client gets nothing")
def _():
    key, key_id = harness.test_key()
    with Server(forgiving().client("off", key_id, BLOB, enabled="False")):
        for _ in range(3):
            expect_outcome(fetch(key=key), "nothing")


@case("blobs of any size from 1 byte to 1 MiB arrive whole, also at a slow reader")
def _():
    config, keys = forgiving(), []
    for size in (1, 2, 1023, 16383, 16384, 16385, 65535, 65536, 65537, 1 << 20):
        key, key_id = harness.test_key()
        keys.append((key, os.urandom(size)))
        config.client(f"of{size}", key_id, keys[-1][1])
    with Server(config):
        for key, blob in keys:
            expect_served(key, blob)
        for key, blob in keys[-2:]:
            expect_served(key, blob, ["--read-size", len(blob) // 200, "--read-pause", 5])


# ---------------------------------------------------------------- peers that do not do as they should

REFUSED_TLS = {
    "TLS 1.2": ["--tls12"],
    "an X.509 certificate": ["--x509"],
    "a request for a certificate": ["--request-certificate"],
}
for name, options in REFUSED_TLS.items():
    @case(f"{name} gets nothing, although the key is configured")
    def _(options=options):
        server, key = one_client()
        with server:
            expect_outcome(fetch(*options, key=key), "nothing", "no-handshake")
            expect_served(key)


@case("version lines: 0 and 1 pass, with or without more; others do not")
def _():
    server, key = one_client()
    with server:
        for line in ("1", "0", "1 foo", " 1", "1\t2", "-1"):
            expect_served(key, options=["--line", line])
        expect_served(key, options=["--opening", r"1\n"])
        for line in ("2", "foo", "", " ", "1foo", "1.0", "99999999999999999999999999"):
            expect_outcome(fetch("--line", line, key=key), "closed-early")


@case("junk instead of a version line is closed at once")
def _():
    server, key = one_client()
    with server:
        for junk in (r"\x16\x03\x01\x00\x05hello\n", r"GET / HTTP/1.0\r\n\r\n", r"\x00\x00\x00\n",
                     r"\xff\xfe\n", "1" * 300 + r"\n"):
            start = time.monotonic()
            expect_outcome(fetch("--opening", junk, key=key), "closed-early")
            expect(time.monotonic() - start < 1 * harness.SLACK, "not at once")
        expect_served(key)


@case("junk instead of a ServerHello gets nothing")
def _():
    server, key = one_client()
    with server:
        for junk in (b"\x16\x03\x03\x00\x04\x02\x00\x00\x00", b"\x15\x03\x03\x00\x02\x02\x28",
                     b"\x17\x03\x03\xff\xff" + bytes(70000), os.urandom(2000)):
            with socket.create_connection(("::1", harness.PORT), 5) as peer:
                peer.sendall(b"1\r\n")
                expect(peer.recv(1), "no ClientHello")
                with contextlib.suppress(ConnectionError):
                    peer.sendall(junk)
                    while peer.recv(65536):
                        pass
        expect_served(key)
        expect_equal(len(server.pids("networker")), 1, "networkers")


@case("silence, a started line and an endless line are ended in time")
def _():
    server, key = one_client()
    with server:
        for options, most in ((["--silent"], 3), (["--opening", "1"], 3), (["--endless"], 1)):
            start = time.monotonic()
            expect_outcome(fetch(*options, key=key), "closed-early")
            expect(time.monotonic() - start < most * harness.SLACK, f"{options} held out long")
        expect_served(key)


@case("half handshakes are ended in time")
def _():
    server, key = one_client()
    with server:
        cuts = [["--stall-after", str(cut)] for cut in (0, 1, 5, 50, 200, 300, 400)]
        started = [harness.start_fetch(*options, key=key)
                   for options in cuts + [["--stall-after-server-hello"]]]
        for one in started:
            expect_outcome(harness.finish_fetch(one), "no-handshake")
        expect_served(key)


@case("a bit that is flipped under way gets nothing")
def _():
    server, key = one_client()
    with server:
        # Beyond the header of the first record, whose version field has no meaning.
        for place in range(7, 407, 24):
            fetched = fetch("--flip-byte", place, key=key)
            expect(fetched.outcome != "blob" or 128 <= place < 139, f"byte {place}: served")
        expect_served(key)


@case("a peer that talks or asks for new keys after the handshake is served all the same")
def _():
    server, key = one_client()
    with server:
        expect_served(key, options=["--talk", 1000])
        expect_served(key, options=["--key-update"])


@case("peers that hang up at any point leave nothing behind")
def _():
    server, key = one_client()
    with server:
        networker = server.pid("networker")
        expect_served(key)
        before = len(os.listdir(f"/proc/{networker}/fd"))
        for point in ("connected", "line", "client-hello", "stalled", "handshake", "waiting", "blob"):
            for reset in ([], ["--reset"]):
                for _ in range(3):
                    expect_outcome(fetch("--hang-up", point, *reset, key=key,
                                         *["--stall-after-server-hello"] * (point == "stalled")),
                                   "hung-up")
        wait_until(lambda: len(os.listdir(f"/proc/{networker}/fd")) == before,
                   "the networker has as many descriptors as before", 3)
        expect_served(key)
        expect_equal(server.pid("networker"), networker, "the networker is the same process")


@case("200 silent peers do not keep a real client out")
def _():
    keys, section = harness.real_client()
    config = Configuration()
    config.clients["real"] = section
    with Server(config), contextlib.ExitStack() as peers:
        for number in range(200):
            peer = peers.enter_context(socket.socket(socket.AF_INET6, socket.SOCK_STREAM))
            peer.settimeout(5)
            with contextlib.suppress(ConnectionError):
                peer.connect(("::1", harness.PORT))
                if number % 2:
                    peer.sendall(b"1\r\n")
        # All from one address: as many as it may have are let in, and the oldest makes room.
        time.sleep(1.2)
        expect_equal(harness.run_real_client(keys), b"correct horse battery staple", "passphrase")


# ---------------------------------------------------------------- death of a process

@contextlib.contextmanager
def under_load():
    """A server with connections coming all the time, good ones and ones that must get nothing; at
    the end no good blob may be a wrong one and no bad one may have got any."""
    load_client = harness.BUILD / "tests/bench/load-client"
    run = lambda *arguments: subprocess.run([load_client, *map(str, arguments)], check=True,
                                            capture_output=True, text=True).stdout
    files = {name: harness.temporary() / f"{name}.pem" for name in ("good", "off", "unknown")}
    ids = {name: run("--generate", 4, "--keys", file).split() for name, file in files.items()}
    key, key_id = harness.test_key()
    config = forgiving(login_grace_time="PT15S").client("probe", key_id, BLOB)
    for number in range(4):
        config.client(f"good{number}", ids["good"][number], b"x" * 1000)
        config.client(f"off{number}", ids["off"][number], b"x" * 1000, enabled="False")
    with Server(config) as server:
        loads = {name: subprocess.Popen(
            [load_client, "--port", str(harness.PORT), "--keys", file, "--concurrency", "4",
             "--rate", "100", "--seconds", "600", "--blob-size", "1000", "--timeout", "5"],
            stdout=subprocess.PIPE) for name, file in files.items()}
        time.sleep(0.3)
        yield server, key, loads
        for load in loads.values():
            load.kill()
            load.wait()


def first_served_after(key, moment):
    """Seconds from `moment` until a client was served."""
    def served():
        return fetch("--timeout", 1, key=key).outcome == "blob"
    wait_until(served, "service is back", 10)
    return time.monotonic() - moment


for role in ROLES:
    @case(f"kill -9 of the {role} under load: service is back within 2 seconds, three times")
    def _(role=role):
        with under_load() as (server, key, _):
            for _ in range(3):
                killed = server.pid(role)
                others = {r: server.pids(r) for r in ROLES if role not in (r, "monitor")}
                moment = time.monotonic()
                os.kill(killed, signal.SIGKILL)
                took = first_served_after(key, moment)
                expect(took < 2 * harness.SLACK, f"back after {took:.2f} s")
                expect(server.pid(role, other_than=killed), "it runs again")
                for other in ROLES:
                    expect_equal(len(wait_until(lambda: server.pids(other), f"a {other}")), 1,
                                 f"processes of the role {other}")
                for other, pids in others.items():
                    expect_equal(server.pids(other), pids, f"the {other} went on")


@case("those who may get nothing get nothing while processes die")
def _():
    load_client = harness.BUILD / "tests/bench/load-client"
    with under_load() as (server, key, loads):
        for load in loads.values():
            load.kill()
            load.wait()
        counted = {name: subprocess.Popen(
            [load_client, "--port", str(harness.PORT), "--keys",
             harness.temporary() / f"{name}.pem", "--concurrency", "4", "--rate", "200",
             "--seconds", "4", "--blob-size", "1000", "--timeout", "3"],
            stdout=subprocess.PIPE, text=True) for name in loads}
        for role in ROLES * 2:
            time.sleep(0.4)
            os.kill(server.pid(role), signal.SIGKILL)
        results = {name: json.loads(load.communicate()[0])
                   for name, load in counted.items()}
        for name in ("off", "unknown"):
            expect_equal([results[name][end] for end in ("served", "wrong_blob", "truncated")],
                         [0, 0, 0], f"blobs that went to the {name} ones")
        expect(results["good"]["served"] > 0, "nobody was served at all")
        expect_equal(results["good"]["wrong_blob"], 0, "wrong blobs")


@case("SIGKILL of the supervisor leaves no child")
def _():
    with under_load() as (server, key, loads):
        for load in loads.values():
            load.kill()
            load.wait()
        server.process.kill()
        server.process.wait()
        expect_nothing_left()


for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
    @case(f"{number.name} ends all with status 0, under load, and leaves nothing")
    def _(number=number):
        with under_load() as (server, key, loads):
            server.process.send_signal(number)
            status = server.process.wait(10 * harness.SLACK)
            for load in loads.values():
                load.kill()
                load.wait()
            expect_equal(status, 0, "exit status")
            expect_nothing_left(0)
            expect(server.notices.find("^STOPPING=1"), "no STOPPING=1 was sent")


# ---------------------------------------------------------------- how it is started

def run_mandos(config, *arguments, seconds=20, **popen):
    """Runs the server's program to its end: (exit status, what it printed)."""
    config.write()
    ran = subprocess.run([MANDOS, "--no-dbus", "--no-zeroconf", "--configdir", config.directory,
                          "--statedir", config.state, *map(str, arguments)], timeout=seconds,
                         stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                         text=True, **popen)
    return ran.returncode, ran.stdout


PID_FILE = pathlib.Path("/run/mandos.pid")


def start_in_background():
    """A server with one client: its key and key ID, and the process that the PID file names."""
    harness.DatagramSink("/dev/log")
    key, key_id = harness.test_key()
    status, output = run_mandos(forgiving().client("good", key_id, BLOB), "--address", "::1",
                                "--port", harness.PORT)
    expect_equal((status, output), (0, ""), "status and output of the start")
    pid = int(PID_FILE.read_text())
    return key, key_id, pid


@case("in the background: PID file, exit status 0 once it serves; SIGTERM removes both")
def _():
    key, _key_id, pid = start_in_background()
    expect_equal(harness.role_of(pid), "supervisor", "whom the PID file names")
    expect_served(key)
    expect_equal({os.readlink(f"/proc/{one}/fd/{fd}") for one in harness.tree(pid)
                  for fd in (0, 1, 2) if os.path.exists(f"/proc/{one}/fd/{fd}")
                  and not os.readlink(f"/proc/{one}/fd/{fd}").startswith("socket:")},
                 {"/dev/null"}, "standard input, output and error")
    expect_equal(os.getsid(pid), pid, "it leads a session of its own")
    os.kill(pid, signal.SIGTERM)
    wait_until(lambda: pid not in harness.processes(), "it ends")
    expect_nothing_left()
    expect(not PID_FILE.exists(), "the PID file is still there")


@case("--check ends as a start does without Zeroconf, port and socket: exit status 2")
def _():
    for arguments in [], ["--check"]:
        status, output = run_mandos(forgiving(), *arguments)
        expect(status == 2 and "without Zeroconf a port or a socket is needed" in output,
               f"{arguments}: {status}: {output!r}")
        wrong = forgiving()
        wrong.server_options["networkers"] = 0
        status, output = run_mandos(wrong, *arguments)
        expect(status == 1 and "networkers" in output, f"{arguments}: {status}: {output!r}")


@case("a second start by hand says that mandos already runs, and changes nothing")
def _():
    harness.DatagramSink("/dev/log")
    key, key_id = harness.test_key()

    def expect_refused(pid):
        # On the port of the first, and on another one: the PID file would be the same.
        for port in harness.PORT, harness.PORT + 1:
            status, output = run_mandos(forgiving().client("bad", key_id, b"no"), "--address", "::1",
                                        "--port", port)
            expect_equal((status, output), (1, f"mandos: already runs, as process {pid}: "
                                               "nothing was changed\n"), "the second start")

    status, output = run_mandos(forgiving().client("good", key_id, BLOB), "--address", "::1",
                                "--port", harness.PORT, umask=0o077)
    expect_equal((status, output), (0, ""), "status and output of the start")
    pid = int(PID_FILE.read_text())
    expect_refused(pid)
    expect_equal(int(PID_FILE.read_text()), pid, "the PID file")
    expect_equal(PID_FILE.stat().st_mode & 0o7777, 0o644, "its mode")
    expect_served(key)
    os.kill(pid, signal.SIGTERM)
    wait_until(lambda: pid not in harness.processes(), "it ends")
    expect_nothing_left()
    # One in the foreground has no PID file, and is found all the same.
    server, key = one_client()
    with server:
        pid = server.pid("supervisor")
        expect_refused(pid)
        # One in the foreground may have a place of its own. If not, this is the reason.
        for option in "--foreground", "--debug":
            status, output = run_mandos(forgiving().client("bad", key_id, b"no"), "--address", "::1",
                                        "--port", harness.PORT, option)
            expect(status == 1 and f"mandos already runs, as process {pid}," in output.splitlines()[0], output)
        expect_served(key)


CONTROL = pathlib.Path("/run/mandos/control")


@case("a server whose runtime directory was removed keeps its lock and its PID file")
def _():
    key, key_id, pid = start_in_background()
    for remove in lambda: shutil.rmtree(CONTROL.parent), CONTROL.unlink, lambda: shutil.rmtree(CONTROL.parent):
        remove()
        wait_until(CONTROL.exists, "the control socket is there again")
        expect_equal((CONTROL.stat().st_mode & 0o7777, CONTROL.parent.stat().st_mode & 0o7777), (0o600, 0o700), "modes")
        status, output = run_mandos(forgiving().client("bad", key_id, b"no"), "--address", "::1",
                                    "--port", harness.PORT + 1)
        expect_equal((status, output), (1, f"mandos: already runs, as process {pid}: "
                                           "nothing was changed\n"), "the second start")
        expect_equal(int(PID_FILE.read_text()), pid, "the PID file")
    # A file that names no server is removed as our own is; one that names another server stays.
    PID_FILE.write_text("1\n")
    os.kill(pid, signal.SIGTERM)
    wait_until(lambda: pid not in harness.processes(), "it ends")
    expect(not PID_FILE.exists(), "a PID file that names no server")
    expect_nothing_left()
    server, key = one_client()
    with server:
        first = server.pid("supervisor")
        PID_FILE.write_text(f"{first}\n")
        # The lock is gone with the directory, and the first cannot notice.
        os.kill(first, signal.SIGSTOP)
        shutil.rmtree(CONTROL.parent)
        status, output = run_mandos(forgiving().client("good", key_id, BLOB), "--address", "::1",
                                    "--port", harness.PORT + 1)
        expect_equal(int(PID_FILE.read_text()), first, f"the PID file after {status}: {output}")
        second, = (one for one in harness.processes() if harness.role_of(one) == "supervisor" and one != first)
        os.kill(second, signal.SIGTERM)
        wait_until(lambda: second not in harness.processes(), "it ends")
        expect_equal(int(PID_FILE.read_text()), first, "the PID file when the second has ended")
        os.kill(first, signal.SIGCONT)
        expect_served(key)
    PID_FILE.unlink()


@contextlib.contextmanager
def syslog_daemon():
    """A socket under the name of the syslog daemon's, which nobody else listens on."""
    path = pathlib.Path("/dev/log")
    path.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as daemon:
        daemon.bind(str(path))
        daemon.settimeout(10 * harness.SLACK)
        yield daemon
    path.unlink()


@case("in the background: a syslog daemon that starts after it, and one that starts anew, get its lines")
def _():
    key, key_id = harness.test_key()

    def start():
        status, output = run_mandos(forgiving().client("good", key_id, BLOB), "--address", "::1",
                                    "--port", harness.PORT)
        expect_equal((status, output), (0, ""), "status and output of the start")

    def expect_told(daemon):
        expect_served(key)
        while b"verdict=granted" not in daemon.recv(65536):
            pass

    for there_at_start in False, True:
        with syslog_daemon() if there_at_start else contextlib.nullcontext() as daemon:
            start()
            if there_at_start:
                expect_told(daemon)
        for _ in range(2):
            with syslog_daemon() as daemon:
                expect_told(daemon)
        os.kill(int(PID_FILE.read_text()), signal.SIGTERM)
        wait_until(lambda: not PID_FILE.exists(), "it ends")
        expect_nothing_left()


@case("a syslog daemon that is behind gets every audit line; of one that hangs, their number is told")
def _():
    pathlib.Path("/proc/sys/net/unix/max_dgram_qlen").write_text("10")
    keys = harness.temporary() / "keys.pem"
    made = subprocess.run([LOAD_CLIENT, "--generate", "8", "--keys", keys], check=True,
                          capture_output=True, text=True)
    config = forgiving()
    for number, key_id in enumerate(made.stdout.split()):
        config.client(f"client{number}", key_id, BLOB)

    def load(count):
        ran = subprocess.run([LOAD_CLIENT, "--host", "::1", "--port", str(harness.PORT), "--keys", keys,
                              "--concurrency", "30", "--connections", str(count)], check=True,
                             capture_output=True, text=True)
        expect_equal(json.loads(ran.stdout)["served"], count, "served")

    with syslog_daemon() as daemon:
        status, output = run_mandos(config, "--address", "::1", "--port", harness.PORT)
        expect_equal((status, output), (0, ""), "status and output of the start")
        lines = []

        def read(until, pause=0):
            while not lines or not until(lines[-1]):
                lines.append(daemon.recv(65536).decode())
                time.sleep(pause)
        # Slower than they come.
        reading = threading.Thread(target=read, args=(lambda line: "the last" in line, 0.005))
        reading.start()
        load(100)
        load(1)  # before whose line is told what is missing
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
            end.sendto(b"the last", "/dev/log")
        reading.join()
        granted = sum("verdict=granted" in line for line in lines)
        lost = sum(map(int, re.findall(r": (\d+) log lines were lost", "".join(lines))))
        # None, but where this process gets no processor for a tenth of a second.
        expect(granted >= 80 and granted + lost >= 101, f"{granted} audit lines, {lost} said to be lost")
        begun = time.monotonic()
        load(200)  # nobody reads
        expect(time.monotonic() - begun < 5 * harness.SLACK, "nobody waits for it at each line")
        lines.clear()
        daemon.settimeout(0.5)
        with contextlib.suppress(TimeoutError):
            read(lambda line: False)
        kept = sum("verdict=granted" in line for line in lines)
        expect(0 < kept < 50, f"lines that the daemon's queue kept: {kept}")
        lines.clear()
        daemon.settimeout(10 * harness.SLACK)
        load(1)
        read(lambda line: "verdict=granted" in line)
        # Others may have been among them.
        lost = int(re.search(r": (\d+) log lines were lost", "".join(lines))[1])
        expect(200 - kept <= lost <= 240 - kept, f"{lost} said to be lost, {kept} kept")
    os.kill(int(PID_FILE.read_text()), signal.SIGTERM)
    wait_until(lambda: not PID_FILE.exists(), "it ends")
    expect_nothing_left()


@case("in the background: a start that fails says why, with a status other than 0")
def _():
    harness.DatagramSink("/dev/log")
    with socket.create_server(("::1", harness.PORT), family=socket.AF_INET6):
        status, output = run_mandos(forgiving(), "--address", "::1", "--port", harness.PORT)
    expect(status not in (0, None) and str(harness.PORT) in output, f"{status}: {output!r}")
    broken = forgiving()
    broken.client("bad", "not a key ID")
    status, output = run_mandos(broken, "--address", "::1", "--port", harness.PORT)
    expect(status != 0 and "clients.conf" in output, f"{status}: {output!r}")
    expect_nothing_left()
    expect(not PID_FILE.exists(), "a PID file of a server that does not run")


@case("readiness, status text and the end are told to the service manager")
def _():
    server, _ = one_client()
    with server:
        server.notices.wait_for(r"^STATUS=.*\b1 client")
        expect_equal(server.stop(), 0, "exit status")
        expect(server.notices.find("^STOPPING=1"), "no STOPPING=1")


@case("the watchdog is fed while the monitor answers, and not when it hangs")
def _():
    server = Server(forgiving(), env={"WATCHDOG_USEC": "600000"})
    with server:
        server.notices.wait_for("^WATCHDOG=1", 3)
        monitor = server.pid("monitor")
        os.kill(monitor, signal.SIGSTOP)
        time.sleep(0.7)
        before = len(server.notices.lines)
        time.sleep(1.5)
        expect(not server.notices.find("^WATCHDOG=1", before), "fed without an answer")
        os.kill(monitor, signal.SIGCONT)
        server.notices.wait_for("^WATCHDOG=1", 3, before)


def listening():
    """Ports of this namespace that listen."""
    return {int(line.split()[1].rpartition(":")[2], 16)
            for name in ("tcp", "tcp6") for line in open(f"/proc/net/{name}")
            if line.split()[3] == "0A"}


def socket_at(number, listener):
    def prepare():
        os.dup2(listener.fileno(), number)
        os.set_inheritable(number, True)  # also where it was that already
    return {"preexec_fn": prepare, "close_fds": False}


@case("sockets passed by LISTEN_FDS are served, and no other is opened")
def _():
    key, key_id = harness.test_key()
    with socket.create_server(("::1", 4712), family=socket.AF_INET6) as listener:
        with Server(forgiving().client("good", key_id, BLOB), command=[
                "sh", "-c", 'export LISTEN_FDS=1 LISTEN_PID=$$; exec "$0" "$@"', MANDOS],
                **socket_at(3, listener)):
            listener.close()
            expect_served(key, options=["--port", 4712])
            expect_equal(listening(), {4712}, "listening ports")


@case("LISTEN_FDS of another process is ignored")
def _():
    with Server(forgiving(), env={"LISTEN_FDS": "1", "LISTEN_PID": "1"}):
        expect_equal(listening(), {harness.PORT}, "listening ports")


@case("what the caller left open is open in no process of the server")
def _():
    command = ["sh", "-c", 'exec 9< /etc/hostname; exec "$0" "$@"', harness.PREFIX / "sbin/mandos"]
    with Server(forgiving(), command=command) as server:
        for role in ("supervisor", "monitor", "networker", "checker-runner"):
            leads = {os.readlink(each) for each in pathlib.Path(f"/proc/{server.pid(role)}/fd").iterdir()}
            expect(len(leads) > 3 and not any("hostname" in each for each in leads), f"{role}: {leads}")


@case("--socket serves an inherited socket, also after the monitor has died")
def _():
    key, key_id = harness.test_key()
    with socket.create_server(("::1", 4712), family=socket.AF_INET6) as listener:
        with Server(forgiving().client("good", key_id, BLOB), "--socket", "3",
                    **socket_at(3, listener)) as server:
            listener.close()
            expect_served(key, options=["--port", 4712])
            os.kill(server.pid("monitor"), signal.SIGKILL)
            wait_until(lambda: fetch("--port", 4712, "--timeout", 1, key=key).outcome == "blob",
                       "service is back", 3)
            expect_equal(listening(), {4712}, "listening ports")


@case("--socket serves a socket that is descriptor 0, 1 or 2, too")
def _():
    key, key_id = harness.test_key()
    for number in range(3):
        with socket.create_server(("::1", 4712), family=socket.AF_INET6) as listener:
            with Server(forgiving().client("good", key_id, BLOB), "--socket", str(number),
                        **socket_at(number, listener)):
                listener.close()
                expect_served(key, options=["--port", 4712])
                expect_equal(listening(), {4712}, "listening ports")
    status, output = run_mandos(forgiving(), "--socket", "0")
    expect_equal(status, 1, "exit status without a socket")
    expect("descriptor 0: " in output, f"no word of the descriptor in {output!r}")


@case("--interface and --no-ipv6 take effect")
def _():
    key, key_id = harness.test_key()
    config = forgiving().client("good", key_id, BLOB)
    with Server(config, "--interface", "lo"):
        expect_served(key)
    with Server(config, "--no-ipv6", address="127.0.0.1"):
        expect_served(key, options=["--host", "127.0.0.1"])
        expect_outcome(fetch(key=key), "no-connection")


@case("wrong configuration: every mistake is told in one run, with its place")
def _():
    config = forgiving(port="99999", debug="perhaps")
    status, output = run_mandos(config)
    expect(status != 0, "it started")
    for wanted in ("mandos.conf", "port", "99999", "debug", "perhaps"):
        expect(wanted in output, f"no word of {wanted!r} in {output!r}")
    config = forgiving()
    key, key_id = harness.test_key()
    config.client("first", key_id, BLOB, timeout="fortnight")
    config.client("second", "123", BLOB, enabled="maybe")
    status, output = run_mandos(config, "--port", harness.PORT, "--foreground")
    expect(status != 0, "it started")
    for wanted in ("first", "fortnight", "second", "123", "maybe"):
        expect(wanted in output, f"no word of {wanted!r} in {output!r}")
    lines = re.findall(r"clients\.conf:\d+", output)
    expect(len(set(lines)) >= 3, f"fewer than three places in {output!r}")
    expect_nothing_left()


@case("wrong file modes and owners are refused with the reason")
def _():
    key, key_id = harness.test_key()
    for change in (lambda file: file.chmod(0o644), lambda file: os.chown(file, 65534, 65534)):
        config = forgiving().client("good", key_id, BLOB).write()
        config.write = lambda config=config: config
        change(config.directory / "clients.conf")
        status, output = run_mandos(config, "--port", harness.PORT, "--foreground")
        expect(status != 0 and "clients.conf" in output, f"{status}: {output!r}")


@case("usage errors, --help and --version")
def _():
    config = forgiving()
    for arguments, status, words in ((["--port", "0"], 2, "(?i)zeroconf"),
                                     (["--frobnicate"], 2, "frobnicate"),
                                     (["--port", "many"], 2, "many"),
                                     (["--help"], 0, "--configdir"), (["--version"], 0, r"\d\.\d")):
        found, output = run_mandos(config, *arguments)
        expect(found == status and re.search(words, output), f"{arguments}: {found}, {output!r}")


@case("a priority string that cannot do TLS 1.3 with raw public keys is an error at start")
def _():
    for priority in ("NORMAL:-VERS-ALL:+VERS-TLS1.2:+CTYPE-RAWPK", "NORMAL:-VERS-TLS1.3",
                     "nonsense", "NONE"):
        status, output = run_mandos(forgiving(), "--port", harness.PORT, "--foreground",
                                    "--priority", priority)
        expect(status != 0 and "priority" in output.lower(), f"{priority}: {status}: {output!r}")
    expect_nothing_left()


@case("--debug tells what happens on standard error, and no secret")
def _():
    secret = b"never to be seen in any log"
    key, key_id = harness.test_key()
    with Server(forgiving().client("good", key_id, secret), "--debug") as server:
        expect_served(key, secret)
        wait_until(lambda: "good" in server.stderr(), "the client's name in the log")
        expect("GnuTLS" not in server.stderr(), "GnuTLS talks, though it was asked to once only")
    with Server(forgiving().client("good", key_id, secret), "--debug", "--debug") as server:
        expect_served(key, secret)
        wait_until(lambda: "GnuTLS" in server.stderr(), "GnuTLS talks")
        told = server.stderr() + "\n".join(server.log.lines)
        encoded = server.config.clients["good"]["secret"]
        for shape in (secret.decode(), secret.hex(), secret.hex().upper(), encoded[:20]):
            expect(shape not in told, "the secret is in the log")
        for pid in harness.tree(server.process.pid):
            for place in ("cmdline", "environ"):
                content = pathlib.Path(f"/proc/{pid}/{place}").read_bytes()
                expect(secret not in content and encoded.encode() not in content,
                       f"the secret is in {place} of the {harness.role_of(pid)}")


@case("who got what and who did not goes to syslog, also after its restart")
def _():
    server, key = one_client(debuglevel="INFO")
    with server:
        expect_served(key)
        server.log.wait_for("audit: verdict=granted client=.good.")
        server.log = harness.DatagramSink("/dev/log")
        stranger, stranger_id = harness.test_key()
        expect_outcome(fetch(key=stranger), "nothing")
        server.log.wait_for(f"audit: verdict=refused.*{stranger_id}")


# ---------------------------------------------------------------- jails

# Every capability but those that open undumpable processes: ptrace(2); of late also
# perfmon_capable() in the kernel.
WITHOUT_PTRACE = ["setpriv", "--bounding-set=-sys_ptrace,-perfmon,-sys_admin",
                  "--inh-caps=-sys_ptrace,-perfmon,-sys_admin"]


def readable_without_ptrace(pid):
    """Whether the memory of a process of ours, which holds no more than we do, can be read."""
    return subprocess.run([*WITHOUT_PTRACE, "cat", f"/proc/{pid}/environ"],
                          capture_output=True).returncode == 0


def dumpable(pid, uid):
    if uid == 0:
        return readable_without_ptrace(pid)
    return os.stat(f"/proc/{pid}/environ").st_uid != 0  # proc(5): root's unless dumpable


def documented_table():
    """{process: {column: value}} of the table that SECURITY.md marks for this."""
    text = (harness.SOURCE / "SECURITY.md").read_text().partition("<!-- test: process-table -->\n")[2]
    rows = [[cell.strip() for cell in line.strip("|").split("|")]
            for line in text.partition("\n\n")[0].splitlines()]
    return {row[0]: dict(zip(rows[0], row)) for row in rows[2:]}


@case("each running process has the identity and the jail that SECURITY.md says")
def _():
    server, _ = one_client()
    with server:
        sleeper = subprocess.Popen([*WITHOUT_PTRACE, "sleep", "60"])
        wait_until(lambda: harness.role_of(sleeper.pid) == "sleep", "sleep runs")
        expect(readable_without_ptrace(sleeper.pid), "the look at a dumpable process itself fails")
        sleeper.kill()
        sleeper.wait()
        documented, seen = documented_table(), set()
        for pid in harness.tree(server.process.pid):
            role, status = harness.role_of(pid), harness.status_of(pid)
            expect(role in documented, f"SECURITY.md does not know {role}")
            uids, gids = set(status["Uid"].split()), set(status["Gid"].split())
            expect_equal((len(uids), len(gids)), (1, 1), f"{role}: users and groups")
            uid = int(uids.pop())
            found = status | {"process": role, "user": pwd.getpwuid(uid).pw_name,
                              "Groups": status["Groups"] or "none"}
            if documented[role]["Groups"] == "any":
                found["Groups"] = "any"
            if harness.sanitized():  # such a build has no filter, since sanitizers would die of it
                found["Seccomp"] = documented[role]["Seccomp"]
            expect_equal({column: found[column] for column in documented[role]}, documented[role],
                         role)
            expect(not dumpable(pid, uid), f"{role} is dumpable")
            limits = pathlib.Path(f"/proc/{pid}/limits").read_text()
            expect(re.search(r"Max core file size +0 +0", limits), f"{role}: core files allowed")
            seen.add(role)
        expect({"supervisor", *ROLES} <= seen, f"only these run: {seen}")


@case("the networker sees an empty root folder that it cannot write")
def _():
    server, key = one_client()
    with server:
        expect_served(key)
        root = f"/proc/{server.pid('networker')}/root"
        expect_equal(os.listdir(root), [], "what is in it")
        place = os.stat(root)
        expect_equal((place.st_uid, place.st_mode & 0o022), (0, 0), "owner, and who may write")


@case("no process holds a descriptor that is not its own")
def _():
    server, key = one_client()
    with server:
        expect_served(key)
        time.sleep(0.2)
        for pid in harness.tree(server.process.pid):
            role = harness.role_of(pid)
            for fd in os.listdir(f"/proc/{pid}/fd"):
                with contextlib.suppress(FileNotFoundError):
                    target = os.readlink(f"/proc/{pid}/fd/{fd}")
                    own = target.startswith(("socket:", "anon_inode:", "pipe:", "/dev/null",
                                             "/memfd:", "/secretmem")) or "mandos-test-" in target
                    # It sees by this that a checker has left nobody behind.
                    own = own or role == "checker-runner" and target.endswith("/children")
                    # Its lock on this directory says that a server runs.
                    own = own or role == "supervisor" and target == "/run/mandos"
                    expect(own, f"{role} has {target} open as {fd}")
                    expect(role == "monitor" or "config-" not in target,
                           f"{role} has {target} open")


@case("a checker runs as _mandos, under no_new_privs, with NET_RAW and nothing else")
def _():
    out = harness.temporary() / "checker-out"
    out.mkdir()
    out.chmod(0o777)
    key, key_id = harness.test_key()
    config = forgiving().client("good", key_id, BLOB, interval="PT1S",
                                checker=f"cat /proc/self/status > {out}/status.%%(name)s")
    with Server(config):
        file = out / "status.good"
        text = wait_until(lambda: file.exists() and file.read_text(), "the checker wrote")
        status = dict(line.split(":", 1) for line in text.splitlines())
        expect_equal(set(status["Uid"].split()), {str(pwd.getpwnam("_mandos").pw_uid)}, "user")
        for which in ("CapBnd", "CapAmb", "CapPrm"):
            expect_equal(int(status[which], 16), 1 << 13, f"{which}, where 13 is NET_RAW")
        expect_equal(status["NoNewPrivs"].strip(), "1", "no_new_privs")


harness.main()
