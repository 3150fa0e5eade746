#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""--check: it says what a reload or a start would do to the clients, leaves no trace, and ends as a
start would."""
import os, pathlib, re, shutil, socket, subprocess, tempfile

import harness
from harness import Configuration, Server, case, expect, expect_equal, temporary, wait_until

MANDOS = harness.PREFIX / "sbin/mandos"


def mandos(config, *arguments, seconds=30, **popen):
    """Runs the server's program to its end: (exit status, what it printed)."""
    ran = subprocess.run([MANDOS, "--no-dbus", "--no-zeroconf", "--configdir", config.directory, "--statedir",
                          config.state, "--port", str(harness.PORT), *map(str, arguments)],
                         timeout=seconds * harness.SLACK, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                         stderr=subprocess.STDOUT, text=True, **popen)
    return ran.returncode, ran.stdout


def would(output):
    return [line.removeprefix("would: ") for line in output.splitlines() if line.startswith("would: ")]


def trace(folder):
    """Everything that a process could have left in a folder."""
    return {(path.name, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
            for path in (folder, *folder.iterdir()) for status in [path.stat()]}


@case("--check says what a reload does before it does it, and again what a start would")
def _():
    config = Configuration()
    for name in "old", "fast", "stays":
        config.client(name, harness.test_key()[1], name.encode(), timeout="PT1H", interval="PT1M")
    with Server(config) as server:
        for name in config.clients:
            wait_until((config.state / f"{name}.client").exists, "its state is on disk", 20)
        expect_equal(would(mandos(config, "--check")[1]), ["change nothing"], "what it says of nothing")
        del config.clients["old"]
        # Until one interval after its first check there is less left than an hour.
        config.client("fast", config.clients["fast"]["key_id"], b"another", timeout="PT1S", interval="PT1M")
        config.client("new", harness.test_key()[1], b"new").write()
        before = trace(config.state)
        status, output = mandos(config, "--check")
        expect_equal(trace(config.state), before, "the state directory")
        said = would(output)
        expect(status == 0 and "what a reload would do" in output, output)
        for event in ('event=added client="new" by="clients.conf"', 'event=removed client="old" by="clients.conf"',
                      'event=changed client="fast" by="clients.conf" setting=timeout from="1:00:00" to="0:00:01"',
                      'event=changed client="fast" by="clients.conf" setting=secret from="not shown" to="not shown"',
                      'event=disabled client="fast" by="clients.conf"'):
            expect(any(line.startswith(event) for line in said), f"{event} is not in {output}")
        expect("stays" not in "".join(said), output)
        expect("[fast] timeout: found a timeout of" in output, output)
        # A user who may read the files, and not the state.
        for path in (config.directory, *config.directory.iterdir()):
            shutil.chown(path, 64701, 64701)
        status, other = mandos(config, "--check", user=64701, group=64701, extra_groups=[])
        expect(status == 0 and "not checked: that takes root" in other and not would(other), other)
        for path in (config.directory, *config.directory.iterdir()):
            shutil.chown(path, 0, 0)
        # It does what was said, and says it before.
        start = len(server.log.lines)
        done = subprocess.run([MANDOS, "--reload"], capture_output=True, text=True, timeout=60)
        expect(done.returncode == 0 and "client fast: disabled at once by this reload" in done.stdout, done.stdout)
        server.log.wait_for("client fast: disabled at once by this reload", start=start)
        lines = server.log.lines[start:]
        told = next(i for i, line in enumerate(lines) if "disabled at once" in line)
        expect(told < next(i for i, line in enumerate(lines) if 'event=disabled client="fast"' in line), lines)
        for line in said:
            event = re.match(r'event=\w+ client="\w+" by="[\w.]+"( setting=\w+ from="[^"]*" to="[^"]*")?', line)[0]
            expect(any(event in each for each in lines), f"{event} is not in {lines}")
    # Stopped: what a start would do.
    config.client("stays", config.clients["stays"]["key_id"], b"stays", timeout="PT1H", interval="PT2M").write()
    status, output = mandos(config, "--check", "--address", "::1")
    expect(status == 0 and "what a start would do" in output, output)
    expect_equal(would(output), ['event=changed client="stays" by="clients.conf" setting=interval from="0:01:00" '
                                 'to="0:02:00"'], "what it says")
    status, output = mandos(config, "--check", "--no-restore")
    expect(status == 0 and "a start without restoring: a client that was disabled is enabled" in output
           and not would(output), output)


@case("what it says of thousands of clients is bounded")
def _():
    config = Configuration().client("one", harness.test_key()[1], b"one")
    with Server(config):
        wait_until((config.state / "one.client").exists, "its state is on disk", 20)
        for number in range(3000):
            config.client(f"c{number}", f"{number:064x}", b"x")
        config.write()
        status, output = mandos(config, "--check")
        expect_equal((status, len(would(output))), (0, 11), output[-2000:])
        expect_equal(would(output)[-1], "event=added of 2990 more", "the count")


@case("--check ends as a start does")
def _():
    key_id = harness.test_key()[1]

    def good():
        return Configuration().client("one", key_id, b"one")

    def state(change):
        """One whose state directory is not as it should be."""
        config = good()
        with Server(config):
            wait_until((config.state / "one.client").exists, "its state is on disk", 20)
        change(config.state)
        return config.write()

    def plant(folder):
        os.chmod(folder, 0o777)

    def link(folder):
        folder.rename(f"{folder}.real")
        folder.symlink_to(f"{folder}.real")

    def of_another_version(folder):
        file = folder / "one.client"
        import hashlib
        content = (1 << 30).to_bytes(4, "little") + file.read_bytes()[36:]
        file.write_bytes(hashlib.sha256(content).digest() + content)

    def elsewhere(folder):
        shutil.rmtree(folder)
        folder.symlink_to("/nowhere/at/all")

    def unread(config):
        shutil.chown(config.directory, 64701, 64701)
        os.chmod(config.directory, 0o700)
        return config

    wrong = good()
    wrong.clients["one"]["timeout"] = "soon"
    many = good()
    many.server_options["networkers"] = 0
    away = good().write()
    away.state = pathlib.Path("/nowhere/state")
    listed = [  # what, the configuration, more arguments, the verdict of both
        ("nothing wrong", good().write(), (), 0),
        ("a section that is wrong, and no other", wrong.write(), (), 1),
        ("a setting that is wrong", many.write(), (), 1),
        ("neither Zeroconf nor a port", good().write(), ("--port", "0"), 2),
        ("an unknown option", good().write(), ("--prot", "1"), 2),
        ("a priority string that is none", good().write(), ("--priority", "NORMAL:%NONSENSE"), 1),
        ("an interface that is missing", good().write(), ("--interface", "eth99"), 0),
        ("a descriptor that is no socket", good().write(), ("--socket", "0"), 1),
        ("a state directory that others may write", state(plant), (), 1),
        ("a state directory that is a link", state(link), (), 1),
        ("a state directory that leads nowhere", state(elsewhere), (), 1),
        ("state of another version", state(of_another_version), (), 1),
        ("the same, and not restored", state(of_another_version), ("--no-restore",), 0),
        ("a state directory that cannot be made", away, (), 1),
        ("files that only root's override could read", unread(good().write()), (), 1),
    ]

    def verdicts(what, config, arguments, wanted):
        check, said = mandos(config, "--check", "--address", "::1", *arguments)
        expect_equal(check, wanted, f"--check with {what}: {said}")
        config.write = lambda: config
        # As the first one does: only a start makes the state directory its own.
        server = Server(config, "--statedir", config.state, *arguments, wait=False)
        if wanted == 0:
            wait_until(server.ready, f"it serves with {what}", 30)
            expect_equal(server.stop(), 0, "exit status")
        else:
            expect_equal(server.wait(30), wanted, f"a start with {what}: {server.stderr()}")

    for each in listed:
        verdicts(*each)
    with socket.create_server(("::1", harness.PORT), family=socket.AF_INET6):
        verdicts("a port that another program has", good().write(), (), 1)
    accounts = pathlib.Path("/etc/passwd").read_text()
    # It is a mount, so it is written in place.
    pathlib.Path("/etc/passwd").write_text(re.sub("(?m)^_mandos-net:.*\n", "", accounts))
    verdicts("an account that is missing", good().write(), (), 1)
    pathlib.Path("/etc/passwd").write_text(accounts)
    program = harness.PREFIX / "libexec/mandos/mandos-networker"
    harness.bind("/dev/null", program)
    verdicts("a program that is missing", good().write(), (), 1)
    subprocess.run(["umount", program], check=True)


if __name__ == "__main__":
    harness.main()
