#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""The walls between the processes of a running server: what each is given, what each keeps in
memory, and that the jails hold whatever allocates their memory."""
import base64, contextlib, errno, glob, os, pathlib, platform, re, shutil, signal, struct, subprocess
import sys, time

try:
    from gi.repository import Gio, GLib
except ImportError:
    if sys.executable == "/usr/bin/python3":
        raise
    os.execv("/usr/bin/python3", ["/usr/bin/python3", *sys.argv])

import harness, system_calls
from private_bus import start_daemon
from harness import Server, case, expect, expect_equal, expect_outcome, fetch, wait_until

ROLES = ("supervisor", "monitor", "networker", "checker-runner", "bus-agent")
BUS_SOCKET = "/run/dbus/another_socket"
BUS_ADDRESS = f"unix:path={BUS_SOCKET}"
CLIENT = "se.recompile.Mandos.Client"
BUS_CONFIG = """<busconfig><type>system</type><listen>{}</listen><auth>EXTERNAL</auth>
<policy context="default"><allow user="*"/><allow own="*"/><allow eavesdrop="true"/>
<allow send_destination="*" eavesdrop="true"/></policy></busconfig>"""
BLOB = b"what the client may have"


@contextlib.contextmanager
def bus():
    """A system bus of this namespace, not in the usual place."""
    config = harness.temporary() / "bus.conf"
    config.write_text(BUS_CONFIG.format(BUS_ADDRESS))
    os.makedirs(os.path.dirname(BUS_SOCKET), exist_ok=True)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(BUS_SOCKET)
    daemon = start_daemon(config)
    try:
        yield
    finally:
        daemon.kill()
        daemon.wait()


def call(path, interface, method, body=None):
    """Calls the server on the bus, over a connection of its own."""
    connection = Gio.DBusConnection.new_for_address_sync(
        BUS_ADDRESS, Gio.DBusConnectionFlags.AUTHENTICATION_CLIENT |
        Gio.DBusConnectionFlags.MESSAGE_BUS_CONNECTION, None, None)
    connection.set_exit_on_close(False)
    connection.call_sync("se.recompile.Mandos", path, interface, method, body, None,
                         Gio.DBusCallFlags.NONE, 20000, None)
    connection.close_sync(None)


def on_bus():
    """Whether the server is on the bus."""
    with contextlib.suppress(GLib.Error):
        call("/", "org.freedesktop.DBus.Peer", "Ping")
        return True


@contextlib.contextmanager
def five(config, *arguments, env=(), **options):
    """A server of all five processes: on a bus, without an announcement."""
    with bus():
        server = Server(config, "--debuglevel", "INFO", *arguments, without=("--no-zeroconf",),
                        env=dict(env, DBUS_SYSTEM_BUS_ADDRESS=BUS_ADDRESS), **options)
        try:
            yield server
            server.process.terminate()
            expect_equal(server.process.wait(10 * harness.SLACK), 0, "exit status")
        finally:
            server.process.kill()
            server.process.wait()
    expect_equal(server.alarms(), [], "alarms in the logs")
    harness.expect_nothing_left()


def by_role(server):
    """{role: process} of a server of five processes."""
    found = {role: server.pid(role) for role in ROLES}
    # And now and then a checker, which is the checker-runner until it has become its shell.
    wait_until(lambda: len(harness.tree(server.process.pid)) == len(ROLES), "five processes")
    return found


def one_client(blob=BLOB, **options):
    """(configuration, key file)"""
    key, key_id = harness.test_key()
    return harness.Configuration().client("good", key_id, blob, **options), key


def expect_served(key, blob=BLOB):
    fetched = fetch(key=key)
    expect_outcome(fetched, "blob")
    expect(fetched.blob == blob, "another blob came")


# ---------------------------------------------------------------- what each is given

@case("of the environment, networker and bus-agent get nothing but what they need")
def _():
    of_checker = pathlib.Path("/run/environment")
    of_checker.touch()
    of_checker.chmod(0o666)
    config, key = one_client(checker=f"env > {of_checker}", interval="PT1S")
    # Meson 1.5 and later set both variables in the environment of each test.
    for name in ("ASAN_OPTIONS", "UBSAN_OPTIONS"):
        os.environ.pop(name, None)
    given = {"MARKED_VARIABLE": "of the caller", "GNUTLS_DEBUG_LEVEL": "9", "HOME": "/marked",
             "G_MESSAGES_DEBUG": "all", "GLIBC_TUNABLES": "glibc.malloc.arena_max=1"}
    with five(config, env=given) as server:
        expect_served(key)
        for role, pid in by_role(server).items():
            text = pathlib.Path(f"/proc/{pid}/environ").read_bytes().decode()
            names = {variable.partition("=")[0] for variable in text.split("\0") if variable}
            if role == "networker":
                expect_equal(names, {"GLIBC_TUNABLES", "LD_BIND_NOW"}, role)
            elif role == "bus-agent":
                expect_equal(names, {"GLIBC_TUNABLES", "LD_BIND_NOW", "G_SLICE",
                                     "DBUS_SYSTEM_BUS_ADDRESS"}, role)
            else:
                expect(set(given) <= names, f"{role}: {names}")
            if role in ("monitor", "networker", "bus-agent"):
                expect("=glibc.cpu.hwcaps=-AVX512F,-AVX512VL\0" in text, f"{role}: {text}")
        text = wait_until(of_checker.read_text, "the checker's environment")
        expect_equal({name: value for name, _, value in (line.partition("=") for line in
                      text.splitlines()) if name in given or name == "LD_BIND_NOW"}, given,
                     "what a checker gets of the caller")
        expect("gnutls[" not in server.stderr(), "GnuTLS was told to talk by the environment")


# ---------------------------------------------------------------- what each says of its jail

LAYERS = {
    "supervisor": ["uid=0", "capabilities=(?=.*kill)(?=.*setuid)(?=.*net_raw)", "seccomp=deny-list"],
    "monitor": ["uid=0", "capabilities=none", "seccomp=allow-list", "landlock",
                "secrets=(memfd_secret|mlock)"],
    "networker": [r"uid=[1-9]", "root=empty", "capabilities=none", "seccomp=allow-list", "landlock"],
    "checker-runner": [r"uid=[1-9]", "capabilities=net_raw", "seccomp=deny-list", "landlock"],
    "bus-agent": [r"uid=[1-9]", "capabilities=none", "seccomp=allow-list", "landlock"],
}


def expect_jail_lines(lines):
    for role, layers in LAYERS.items():
        told = [line for line in lines if re.search(rf"{role}(\[\d+\])?: jail: ", line)]
        expect_equal(len(told), 1, f"lines of the {role}")
        for layer in [*layers, "no_new_privs", "undumpable", "limits"]:
            expect(re.search(layer, told[0]), f"no {layer} in {told[0]!r}")


@case("each of the five tells the layers of its jail in one line, in the foreground")
def _():
    config, _ = one_client()
    with five(config) as server:
        by_role(server)
        server.log.wait_for("bus-agent: jail: ")
        expect_jail_lines(server.log.lines)
        wait_until(lambda: "bus-agent: jail: " in server.stderr(), "the same on standard error")
        expect_jail_lines(server.stderr().splitlines())


@case("each of the five tells the layers of its jail in one line, in the background")
def _():
    config, _ = one_client()
    config.write()
    log = harness.DatagramSink("/dev/log")
    with bus():
        started = subprocess.run(
            [harness.PREFIX / "sbin/mandos", "--no-zeroconf", "--address", "::1", "--port",
             str(harness.PORT), "--debuglevel", "INFO", "--configdir", config.directory,
             "--statedir", config.state], stdin=subprocess.DEVNULL, capture_output=True, text=True,
            env=dict(os.environ, DBUS_SYSTEM_BUS_ADDRESS=BUS_ADDRESS))
        expect_equal(started.returncode, 0, f"status of the start: {started.stderr}")
        expect("mandos-supervisor" not in started.stderr, f"told to the caller: {started.stderr}")
        log.wait_for("bus-agent: jail: ")
        expect_jail_lines(log.lines)
        os.kill(int(pathlib.Path("/run/mandos.pid").read_text()), signal.SIGTERM)
        wait_until(lambda: not os.path.exists("/run/mandos.pid"), "it ends")


# ---------------------------------------------------------------- secrets in memory

def marked_secret(size):
    """(a secret of about `size` bytes, what betrays it in memory: as it is, in Base64, or as the
    words that SHA-256 makes of it)"""
    mark = os.urandom(48)
    encoded = base64.b64encode(mark)
    words = struct.pack("<12I", *struct.unpack(">12I", mark))
    return mark * (size // len(mark)), [shape[at:at + 16] for shape in (mark, encoded, words)
                                        for at in (0, 16, 32)]


class Mapping:
    """One mapping of a process, and whether its memory is locked and left out of core dumps."""

    def __init__(self, head, details):
        places, self.protection, _, _, _, *name = head.split(None, 5)
        self.start, self.end = (int(place, 16) for place in places.split("-"))
        self.name = name[0] if name else "anonymous"
        flags = re.search(r"VmFlags: (.*)", details).group(1).split()
        self.secret = {"lo", "dd"} <= set(flags)
        # What is of a file and cannot be written, and what was reserved and never used.
        empty = not re.search(r"(Rss|Swap): +[1-9]", details)
        self.boring = (self.name.startswith(("/", "[v")) and "w" not in self.protection or
                       self.protection.startswith("---") and empty)


def mappings(pid):
    text = pathlib.Path(f"/proc/{pid}/smaps").read_text()
    parts = re.split(r"(?m)^([0-9a-f]+-[0-9a-f]+ .*)\n", text)[1:]
    return [Mapping(head, details) for head, details in zip(parts[::2], parts[1::2])]


def found_in(pid, needles):
    """(names of the mappings that hold a needle, sizes of those that cannot be read), split into
    locked ones and others: {"secret": [...], "open": [...], "unreadable": [...]}."""
    result = {"secret": [], "open": [], "unreadable": []}
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
        for mapping in mappings(pid):
            if mapping.boring:
                continue
            content, at = bytearray(), mapping.start
            while at < mapping.end:
                try:
                    piece = os.pread(memory.fileno(), mapping.end - at, at)
                except OSError:
                    break
                if not piece:
                    break
                content += piece
                at += len(piece)
            if at < mapping.end:
                result["unreadable"].append(mapping.name)
            if any(needle in content for needle in needles):
                result["secret" if mapping.secret else "open"].append(mapping.name)
    return result


def everywhere(server):
    """{role: found_in} of every process that has the secret anywhere readable."""
    return lambda needles: {role: found for role, pid in by_role(server).items()
                            for found in [found_in(pid, needles)]
                            if found["secret"] or found["open"]}


def without_memfd_secret():
    """For preexec_fn: an older kernel."""
    system_calls.refuse("memfd_secret", errno.ENOSYS)


def expect_clean_places(server, needles, what):
    """Neither logs nor command lines nor environments nor the temporary folder hold the secret."""
    shapes = needles + [needle.hex().encode() for needle in needles[:3]]
    places = {"log": "\n".join(server.log.lines).encode(), "stderr": server.stderr().encode()}
    for role, pid in by_role(server).items():
        for file in ("cmdline", "environ"):
            places[f"{file} of the {role}"] = pathlib.Path(f"/proc/{pid}/{file}").read_bytes()
    for file in [*glob.glob("/tmp/*"), *glob.glob("/var/tmp/*"), *glob.glob("/run/*")]:
        if os.path.isfile(file):
            places[file] = pathlib.Path(file).read_bytes()
    for file in server.config.state.iterdir():
        if "good" not in file.name:
            places[f"state {file.name}"] = file.read_bytes()
    for place, content in places.items():
        expect(not any(shape in content for shape in shapes), f"{what} is in {place}")


def cores(server):
    """{role: the core that gdb writes of it, as gcore(1) does}"""
    found = {}
    for role, pid in by_role(server).items():
        file = harness.temporary() / f"core.{pid}"
        subprocess.run(["gdb", "-nx", "-batch", "-iex", "set auto-solib-add off", "-p", str(pid),
                        "-ex", f"gcore {file}"], stdin=subprocess.DEVNULL,
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=60)
        expect(file.exists(), f"gdb wrote no core of the {role}")
        found[role] = file.read_bytes()
        file.unlink()
    return found


def memory_hygiene(fallback):
    """`fallback`: without memfd_secret(2). Where the kernel has it, nobody at all can read the
    monitor's secret pages, root neither; without it they can be seen where they must be."""
    secret, needles = marked_secret(600_000)
    config, key = one_client(secret)
    other_key, other_id = harness.test_key()
    config.client("other", other_id, BLOB)
    options = {"preexec_fn": without_memfd_secret} if fallback else {}
    for file in ("tcp_wmem", "tcp_rmem"):  # so that it does not all fit into the kernel's buffers
        pathlib.Path("/proc/sys/net/ipv4", file).write_text("4096 65536 65536")
    with five(config, "--debug", "--debug", **options) as server:
        has_memfd_secret = "secrets=memfd_secret\n" in server.stderr()
        expect(not (fallback and has_memfd_secret), "memfd_secret could not be taken away")
        look = everywhere(server)

        def expect_only_in_secret_pages(sought, moment):
            found = look(sought)
            where = {role: found[role]["open"] for role in found if found[role]["open"]}
            expect_equal(where, {}, f"{moment}: in memory that is not the monitor's secret one")
            if has_memfd_secret:
                expect_equal(found, {}, f"{moment}: readable at all")
                expect(any("secretmem" in name for name in
                           found_in(server.pid("monitor"), sought)["unreadable"]),
                       f"{moment}: no secret memory that cannot be read")
            else:
                expect_equal(set(found), {"monitor"}, f"{moment}: who has it in locked memory")

        # What we look with does find it.
        with subprocess.Popen(["cat"], stdin=subprocess.PIPE, env={b"X": needles[3]}) as control:
            wait_until(lambda: harness.role_of(control.pid) == "cat", "cat runs")
            expect(found_in(control.pid, needles)["open"], "the search does not find what is there")
            control.stdin.close()

        wait_until(on_bus, "the server is on the bus")
        expect_only_in_secret_pages(needles, "before anybody asked")
        stalled = harness.start_fetch("--read-size", 2000, "--read-pause", 50, "--timeout", 60,
                                      key=key)
        wait_until(lambda: "verdict=granted" in server.stderr(), "it is granted")
        stalled.send_signal(signal.SIGSTOP)
        time.sleep(0.3)  # all that fits is sent
        expect_only_in_secret_pages(needles, "while it is being sent")
        expect_served(key, secret)
        expect_only_in_secret_pages(needles, "after it was sent")
        expect_clean_places(server, needles, "the secret")

        # A new one comes by the bus, and goes out while the old one still waits.
        new, new_needles = marked_secret(100_000)
        call("/clients/good", "org.freedesktop.DBus.Properties", "Set", GLib.Variant(
            "(ssv)", (CLIENT, "Secret", GLib.Variant.new_from_bytes(
                GLib.VariantType("ay"), GLib.Bytes.new(new), True))))
        expect_served(key, new)
        expect_only_in_secret_pages(new_needles, "after it came by the bus")
        expect_only_in_secret_pages(needles, "while its last reader is slow")
        stalled.kill()
        stalled.communicate()
        expect_served(other_key)
        expect_only_in_secret_pages(needles, "as what clients.conf says, which a reload needs")
        expect_clean_places(server, new_needles, "the new secret")
        for role, core in cores(server).items():
            expect(not any(needle in core for needle in needles + new_needles),
                   f"a secret is in a core dump of the {role}")
        call("/", "se.recompile.Mandos", "RemoveClient",
             GLib.Variant("(o)", ("/clients/good",)))
        expect_equal(look(needles + new_needles), {}, "after the client was removed")


@case("memory hygiene: a secret lies in the monitor's secret memory, which nobody can read")
def _():
    memory_hygiene(fallback=False)


@case("memory hygiene: without memfd_secret it lies in the monitor's locked memory and nowhere else")
def _():
    memory_hygiene(fallback=True)


# ---------------------------------------------------------------- other ways to allocate memory

# An allocator decides which system calls are made: the jails must hold with each.
TUNABLES = ["glibc.malloc.arena_max=1", "glibc.malloc.mmap_threshold=4096",
            "glibc.malloc.mmap_max=0:glibc.malloc.trim_threshold=4096",
            "glibc.malloc.tcache_count=0:glibc.malloc.top_pad=0", "glibc.malloc.perturb=165",
            "glibc.malloc.hugetlb=1", "glibc.malloc.hugetlb=2"]


def serves_with(**environment):
    config, key = one_client(os.urandom(300_000), checker="true", interval="PT1S")
    secret = base64.b64decode(config.clients["good"]["secret"])
    with five(config, env=environment) as server:
        before = by_role(server)
        wait_until(on_bus, "the server is on the bus")
        for _ in range(3):
            expect_served(key, secret)
        secret = os.urandom(100_000)
        call("/clients/good", "org.freedesktop.DBus.Properties", "Set", GLib.Variant(
            "(ssv)", (CLIENT, "Secret", GLib.Variant.new_from_bytes(
                GLib.VariantType("ay"), GLib.Bytes.new(secret), True))))
        expect_served(key, secret)
        stranger, _ = harness.test_key()
        expect_outcome(fetch(key=stranger), "nothing")
        expect_equal(by_role(server), before, "the processes")
        expect(not server.log.find(r"\bended\b|started afresh"), "something ended")


for setting in TUNABLES:
    case(f"all serve with GLIBC_TUNABLES={setting}")(
        lambda setting=setting: serves_with(GLIBC_TUNABLES=setting))


# Each by what finds it: those of Debian, and one that does what hardened_malloc does.
ARCHITECTURE = platform.machine() if struct.calcsize("P") == 8 else "i386"
ALLOCATORS = {
    "jemalloc": "/usr/lib/*-linux-gnu*/libjemalloc.so.2",
    "mimalloc": "/usr/lib/*-linux-gnu*/libmimalloc.so.*",
    "tcmalloc": "/usr/lib/*-linux-gnu*/libtcmalloc_minimal.so.4",
    "scudo": f"/usr/lib/llvm-*/lib/clang/*/lib/linux/libclang_rt.scudo_standalone-{ARCHITECTURE}.so",
    "an allocator like hardened_malloc": f"{harness.BUILD}/tests/support/*hardened_preload.so",
}


def preloads(pattern, by_file=False, **environment):
    found = sorted(glob.glob(pattern))
    expect(found, f"{pattern} is not there: see TEST_PACKAGES in dist/packages.sh")
    # The networker's user must be able to read it.
    copy = pathlib.Path("/run/preload.so")
    shutil.copyfile(found[0], copy)
    copy.chmod(0o755)
    if not by_file:
        return serves_with(LD_PRELOAD=str(copy), **environment)
    # Only of this namespace. All that runs meanwhile has it too.
    listed = harness.temporary() / "ld.so.preload"
    listed.write_text(f"{copy}\n")
    listed.chmod(0o644)
    file = pathlib.Path("/etc/ld.so.preload")
    existed = file.exists()
    file.touch()
    try:
        harness.bind(listed, file)
        serves_with()
    finally:
        subprocess.run(["umount", file], check=False)
        if not existed:
            file.unlink()


for name, pattern in ALLOCATORS.items():
    # Debian 13 has no mimalloc.
    if name == "mimalloc" and not glob.glob(pattern) and platform.freedesktop_os_release().get("VERSION_ID") == "13":
        continue
    case(f"all serve with {name} preloaded")(lambda pattern=pattern: preloads(pattern))
# By itself it guards one small allocation of 5,000 so, with system calls of their own.
case("all serve with scudo, each allocation guarded")(
    lambda: preloads(ALLOCATORS["scudo"], SCUDO_OPTIONS="GWP_ASAN_SampleRate=1:"
                                                        "GWP_ASAN_MaxSimultaneousAllocations=8192"))
case("all serve with an allocator like hardened_malloc in /etc/ld.so.preload")(
    lambda: preloads(ALLOCATORS["an allocator like hardened_malloc"], by_file=True))


harness.main()
