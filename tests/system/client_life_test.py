#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""A client's life in the running server: real checkers, expiry, reload, state that survives."""
import json, os, pathlib, pickle, pwd, re, shutil, signal, subprocess, sys, time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from harness import *

SHORT = {"timeout": "PT3S", "extended_timeout": "PT3S", "interval": "PT1S"}


def refused(key, seconds=5):
    """Expects that the client has expired after so long. Asked only once: each secret that is given
    moves the expiry."""
    time.sleep(seconds * SLACK)
    expect(fetch(key=key).outcome != "blob", "the client has expired")


def running(word):
    """Process IDs whose command line holds `word`."""
    found = []
    for pid in processes():
        try:
            if word in pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode():
                found.append(pid)
        except OSError:
            pass
    return [pid for pid in found if pid != os.getpid()]


@case("the default checker, fping, works without privileges for 127.0.0.1 and ::1")
def fping():
    config = Configuration()
    keys = {}
    for name, host in (("four", "127.0.0.1"), ("six", "::1"), ("gone", "192.0.2.1")):
        keys[name], key_id = test_key()
        config.client(name, key_id, name.encode(), host=host, **SHORT)
        del config.clients[name]["checker"]
    with Server(config):
        refused(keys["gone"], 8)
        for name in ("four", "six"):
            # Each secret that is given moves the expiry, so these are asked once only.
            fetched = fetch(key=keys[name])
            expect_equal((fetched.outcome, fetched.blob), ("blob", name.encode()), name)


@case("a client whose checker fails expires, and stays refused over kill -9 and restart")
def expiry_survives():
    config = Configuration()
    key, key_id = test_key()
    config.client("lost", key_id, b"x", checker="false", **SHORT)
    with Server(config) as server:
        refused(key)
        wait_until(lambda: list(config.state.glob("lost.client")), "the state is on disk")
        # The change of the client is gathered for some seconds.
        time.sleep(6)
        server.process.kill()
        server.process.wait()
        expect_nothing_left()
    with Server(config):
        expect(fetch(key=key).outcome != "blob", "refused after the restart")
    with Server(config, "--no-restore"):
        expect_equal(fetch(key=key).outcome, "blob", "with --no-restore")


@case("a hanging checker, what it forks, and what ignores SIGTERM die with the client's expiry")
def hanging():
    config = Configuration()
    key, key_id = test_key()
    config.client("hang", key_id, b"x",
                  checker="trap '' TERM; sleep 4711 & sleep 4712; :", **SHORT)
    with Server(config):
        wait_until(lambda: running("sleep 4711") and running("sleep 4712"), "the checker hangs")
        wait_until(lambda: not running("sleep 471"), "the checker's processes are gone", 15)
        refused(key)


@case("checkers that hang leave nothing behind when the server ends, nor when it is killed")
def stopping():
    for number in (signal.SIGTERM, signal.SIGKILL):
        config = Configuration()
        config.client("hang", test_key()[1], b"x", checker="setsid sleep 4713 & sleep 4714", interval="PT1S")
        with Server(config) as server:
            wait_until(lambda: running("sleep 4714"), "the checker hangs", 20)
            if number == signal.SIGKILL:
                server.process.kill()
                server.process.wait()
                expect_nothing_left(5)
            else:
                expect_equal(server.stop(number), 0, "exit status")


@case("values are quoted for the shell, whatever they hold")
def quoting():
    config = Configuration()
    out = temporary() / "quoting"
    out.mkdir()
    out.chmod(0o777)
    os.chmod(out.parent, 0o711)
    hosts = ["$(touch /tmp/owned)", "a; touch /tmp/owned #", "'; touch /tmp/owned; '", "`id`", "a b\\n",
             "-n", "ö\"'\\"]
    for number, host in enumerate(hosts):
        config.client(f"c{number}", test_key()[1], b"x", host=host.replace("%", "%%"),
                      checker=f"printf '%%%%s' %%(host)s > {out}/{number}.tmp && mv {out}/{number}.tmp {out}/{number}",
                      interval="PT1S")
    with Server(config):
        for number, host in enumerate(hosts):
            wait_until((out / str(number)).exists, f"the checker of {host!r} has run", 20)
            expect_equal((out / str(number)).read_text(), host, "what the shell received")
    expect(not pathlib.Path("/tmp/owned").exists(), "nothing was executed")


@case("SIGUSR1 reads the clients again: new, changed and removed ones take effect")
def reload():
    config = Configuration()
    old, old_id = test_key()
    stays, stays_id = test_key()
    new, new_id = test_key()
    config.client("old", old_id, b"old").client("stays", stays_id, b"before")
    with Server(config) as server:
        expect_equal(fetch(key=old).blob, b"old", "the old client")
        expect(fetch(key=new).outcome != "blob", "the new client is unknown")
        # Changes are gathered for some seconds.
        wait_until((config.state / "old.client").exists, "its state is on disk", 15)
        del config.clients["old"]
        config.client("new", new_id, b"new").client("stays", stays_id, b"after")
        config.write()
        server.process.send_signal(signal.SIGUSR1)
        server.log.wait_for("read again: Serving 2 clients")
        expect_equal(fetch(key=new).blob, b"new", "the new client")
        expect_equal(fetch(key=stays).blob, b"after", "the changed client")
        expect(fetch(key=old).outcome != "blob", "the removed client")
        wait_until(lambda: not (config.state / "old.client").exists(), "its state file is gone", 15)
        # Errors: every one is told, and nothing changes.
        (config.directory / "clients.conf").write_text("[new]\ntimeout = soon\n[x]\ninterval = never\n")
        start = len(server.log.lines)
        server.process.send_signal(signal.SIGUSR1)
        server.log.wait_for("nothing was changed", start=start)
        for error in ("timeout.*soon", "interval.*never"):
            server.log.wait_for(error, start=start)
        expect_equal(fetch(key=new).blob, b"new", "the client after a bad reload")


@case("an error in one section keeps out that client alone, and its state is kept meanwhile")
def one_section():
    config = Configuration()
    lost, lost_id = test_key()
    good, good_id = test_key()
    check = [PREFIX / "sbin/mandos", "--check", "--configdir", config.directory]
    config.client("lost", lost_id, b"lost", checker="false", timeout="PT1S", interval="PT1S",
                  extended_timeout="PT1S")
    config.client("good", good_id, b"good")
    with Server(config):
        refused(lost, 3)
    expect((config.state / "lost.client").exists(), "the state is on disk")
    expect_equal(subprocess.run(check, capture_output=True).returncode, 0, "--check")
    config.clients["lost"] |= {"timeout": "soon", "checker": "true"}
    with Server(config) as server:
        done = subprocess.run(check, capture_output=True, text=True)
        expect_equal(done.returncode, 1, "--check of an error")
        expect("[lost] timeout: found \"soon\"" in done.stdout, done.stdout)
        server.log.wait_for(r"\[lost\] timeout: found")
        wait_until(lambda: server.notices.find("STATUS=Serving 1 clients .*; others have errors in clients.conf"),
                   "the status")
        expect_equal(fetch(key=good).blob, b"good", "the other client")
        expect(fetch(key=lost).outcome != "blob", "the client with an error")
        start = len(server.log.lines)
        server.process.send_signal(signal.SIGUSR1)
        server.log.wait_for("nothing was changed", start=start)
        expect_equal(fetch(key=good).blob, b"good", "the other client after the reload")
        # Repaired: it is what it was, disabled.
        config.clients["lost"]["timeout"] = "PT1H"
        config.write()
        server.process.send_signal(signal.SIGUSR1)
        wait_until(lambda: server.notices.find("STATUS=Serving 2 clients on port [0-9]+: .* failing$"), "the status", 20)
        expect_equal(fetch(key=good).blob, b"good", "the other client after the repair")
        expect(fetch(key=lost).outcome != "blob", "disabled as before")
    # What may be an error in DEFAULT concerns everybody.
    with open(config.directory / "clients.conf", "a") as file:
        file.write("[DEFAULT\nenabled = no\n")
    config.write = lambda: config
    expect_no_start(config, "a section header without a name or its")


@case("little memory that can be locked is told; a reload that finds none changes nothing")
def little_memory():
    config = Configuration()
    key, key_id = test_key()
    config.client("one", key_id, b"x" * 100000)
    with Server(config, command=with_little_locked_memory(262144)) as server:
        server.log.wait_for("only 262144 bytes can be locked")
        for name in ("two", "three"):
            config.client(name, test_key()[1], b"x" * 200000)
        config.write()
        server.process.send_signal(signal.SIGUSR1)
        server.log.wait_for("no memory could be locked for secrets")
        server.log.wait_for("nothing was changed")
        expect_equal(fetch(key=key).blob, b"x" * 100000, "the client after that")


@case("a secfile is read again at a reload, also when it was replaced, though the monitor is jailed")
def secfile_reload():
    config = Configuration()
    key, key_id = test_key()
    folder = temporary() / "secrets"
    folder.mkdir(mode=0o700)
    file = folder / "blob"
    file.write_bytes(b"before")
    file.chmod(0o600)
    config.client("filed", key_id, secfile=file)
    with Server(config) as server:
        expect_equal(fetch(key=key).blob, b"before", "before")
        other = folder / "new"
        other.write_bytes(b"after")
        other.chmod(0o600)
        other.rename(file)
        server.process.send_signal(signal.SIGUSR1)
        server.log.wait_for("read again: Serving 1 clients")
        expect_equal(fetch(key=key).blob, b"after", "after")


@case("a state directory with the Python server's state alone stops the start, and is taken over without it")
def takeover():
    config = Configuration()
    key, key_id = test_key()
    config.client("a", key_id, b"a")
    (config.state / "clients.pickle").write_bytes(b"x")
    shutil.chown(config.state, "_mandos", "_mandos")
    expect_no_start(config, "clients.pickle", "mandos-import-state", "--no-restore")
    expect_equal(os.stat(config.state).st_uid, pwd.getpwnam("_mandos").pw_uid, "owner after that")
    with Server(config, "--no-restore") as server:
        expect_equal(fetch(key=key).blob, b"a", "served")
        server.log.wait_for("taken over")
        expect_equal(os.stat(config.state).st_uid, 0, "owner")


def run_unit_pre(state):
    """What the unit does before the server starts."""
    text = (BUILD / "dist/mandos.service").read_text()
    command = re.search(r"ExecStartPre=\+/bin/sh -euc '(.*?)'\n", text, re.S)[1].replace("\\\n", "")
    command = re.sub("^d=[^;]*;", f"d={state};", command.replace("$$", "$").replace("%%", "%"))
    subprocess.run(["/bin/sh", "-euc", command], check=True)


@case("the Python server's state alone stops the start after the unit has made the directory root's, too")
def takeover_by_the_unit():
    config = Configuration()
    key, key_id = test_key()
    config.client("a", key_id, b"a")
    (config.state / "clients.pickle").write_bytes(b"x")
    for place in (config.state / "clients.pickle", config.state):
        shutil.chown(place, "_mandos", "_mandos")
    config.state.chmod(0o700)
    run_unit_pre(config.state)
    expect_equal(os.stat(config.state).st_uid, 0, "owner after that")
    expect_no_start(config, "clients.pickle", "mandos-import-state", "--no-restore")
    with Server(config, "--no-restore") as server:
        # Perhaps before anything is saved.
        monitor = server.pid("monitor")
        os.kill(monitor, signal.SIGKILL)
        server.pid("monitor", other_than=monitor)
        wait_until(lambda: fetch("--timeout", 1, key=key).blob == b"a", "served")
        config.clients.clear()
        config.write()
        expect_equal(subprocess.run([PREFIX / "sbin/mandos", "--reload"], capture_output=True).returncode, 0, "--reload")
    expect(not (config.state / "a.client").exists(), "the last client is forgotten")
    config.client("a", key_id, b"a")
    run_unit_pre(config.state)
    with Server(config):
        expect_equal(fetch(key=key).blob, b"a", "served without --no-restore")
    # The Python server ran again, and all of ours was deleted.
    for file in config.state.glob("*.client"):
        file.unlink()
    expect_no_start(config, "clients.pickle", "mandos-import-state")


@case("mandos-import-state carries over who was disabled and what was changed, there and back")
def import_state():
    config = Configuration()
    keys = {}
    for name in ("disabled", "changed", "removed"):
        keys[name], key_id = test_key()
        config.client(name, key_id, name.encode())
    config.write()
    # As "mandos-ctl --dump-json" has it.
    state = {name: {"Name": name, "Enabled": name != "disabled", "Timeout": 3600000, "Interval": 600000,
                    "ExtendedTimeout": 900000, "ApprovalDelay": 0, "ApprovalDuration": 1000,
                    "ApprovedByDefault": True, "Host": "", "Checker": "true", "LastCheckedOK": "",
                    "LastEnabled": "2026-11-26T01:02:03.000004", "LastApprovalRequest": "", "Expires": "",
                    "Created": "2026-01-01T00:00:00", "LastCheckerStatus": -2}
             for name in ("disabled", "changed")}
    state["changed"]["ApprovedByDefault"], state["changed"]["ApprovalDelay"] = False, 1
    (config.state / "clients.pickle").write_bytes(b"x")
    shutil.chown(config.state, "_mandos", "_mandos")
    expect_no_start(config, "clients.pickle", "mandos-import-state")
    dump = temporary() / "dump.json"
    dump.write_text(json.dumps(state))
    carry = lambda *options: subprocess.run(
        [sys.executable, "-I", pathlib.Path(os.environ["MANDOS_BUILD"], "dist/mandos-import-state"), *options,
         "--configdir", config.directory, "--statedir", config.state, dump], capture_output=True, text=True)

    def carried(*options):
        done = carry(*options)
        expect_equal((done.returncode, done.stdout), (0, "disabled: disabled\nchanged: enabled\n"
                                                      "removed: removed at run time, so disabled\n"), f"{done.stderr}")

    def as_it_was():
        with Server(config) as server:
            for name, reason in (("disabled", "Disabled"), ("removed", "Disabled"), ("changed", "Approval timed out")):
                expect_outcome(fetch(key=keys[name]), "nothing")
                server.log.wait_for(f'verdict=refused client="{name}".*reason="{reason}"')
            expect("still runs" in carry("--back").stderr, "refused while the server runs")
    whole = dump.read_text()
    dump.write_text("")
    expect("not the output of mandos-ctl --dump-json" in carry().stderr, "an empty dump is refused")
    expect_no_start(config, "clients.pickle", "mandos-import-state")
    dump.write_text(whole)
    carried()
    as_it_was()
    # And back: what the Python server reads has it, and nothing of ours stays where it could be planted.
    carried("--back")
    owner = pwd.getpwnam("_mandos").pw_uid
    pickled = config.state / "clients.pickle"
    expect_equal([(each.stat().st_uid, each.stat().st_mode & 0o7777) for each in (config.state, pickled)],
                 [(owner, 0o700), (owner, 0o600)], "owner and mode")
    now, file = pickle.loads(pickled.read_bytes())
    expect_equal({name: client["enabled"] for name, client in now.items()},
                 {"disabled": False, "changed": True, "removed": False}, "who is enabled")
    expect_equal((now["changed"]["approved_by_default"], file["changed"]["approved_by_default"],
                  now["changed"]["timeout"].total_seconds()), (False, True, 3600), "settings")
    expect_equal(sorted(each.name for each in config.state.iterdir()),
                 ["changed.client.unrestored", "clients.pickle", "disabled.client.unrestored",
                  "removed.client.unrestored"], "files")
    expect_no_start(config, "clients.pickle", "mandos-import-state")
    carried()
    as_it_was()


@case("a full disk is told once, and service goes on")
def full_disk():
    config = Configuration()
    keys = {}
    for number in range(20):
        keys[number], key_id = test_key()
        config.client(f"client{number}", key_id, b"a" * 2000, checker="true", interval="PT1S")
    mount("tmpfs", config.state, "tmpfs", data="size=16k,mode=700")
    with Server(config) as server:
        server.log.wait_for("state is not on disk")
        for number in range(3):
            expect_equal(fetch(key=keys[number]).blob, b"a" * 2000, "served")


def expect_no_start(config, *patterns, arguments=()):
    """The start stops, and says on the terminal what matches."""
    server = Server(config, *arguments, wait=False)
    expect_equal(server.process.wait(20 * SLACK), 1, "exit status")
    for pattern in patterns:
        expect(re.search(pattern, server.stderr()), f"{pattern!r} in {server.stderr()!r}")


@case("a damaged state file costs that client its enablement, at this start and the next")
def damaged():
    config = Configuration()
    key, key_id = test_key()
    other, other_id = test_key()
    config.client("a", key_id, b"a").client("b", other_id, b"b")
    (config.state / "a.client").write_bytes(b"junk")
    for again in False, True:
        with Server(config) as server:
            expect(fetch(key=key).outcome != "blob", "refused")
            expect_equal(fetch(key=other).blob, b"b", "the other is served")
            server.log.wait_for("client a: disabled, since its saved state is damaged")
            server.log.wait_for('audit: event=disabled client="a" by="damaged state" '
                                'failed_checks=0 last_answer="never"')
            # Before the new state is on disk.
            server.process.kill()
            server.process.wait()
            expect_nothing_left()
    expect_equal((config.state / "a.client.damaged").read_bytes(), b"junk", "what is kept of it")
    with Server(config, "--no-restore") as server:
        expect_equal(fetch(key=key).blob, b"a", "with --no-restore")
        server.log.wait_for("not restored, so clients that were disabled are enabled again: [0-9]+ files are kept")


@case("who waits for approval when the server ends is told to be gone, once")
def gone_with_the_server():
    config = Configuration()
    key, key_id = test_key()
    config.client("waits", key_id, b"blob", approval_delay="PT1M")
    with Server(config) as server:
        started = start_fetch(key=key)
        server.log.wait_for('audit: event=waiting client="waits"')
        server.process.terminate()
        server.log.wait_for('audit: event=gone client="waits" by="stop"')
        expect_equal(server.process.wait(20 * SLACK), 0, "exit status")
        expect(finish_fetch(started).outcome != "blob", "it got nothing")
        expect_equal(sum("event=gone" in line for line in server.log.lines), 1, "once")


@case("what a start makes of the clients by their file is told, but not of those of the first")
def start_is_told():
    config = Configuration()
    for name in ("stays", "edited", "goes"):
        config.client(name, test_key()[1], name.encode())
    with Server(config) as server:
        server.log.wait_for("Serving 3 clients")
        expect(not any("event=" in line for line in server.log.lines), "the first start")
    config.clients["edited"] |= {"enabled": "False", "timeout": "PT2H"}
    del config.clients["goes"]
    config.client("fresh", test_key()[1], b"fresh").client("off", test_key()[1], b"off", enabled="no")
    with Server(config) as server:
        server.log.wait_for("Serving 4 clients")
        told = [line.partition("audit: ")[2] for line in server.log.lines if "event=" in line]
        expect_equal(told[:1], ['event=changed client="edited" by="clients.conf" setting=timeout '
                                'from="1:00:00" to="2:00:00"'], "told")
        expect(told[1].startswith('event=disabled client="edited" by="clients.conf" failed_checks=0'), told)
        expect_equal(told[2:], ['event=added client="fresh" by="clients.conf"',
                                'event=added client="off" by="clients.conf" enabled=False'], "told")


@case("damaged state of a client without a section is not forgotten by the reload that brings it")
def damaged_and_missing():
    config = Configuration()
    key, key_id = test_key()
    other, other_id = test_key()
    config.client("b", other_id, b"b")
    (config.state / "a.client").write_bytes(b"junk")
    with Server(config) as server:
        expect_equal(fetch(key=other).blob, b"b", "the other is served")
        config.client("a", key_id, b"a").write()
        reload = subprocess.run([PREFIX / "sbin/mandos", "--reload"], stdout=subprocess.DEVNULL)
        expect_equal(reload.returncode, 0, "--reload")
        expect(fetch(key=key).outcome != "blob", "disabled")
        server.log.wait_for("client a: disabled, since its saved state is damaged")
        expect_equal(fetch(key=other).blob, b"b", "the other is served")


@case("state that cannot be used stops the start, is left as it is, and --no-restore is the way out")
def unusable():
    config = Configuration()
    key, key_id = test_key()
    config.client("a", key_id, b"a")
    file = config.state / "a.client"

    def as_pipe():
        os.mkfifo(file)
        return "a.client: found something that is not a file"

    def as_link():
        file.symlink_to(config.state / "elsewhere")
        return "a.client: found a symbolic link"

    def planted():
        file.write_bytes(b"x")
        shutil.chown(file, "_mandos")
        return "a.client: belongs to user"

    def in_a_folder_that_was_anothers():
        file.write_bytes(b"x")
        shutil.chown(config.state, "_mandos")
        return "a.client: found in a directory of user .*remove it, or chown"

    for make in as_pipe, as_link, planted, in_a_folder_that_was_anothers:
        expect_no_start(config, pattern := make(), "--no-restore starts without the saved state")
        expect_no_start(config, pattern)
        with Server(config, "--no-restore") as server:
            expect_equal(fetch(key=key).blob, b"a", "with --no-restore")
            server.log.wait_for("1 files are kept there")
            expect(os.path.lexists(f"{file}.unrestored"), "it is kept")
        for left in config.state.iterdir():
            left.unlink()


@case("a state folder that cannot be used stops the start, and --no-restore is the way out")
def unusable_folder():
    config = Configuration()
    key, key_id = test_key()
    config.client("a", key_id, b"a")
    folder = config.state
    config.state = folder / "missing" / "state"
    expect_no_start(config, "missing/state: does not exist and cannot be made", "--no-restore")
    config.state = folder / "link"
    config.state.symlink_to(folder)
    expect_no_start(config, "link: found a symbolic link, expected a directory", "--statedir")
    with Server(config, "--no-restore") as server:
        expect_equal(fetch(key=key).blob, b"a", "with --no-restore")
        server.log.wait_for("what changes at run time is not saved")


@case("a second server on the same state folder does not start")
def second_server():
    config = Configuration()
    key, key_id = test_key()
    config.client("a", key_id, b"a")
    with Server(config) as server:
        for more in [], ["--no-restore"]:
            expect_no_start(config, "another server uses it", arguments=["--port", str(PORT + 1), *more])
        expect_equal(fetch(key=key).blob, b"a", "the first goes on")
        Server.current = server


@case("a monitor that is started again reads no state that --no-restore could not set aside")
def no_restore_unusable_and_restart():
    config = Configuration()
    key, key_id = test_key()
    config.client("a", key_id, b"a", checker="false", **SHORT)
    with Server(config):  # leaves it disabled
        refused(key, 8)
    folder, config.state = config.state, config.state / "link"
    config.state.symlink_to(folder)
    with Server(config, "--no-restore") as server:
        server.log.wait_for("what changes at run time is not saved")
        config.state.unlink()
        config.state.mkdir(mode=0o700)
        shutil.copy(folder / "a.client", config.state)
        monitor = server.pid("monitor")
        os.kill(monitor, signal.SIGKILL)
        server.pid("monitor", other_than=monitor)
        server.log.wait_for("could not be used at the start")
        wait_until(lambda: fetch(key=key).outcome == "blob", "it serves, as at its start", 20)


@case("a monitor that is started again enables nobody where another directory took the state's place")
def another_directory():
    config = Configuration()
    key, key_id = test_key()
    good, good_id = test_key()
    config.client("stolen", key_id, b"secret", checker="false", **SHORT)
    config.client("good", good_id, b"good")
    aside = config.state.with_name("aside")

    def expect_stop(server, monitor, start):
        os.kill(monitor, signal.SIGKILL)
        server.log.wait_for("not the directory that this server has its state in", start=start)
        expect(fetch("--timeout", 1, key=key).outcome != "blob", "who has expired gets nothing")
        expect(server.log.find("mandos-monitor cannot be started", start), "it is told")

    with Server(config) as server:
        server.log.wait_for('event=disabled client="stolen"')
        # Of what is new, nothing is saved in the first five seconds but that.
        wait_until((config.state / "stolen.client").exists, "it is on disk")
        for instead in (lambda: None, config.state.mkdir, lambda: config.state.symlink_to(aside)):
            monitor, start = server.pid("monitor"), len(server.log.lines)
            config.state.rename(aside)  # or its file system is not mounted any more
            instead()
            expect_stop(server, monitor, start)
            expect(config.state.is_symlink() or not config.state.exists() or
                   not list(config.state.iterdir()), "nothing is made there")
            if config.state.is_symlink():
                config.state.unlink()
            elif config.state.exists():
                config.state.rmdir()
            aside.rename(config.state)
            wait_until(lambda: fetch("--timeout", 1, key=good).blob == b"good", "all goes on", 30)
            expect(fetch(key=key).outcome != "blob", "who has expired gets nothing")


@case("the state of a client whose file is missing at a start is in force again with the file")
def missing_section():
    config = Configuration()
    key, key_id = test_key()
    other, other_id = test_key()
    config.client("a", key_id, b"a", checker="false", **SHORT).client("b", other_id, b"b")
    with Server(config):
        refused(key, 8)
    file = config.state / "a.client"
    expect(file.exists(), "the state is on disk")
    section = config.clients.pop("a")
    config.write()
    with Server(config) as server:
        server.log.wait_for("the saved state of 1 clients that have no section, or one with an error, is kept")
        expect_equal(fetch(key=other).blob, b"b", "the other is served")
        time.sleep(6 * SLACK)  # longer than changes are gathered
        expect(file.exists(), "it is kept")
        config.clients["a"] = section
        config.write()
        expect_equal(subprocess.run([PREFIX / "sbin/mandos", "--reload"], stdout=subprocess.DEVNULL).returncode, 0, "--reload")
        expect(fetch(key=key).outcome != "blob", "still disabled")
        expect_equal(fetch(key=other).blob, b"b", "the other is served")
        # A reload without it is the administrator's word.
        config.clients.pop("a")
        config.write()
        expect_equal(subprocess.run([PREFIX / "sbin/mandos", "--reload"], stdout=subprocess.DEVNULL).returncode, 0, "--reload")
        wait_until(lambda: not file.exists(), "its state is gone", 15)


@case("the state of a client whose section stays away goes with the next reload")
def stays_away():
    config = Configuration()
    config.client("a", test_key()[1], b"a").client("b", test_key()[1], b"b")
    file = config.state / "a.client"
    with Server(config):
        wait_until(file.exists, "the state is on disk")
    config.clients.pop("a")
    config.write()
    with Server(config) as server:
        server.log.wait_for("the saved state of 1 clients that have no section")
        expect(file.exists(), "it is kept")
        expect_equal(subprocess.run([PREFIX / "sbin/mandos", "--reload"], stdout=subprocess.DEVNULL).returncode, 0,
                     "--reload")
        wait_until(lambda: not file.exists(), "its state is gone", 15)
        server.log.wait_for('event=removed client="a" by="clients.conf"')


@case("a monitor that is started again restores what was saved after --no-restore")
def no_restore_and_restart():
    config = Configuration()
    key, key_id = test_key()
    other, other_id = test_key()
    config.client("a", key_id, b"a", checker="false", **SHORT).client("b", other_id, b"b")
    with Server(config, "--no-restore") as server:
        refused(key, 8)
        wait_until((config.state / "a.client").exists, "the state is on disk")
        time.sleep(6 * SLACK)
        monitor = server.pid("monitor")
        os.kill(monitor, signal.SIGKILL)
        server.pid("monitor", other_than=monitor)
        server.log.wait_for("started again after the monitor had ended")
        wait_until(lambda: fetch(key=other).outcome == "blob", "it serves again", 20)
        refused(key, 0)


main(lanes=3)
