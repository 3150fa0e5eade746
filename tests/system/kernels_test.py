#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Kernels and containers that refuse what the server would like: it starts and serves all the same,
or says what it needs."""
import errno, os, pathlib, re, subprocess

import harness
from harness import Server, case, expect, expect_equal, expect_outcome, fetch

WITHOUT = harness.BUILD / "tests/support/without-calls"
LANDLOCK = ("landlock_create_ruleset", "landlock_add_rule", "landlock_restrict_self")
MANDOS = str(harness.PREFIX / "sbin/mandos")
BLOB = b"what the client may have"


def one_client(**options):
    key, key_id = harness.test_key()
    return harness.Configuration().client("good", key_id, BLOB, **options), key


def expect_served(key):
    fetched = fetch(key=key)
    expect_outcome(fetched, "blob")
    expect(fetched.blob == BLOB, "another blob came")


LAYERS = {"Landlock": ("no landlock", LANDLOCK), "memfd_secret": ("secrets=mlock", ["memfd_secret"])}


def serves(calls, error):
    config, key = one_client()
    command = [WITHOUT, str(error), *calls, "--", MANDOS]
    with Server(config, "--debuglevel", "INFO", command=command) as server:
        expect_served(key)
        os.kill(server.pid("monitor"), 9)  # the next one has nothing new to say
        harness.wait_until(lambda: server.log.find("started again after"), "the next monitor", 20)
        harness.wait_until(lambda: fetch(key=key).outcome == "blob", "it serves", 20)
        for name, (jail, needed) in LAYERS.items():
            lacking = set(needed) <= set(calls)
            expect_equal(bool(server.log.find(f"monitor: jail: .*{jail}")), lacking, f"jail line about {name}")
            warnings = [line for line in server.log.lines if re.match(f"<28>.*: (no process|secrets).*{name}", line)]
            expect_equal(len(warnings), 1 if lacking else 0, f"warnings about {name}: {warnings}")
        # However descriptors are closed, none leaks into another process.
        for role in ("networker", "checker-runner"):
            folder = pathlib.Path(f"/proc/{server.pid(role)}/fd")
            names = sorted(os.readlink(each) for each in folder.iterdir() if int(each.name) > 2)
            expect(not [name for name in names if re.match(r"/(?!dev/null|proc/)", name)],
                   f"{role} holds {names}")


for refusal in (errno.EPERM, errno.ENOSYS):
    name = errno.errorcode[refusal]
    case(f"close_range(2) fails with {name}")(
        lambda refusal=refusal: serves(["close_range"], refusal))
    case(f"Landlock fails with {name}")(
        lambda refusal=refusal: serves(LANDLOCK, refusal))
    case(f"memfd_secret(2) fails with {name}")(
        lambda refusal=refusal: serves(["memfd_secret"], refusal))
    case(f"all of them fail with {name}")(
        lambda refusal=refusal: serves(["close_range", "memfd_secret", *LANDLOCK], refusal))


@case("without Landlock, a reload finds a new ~user secfile and asks no name service")
def _():
    config, key = one_client()
    command = [WITHOUT, str(errno.ENOSYS), *LANDLOCK, "--", MANDOS]
    with Server(config, command=command) as server:
        before = server.pid("monitor")
        other, other_id = harness.test_key()
        secret = pathlib.Path("/root/mandos-secfile")
        config.client("other", other_id, secfile="~root/mandos-secfile", checker="true")
        try:
            secret.write_bytes(BLOB)
            secret.chmod(0o600)
            config.write()
            os.kill(server.process.pid, 10)  # SIGUSR1
            harness.wait_until(lambda: fetch(key=other).outcome == "blob", "the new client is served")
        finally:
            secret.unlink(missing_ok=True)
        expect_equal(server.pid("monitor"), before, "the monitor")
        expect_served(key)


def without_capability(name):
    return ["setpriv", f"--bounding-set=-{name}", "--", MANDOS]


@case("without CAP_NET_RAW it serves, and says once that fping checkers will not work")
def _():
    config, key = one_client()
    with Server(config, command=without_capability("net_raw")) as server:
        expect_served(key)
        said = [line for line in server.log.lines + server.stderr().splitlines() if "net_raw" in line]
        expect_equal(len({line.partition("capability")[2] for line in said}), 1, f"warnings: {said}")
        expect("fping" in said[0], said[0])
        for role in ("supervisor", "checker-runner"):
            status = pathlib.Path(f"/proc/{server.pid(role)}/status").read_text()
            mask = int(status.split("CapBnd:")[1].split()[0], 16)
            expect_equal(mask & 1 << 13, 0, f"{role}: NET_RAW in the bounding set")


for needed in ("setuid", "setgid", "setpcap", "kill", "sys_chroot"):
    @case(f"without CAP_{needed.upper()} it does not start and says what needs it")
    def _(needed=needed):
        config, _key = one_client()
        config.write()
        ran = subprocess.run([*without_capability(needed), "--foreground", "--no-dbus",
                              "--no-zeroconf", "--address", "::1", "--port", str(harness.PORT),
                              "--configdir", config.directory, "--statedir", config.state],
                             capture_output=True, text=True, timeout=60 * harness.SLACK)
        expect_equal(ran.returncode, 1, ran.stderr)
        expect(f"capability {needed} is missing: it is needed to" in ran.stderr, ran.stderr)


harness.main()
