#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Reloads: what became of one is told to who asked, and the files are read where they are now,
however an administrator put others in their place."""
import contextlib, os, pathlib, re, shutil, signal, socket, stat, subprocess, sys, tempfile

import harness
from harness import Configuration, Server, case, expect, expect_equal, fetch, temporary, wait_until

MANDOS = harness.PREFIX / "sbin/mandos"
CONTROL = "/run/mandos/control"


def mandos_reload(seconds=60, **popen):
    return subprocess.run([MANDOS, "--reload"], capture_output=True, text=True,
                          timeout=seconds * harness.SLACK, **popen)


def expect_reloaded():
    done = mandos_reload()
    expect_equal(done.returncode, 0, f"status of --reload: {done.stdout}{done.stderr}")
    return done.stdout


def expect_refused(*reasons):
    done = mandos_reload()
    expect_equal(done.returncode, 1, f"status of --reload: {done.stdout}{done.stderr}")
    for reason in reasons:
        expect(re.search(reason, done.stderr), f"no {reason!r} in {done.stderr!r}")
    return done.stderr


def expect_served(key, blob):
    expect_equal(fetch(key=key).blob, blob, "what the client got")


def expect_unknown(key):
    expect(fetch(key=key).outcome != "blob", "a client that is unknown got something")


def folder(*clients, **options):
    """A configuration folder of its own with these (name, key ID, blob)."""
    config = Configuration()
    for name, key_id, blob in clients:
        config.client(name, key_id, blob, **options)
    return config.write().directory


class Exchange:
    """A server on one set of clients, and another set that is ready to take its place."""

    def __init__(self):
        (self.old, old_id), (self.stays, stays_id), (self.new, new_id) = (
            harness.test_key() for _ in range(3))
        self.before = folder(("old", old_id, b"old"), ("stays", stays_id, b"before"))
        self.after = folder(("stays", stays_id, b"after"), ("new", new_id, b"new"))

    def server(self, directory, **options):
        config = Configuration()
        shutil.rmtree(config.directory)
        config.directory = pathlib.Path(directory)
        config.write = lambda: config
        return Server(config, **options)

    def expect_before(self):
        expect_served(self.old, b"old")
        expect_served(self.stays, b"before")
        expect_unknown(self.new)

    def expect_after(self):
        expect_unknown(self.old)
        expect_served(self.stays, b"after")
        expect_served(self.new, b"new")


@case("--reload says what became of it, with the warnings")
def _():
    config = Configuration()
    key, key_id = harness.test_key()
    new, new_id = harness.test_key()
    config.client("one", key_id, b"one")
    with Server(config) as server:
        mode = os.stat(CONTROL)
        expect_equal((stat.S_IMODE(mode.st_mode), mode.st_uid), (0o600, 0), "the control socket")
        pids = {role: server.pid(role) for role in ("monitor", "networker")}
        config.client("two", new_id, b"two", nonsense="x").write()
        said = expect_reloaded()
        expect(said.count("nonsense: unknown option") == 1 and said.endswith("reloaded\n"), said)
        expect_served(new, b"two")
        wait_until(lambda: any("Serving 2 clients" in line for line in server.notices.lines), "the status")
        (config.directory / "clients.conf").write_text("[new]\ntimeout = soon\n[x]\ninterval = never\n")
        expect_refused("timeout.*soon", "interval.*never", "nothing was changed", "the reload failed")
        for error in ("timeout.*soon", "interval.*never", "nothing was changed"):
            server.log.wait_for(error)
        expect_served(new, b"two")
        expect_equal({role: server.pid(role) for role in pids}, pids, "the processes")
    expect(not os.path.exists(CONTROL), "the control socket is removed")


@case("--reload tells of a checker whose program is missing, and of all who have it")
def _():
    config = Configuration()
    for name in "one", "two", "three":
        config.client(name, harness.test_key()[1], b"blob", checker="/nowhere/ping %%(host)s")
    with Server(config) as server:
        server.log.wait_for("checker of client .* and 2 more: the checker program /nowhere/ping is not found")
        said = expect_reloaded()
        expect(said.count("/nowhere/ping is not found") == 1 and "checker: (also of 2 more) " in said, said)


@case("--reload without a server says so")
def _():
    done = mandos_reload()
    expect_equal(done.returncode, 1, "status")
    expect("no server runs" in done.stderr, done.stderr)


@case("many who ask at once are all answered, and nobody else may ask")
def _():
    config = Configuration()
    key, key_id = harness.test_key()
    config.client("one", key_id, b"one")
    with Server(config):
        asking = [subprocess.Popen([MANDOS, "--reload"], stdout=subprocess.PIPE) for _ in range(5)]
        for each in asking:
            expect(each.communicate(timeout=60)[0].endswith(b"reloaded\n"), "an answer")
        # A socket file that everybody may write is not enough.
        os.chmod(CONTROL, 0o666)
        os.chmod("/run/mandos", 0o755)
        done = subprocess.run(["setpriv", "--reuid=64700", "--regid=64700", "--clear-groups", "/usr/bin/python3",
                               "-c", "import socket, sys\ns = socket.socket(socket.AF_UNIX)\n"
                               f"s.connect('{CONTROL}')\nprint(len(s.recv(100)))"],
                              capture_output=True, text=True, timeout=60)
        expect(done.stdout == "0\n" or "reset" in done.stderr, f"{done.stdout}{done.stderr}")


@case("bytes on the control socket, and peers that leave or stay, change nothing")
def _():
    config = Configuration()
    key, key_id = harness.test_key()
    config.client("one", key_id, b"one")
    with Server(config):
        for _ in range(50):
            with socket.socket(socket.AF_UNIX) as peer:
                peer.connect(CONTROL)
                with contextlib.suppress(BrokenPipeError, BlockingIOError):  # answered already
                    peer.send(b"x" * 100000, socket.MSG_DONTWAIT)
        staying = []
        for _ in range(50):
            staying.append(socket.socket(socket.AF_UNIX))
            staying[-1].setblocking(False)
            try:
                staying[-1].connect(CONTROL)
            except BlockingIOError:
                staying.pop().close()
        wait_until(lambda: mandos_reload().returncode == 0, "a reload works", 60)
        expect_served(key, b"one")


@case("a second server does not take the control socket of the first, nor ask it for anything")
def _():
    config = Configuration()
    key, key_id = harness.test_key()
    config.client("one", key_id, b"one")
    with Server(config) as server:
        log = server.log
        second = Configuration().client("two", harness.test_key()[1], b"two").write()
        # Its log goes where the first one's goes.
        process = subprocess.Popen([MANDOS, "--foreground", "--no-dbus", "--no-zeroconf", "--port", "4713",
                                    "--configdir", second.directory, "--statedir", second.state],
                                   stderr=subprocess.DEVNULL)
        log.wait_for("mandos already runs, as process [0-9]+, which is the one that mandos --reload asks")
        process.terminate()
        process.wait(timeout=30)
        expect(not log.find("read again"), "the first was not asked")
        expect_reloaded()
    # A server that was killed leaves it behind, and the next one takes it.
    server = Server(config)
    server.process.kill()
    server.process.wait()
    harness.expect_nothing_left()
    with Server(config):
        expect_reloaded()


@case("a monitor that dies while it reads is a failure that is told")
def _():
    config = Configuration()
    key, key_id = harness.test_key()
    config.client("one", key_id, b"one")
    with Server(config) as server:
        monitor = server.pid("monitor")
        os.kill(monitor, signal.SIGSTOP)
        asking = subprocess.Popen([MANDOS, "--reload"], stderr=subprocess.PIPE, text=True)
        wait_until(lambda: int(pathlib.Path("/proc/net/unix").read_text().count(CONTROL)) > 1, "asked")
        os.kill(monitor, signal.SIGKILL)
        error = asking.communicate(timeout=60)[1]
        expect_equal(asking.returncode, 1, "status")
        expect("the monitor ended meanwhile" in error, error)
        # Whoever asks while there is none waits for the next one.
        expect_reloaded()


# ---------------------------------------------------------------- other files in the same place

def exchanged(server, exchange, what):
    """The reload that follows `what` reads the new files."""
    exchange.expect_before()
    what()
    expect_reloaded()
    exchange.expect_after()
    expect(not server.log.find(r"\bended\b"), "nobody died")


@case("a program that is missing is no error of the configuration")
def _():
    exchange = Exchange()
    programs = harness.PREFIX / "libexec/mandos"
    with exchange.server(exchange.before) as server:
        harness.mount("tmpfs", programs, "tmpfs")  # as in the middle of an upgrade
        try:
            server.process.send_signal(signal.SIGUSR1)
            server.log.wait_for("nothing was changed: the configuration could not be checked")
            expect(server.log.find("mandos-monitor: No such file"), "the log says why")
        finally:
            subprocess.run(["umount", programs], check=True)
        expect_equal(server.notices.find("^STATUS=.*configuration has errors"), None, "STATUS")
        expect_reloaded()
        exchange.expect_before()


@case("the configuration folder replaced by mv")
def _():
    exchange = Exchange()
    place = temporary() / "moved"
    exchange.before.rename(place)

    def move():
        place.rename(temporary() / "moved.old")
        exchange.after.rename(place)
    with exchange.server(place) as server:
        exchanged(server, exchange, move)


@case("the configuration folder is a link that is switched")
def _():
    exchange = Exchange()
    link = temporary() / "current"
    link.symlink_to(exchange.before)

    def switch():
        (temporary() / "next").symlink_to(exchange.after)
        (temporary() / "next").rename(link)
    with exchange.server(link) as server:
        exchanged(server, exchange, switch)


@case("another folder mounted over the configuration folder")
def _():
    exchange = Exchange()
    with exchange.server(exchange.before) as server:
        exchanged(server, exchange, lambda: harness.bind(exchange.after, exchange.before))


@case("the new files have errors: nothing changes, then they are corrected and taken")
def _():
    exchange = Exchange()
    place = temporary() / "with-errors"
    exchange.before.rename(place)
    with exchange.server(place) as server:
        pids = {role: server.pid(role) for role in ("monitor", "networker")}
        place.rename(temporary() / "with-errors.old")
        exchange.after.rename(place)
        good = (place / "clients.conf").read_text()
        (place / "clients.conf").write_text(good.replace("timeout = PT1H", "timeout = soon"))
        said = expect_refused("timeout.*soon", "nothing was changed")
        expect("Permission denied" not in said, said)
        exchange.expect_before()
        # It is not read now, but it would be at the next start.
        (place / "clients.conf").write_text(good)
        (place / "mandos.conf").write_text("[DEFAULT]\nport = many\n")
        expect_refused("port.*many", "nothing was changed")
        (place / "mandos.conf").write_text("[DEFAULT]\npriority = NONE\n")
        expect_refused("priority", "nothing was changed")
        exchange.expect_before()
        shutil.rmtree(place)
        expect_refused("clients.conf", "nothing was changed")
        exchange.expect_before()
        expect_equal({role: server.pid(role) for role in pids}, pids, "the processes")
        place.mkdir(mode=0o700)
        (place / "clients.conf").write_text(good)
        (place / "clients.conf").chmod(0o600)
        expect_reloaded()
        exchange.expect_after()


def expect_no_client_comes_back(name, place):
    """The file with a client that has expired is reached by a link at `place`, which leads nowhere for a
    time. That is no removal, which would forget that the client is disabled."""
    (lost, lost_id), (other, other_id) = harness.test_key(), harness.test_key()
    config = Configuration()
    shutil.rmtree(config.directory)
    config.directory = folder(("other", other_id, b"other"))
    config.write = lambda: config
    away = folder(("lost", lost_id, b"lost"), checker="false", interval="PT1S", timeout="PT2S")
    (config.directory / "clients.conf").rename(config.directory / "other.conf")
    link = config.directory / place
    if place != "clients.d":
        link.parent.mkdir(mode=0o700, exist_ok=True)
        (config.directory / "clients.d").mkdir(mode=0o700, exist_ok=True)
        (config.directory / "other.conf").rename(config.directory / "clients.d/other.conf")
        link.symlink_to(away / "clients.conf")
    else:
        (config.directory / "other.conf").rename(config.directory / "clients.conf")
        link.symlink_to(away)
    with Server(config) as server:
        server.log.wait_for("event=disabled.*lost", 30)
        wait_until((config.state / "lost.client").exists, "it is saved", 30)
        monitor = server.pid("monitor")
        away.rename(f"{away}.x")
        expect_refused(f"{name}: leads nowhere", "nothing was changed")
        expect_served(other, b"other")
        expect((config.state / "lost.client").exists(), "its state is kept")
        pathlib.Path(f"{away}.x").rename(away)
        expect_reloaded()
        expect_unknown(lost)
        expect_served(other, b"other")
        expect_equal(server.pid("monitor"), monitor, "the monitor")


for each_name, each_place in (("s.conf", "clients.d/s.conf"), ("clients.d", "clients.d"),
                              ("clients.conf", "clients.conf")):
    case(f"{each_place}, a link that leads nowhere, fails the reload and brings back no disabled client")(
        lambda name=each_name, place=each_place: expect_no_client_comes_back(name, place))


def replaced_after_it_was_judged(server, replace):
    """--reload, for which the files are replaced after their inspection and before the monitor reads them."""
    monitor = server.pid("monitor")
    os.kill(monitor, signal.SIGSTOP)
    try:
        asking = subprocess.Popen([MANDOS, "--reload"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        wait_until(lambda: inspector(server), "the files are judged", 20)
        wait_until(lambda: not inspector(server), "they have been", 20)
        replace()
    finally:
        os.kill(monitor, signal.SIGCONT)
    said, errors = asking.communicate(timeout=60 * harness.SLACK)
    return asking.returncode, said + errors


def inspector(server):
    """Whether the server has the files judged just now."""
    for pid in harness.tree(server.process.pid):
        with contextlib.suppress(OSError):
            if pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().endswith(b"--check\0"):
                return True
    return False


@case("files that change while they are read fail the reload, and everybody is served as before")
def _():
    (one, one_id), (two, two_id) = harness.test_key(), harness.test_key()
    config = Configuration().client("one", one_id, b"one").client("two", two_id, b"two")
    with Server(config) as server:
        file = config.directory / "clients.conf"
        good = file.read_text()
        pids = {role: server.pid(role) for role in ("monitor", "networker")}
        for bad, why in ((good.replace("timeout = PT1H", "timeout = soon", 1), "timeout.*soon"),
                         ("broken\n" + good, "a line before any section")):
            status, said = replaced_after_it_was_judged(server, lambda bad=bad: file.write_text(bad))
            expect_equal(status, 1, f"status: {said}")
            for reason in (why, "nothing was changed", "reload again", "the reload failed"):
                expect(re.search(reason, said), f"no {reason!r} in {said!r}")
            expect_served(one, b"one")
            expect_served(two, b"two")
            file.write_text(good)
        expect_equal({role: server.pid(role) for role in pids}, pids, "the processes")
        expect_reloaded()


@case("a fresh monitor says what it keeps out, and the reload has failed")
def _():
    exchange = Exchange()
    link = temporary() / "switching"
    link.symlink_to(exchange.before)

    def switch(to):
        (temporary() / "next").symlink_to(to)
        (temporary() / "next").rename(link)
    with exchange.server(link) as server:
        exchange.expect_before()
        # The inspector and a jailed monitor cannot tell that the files where they are now have an error.
        bad = pathlib.Path(shutil.copytree(exchange.after, temporary() / "bad"))
        file = bad / "clients.conf"
        file.write_text(file.read_text().replace("timeout = PT1H", "timeout = soon", 1))
        status, said = replaced_after_it_was_judged(server, lambda: switch(bad))
        expect_equal(status, 1, f"status: {said}")
        expect(re.search(r"\[stays\] timeout.*soon", said), said)
        expect("a fresh monitor serves without the clients that have errors" in said, said)
        expect_unknown(exchange.stays)
        expect_served(exchange.new, b"new")
        # Its warnings reach the terminal as well.
        file = exchange.after / "clients.conf"
        file.write_text(file.read_text() + "nonsense = x\n")
        switch(exchange.after)
        said = expect_reloaded()
        expect("nonsense: unknown option" in said, said)
        exchange.expect_after()


def expect_state_keeps_the_monitor(name, spoil, reason):
    exchange = Exchange()
    link = temporary() / f"state-is-{name}"
    link.symlink_to(exchange.before)
    with exchange.server(link) as server:
        state = pathlib.Path(server.arguments[server.arguments.index("--statedir") + 1])
        wait_until((state / "stays.client").exists, "it is saved", 30)
        monitor = server.pid("monitor")
        repair = spoil(state)
        (temporary() / "next").symlink_to(exchange.after)
        (temporary() / "next").rename(link)
        expect_refused(reason)
        exchange.expect_before()
        expect_equal(server.pid("monitor"), monitor, "the monitor")
        repair()
        expect_reloaded()
        exchange.expect_after()


@case("a fresh monitor that could not use the saved state does not take over")
def _():
    def planted(state):
        (state / "x.client").write_bytes(b"x" * 100)
        os.chown(state / "x.client", 64700, 64700)
        return (state / "x.client").unlink

    def given_away(state):
        os.chown(state, 64700, 64700)
        return lambda: os.chown(state, 0, 0)

    def moved(state):
        state.rename(f"{state}.real")
        state.symlink_to(f"{state}.real")

        def repair():
            state.unlink()
            pathlib.Path(f"{state}.real").rename(state)
        return repair
    expect_state_keeps_the_monitor("planted", planted, "x.client: belongs to user 64700")
    # The second, if there was something to be saved.
    expect_state_keeps_the_monitor("given-away", given_away,
                                   "not the directory of this server any more|Permission denied")
    expect_state_keeps_the_monitor("moved", moved, "not the directory of this server any more")


@case("errors come before warnings, whole, and how many more there are")
def _():
    config = Configuration()
    for number in range(250):
        config.client(f"client-{number:03}", f"{number + 1:064x}", b"1", location="rack")
    with Server(config) as server:
        config.clients["client-100"]["timeout"] = "soon"
        config.write()
        said = expect_refused(r"\[client-100\] timeout.*soon", r"\nand [0-9]+ more, which mandos --check prints\n"
                              "nothing was changed")
        expect(said.index("soon") < said.index("warning: "), said)
        for client in config.clients.values():
            client["timeout"] = "soon"
        config.write()
        said = expect_refused("nothing was changed")
        shown = len(re.findall('found "soon"', said))
        more = int(re.search("\nand ([0-9]+) more", said)[1])
        expect(all("found" in line for line in said.splitlines()[:shown]), said)
        check = subprocess.run([*server.arguments, "--check"], capture_output=True, text=True)
        all_of_them = [line for line in check.stdout.splitlines() if not line.startswith("ok: ")]
        expect_equal(shown + more, len(all_of_them), "what is shown and what is left out")


@case("mandos.conf is read once: state stays where it is, whatever monitor comes")
def _():
    stolen, stolen_id = harness.test_key()
    config = Configuration().client("stolen", stolen_id, b"s", checker="false", interval="PT1S",
                                    timeout="PT2S")
    config.server_options["statedir"] = config.state
    # The harness's --statedir would outweigh the file.
    script = ("import os, sys; a = sys.argv[1:]; i = a.index('--statedir'); del a[i:i + 2]; "
              f"os.execv('{MANDOS}', ['mandos', *a])")
    with Server(config, command=[sys.executable, "-c", script]) as server:
        # What happens in the first seconds is gathered: it has expired when it is first saved.
        wait_until((config.state / "stolen.client").exists, "it is saved", 30)
        expect_unknown(stolen)
        place = config.directory
        place.rename(f"{place}.old")
        config.server_options["statedir"] = tempfile.mkdtemp(dir=temporary())
        place.mkdir(mode=0o700)
        config.write()
        start = len(server.log.lines)
        expect_reloaded()
        server.log.wait_for("mandos.conf: changed since the server started", start=start)
        expect_unknown(stolen)
        monitor = server.pid("monitor")
        os.kill(monitor, signal.SIGKILL)
        server.pid("monitor", other_than=monitor)
        expect_reloaded()
        expect_unknown(stolen)
        expect_equal(os.listdir(config.server_options["statedir"]), [], "what lies in the new place")


@case("an ordinary reload says that mandos.conf has changed, and is not used")
def _():
    config = Configuration().client("one", harness.test_key()[1], b"one")
    with Server(config):
        expect("mandos.conf" not in expect_reloaded(), "nothing changed yet")
        config.server_options["max_connections"] = 100
        config.write()
        said = expect_reloaded()
        expect("mandos.conf: changed since the server started" in said, said)


@case("a control socket that somebody removed is made anew")
def _():
    with Server(Configuration().client("one", harness.test_key()[1], b"one")) as server:
        os.unlink(CONTROL)
        wait_until(lambda: os.path.exists(CONTROL), "it is there again", 10)
        server.log.wait_for("control was removed: created again")
        expect_reloaded()


@case("what only root's override of permissions could read is an error at the start, too")
def _():
    theirs = temporary() / "theirs"
    theirs.mkdir(mode=0o700)
    (theirs / "blob").write_bytes(b"filed")
    (theirs / "blob").chmod(0o600)
    os.chown(theirs, 64700, 64700)
    config = Configuration().client("filed", harness.test_key()[1], secfile=theirs / "blob")
    server = Server(config, wait=False)
    expect_equal(server.wait(30), 1, "exit status")
    server.log.wait_for("secfile.*Permission denied")


@case("clients.conf and clients.d are links to elsewhere, in which files are replaced")
def _():
    exchange = Exchange()
    real = temporary() / "deployed"
    (real / "clients.d").mkdir(parents=True)
    os.chmod(real, 0o700)
    os.chmod(real / "clients.d", 0o700)
    place = pathlib.Path(tempfile.mkdtemp(dir=temporary()))
    shutil.move(exchange.before / "clients.conf", real / "clients.conf")
    (place / "clients.conf").symlink_to(real / "clients.conf")
    (place / "clients.d").symlink_to(real / "clients.d")
    extra, extra_id = harness.test_key()
    with exchange.server(place) as server:
        monitor = server.pid("monitor")
        exchange.expect_before()
        (exchange.after / "clients.conf").rename(real / "clients.conf")
        (folder(("extra", extra_id, b"extra")) / "clients.conf").rename(real / "clients.d/extra.conf")
        expect_reloaded()
        exchange.expect_after()
        expect_served(extra, b"extra")
        expect_equal(server.pid("monitor"), monitor, "nobody needed a fresh monitor")
        # Now they lead elsewhere.
        other = temporary() / "deployed-2"
        real.rename(other)
        for name in ("clients.conf", "clients.d"):
            (place / name).unlink()
            (place / name).symlink_to(other / name)
        (other / "clients.d/extra.conf").unlink()
        expect_reloaded()
        exchange.expect_after()
        expect_unknown(extra)


@case("a secfile in a folder that is new")
def _():
    config = Configuration()
    key, key_id = harness.test_key()
    filed, filed_id = harness.test_key()
    config.client("one", key_id, b"one")
    with Server(config) as server:
        secrets = temporary() / "new-secrets"
        secrets.mkdir(mode=0o700)
        (secrets / "blob").write_bytes(b"filed")
        (secrets / "blob").chmod(0o600)
        config.client("filed", filed_id, secfile=secrets / "blob").write()
        expect_reloaded()
        expect_served(filed, b"filed")
        expect_served(key, b"one")
        config.client("filed", filed_id, secfile=secrets / "missing").write()
        expect_refused("secfile.*no file", "nothing was changed")
        expect_served(filed, b"filed")


@case("a secfile in a user's home while accounts change")
def _():
    home = pathlib.Path(tempfile.mkdtemp(prefix="home-", dir=temporary()))
    for name in ("near", "home"):
        (home / name).write_bytes(name.encode())
        (home / name).chmod(0o600)
    near, near_id = harness.test_key()
    homely, homely_id = harness.test_key()
    config = Configuration().client("near", near_id, secfile=home / "near")

    def add_account(name):
        """As useradd(8) does it: the file is another one."""
        accounts = temporary() / f"passwd-with-{name}"
        accounts.write_text(pathlib.Path("/etc/passwd").read_text() + f"{name}:x:64999:64999::{home}:/\n")
        harness.bind(accounts, "/etc/passwd")
        cleanup.callback(subprocess.run, ["umount", "/etc/passwd"], check=True)

    with contextlib.ExitStack() as cleanup:
        add_account("alice")
        server = cleanup.enter_context(Server(config))
        monitor = server.pid("monitor")
        expect_reloaded()
        expect_served(near, b"near")
        config.client("home", homely_id, secfile="~alice/home").write()
        expect_reloaded()
        expect_served(homely, b"home")
        expect_equal(server.pid("monitor"), monitor, "nobody needed a fresh monitor")
        add_account("bob")
        expect_reloaded()
        expect_served(homely, b"home")
        expect_served(near, b"near")
        server.log.wait_for("a fresh monitor takes over")


@case("a fresh monitor keeps what was changed at run time, and the port")
def _():
    exchange = Exchange()
    place = temporary() / "kept"
    exchange.before.rename(place)
    with exchange.server(place) as server:
        exchange.expect_before()
        server.process.send_signal(signal.SIGUSR1)  # the signal does the same
        server.log.wait_for("read again")
        place.rename(temporary() / "kept.old")
        exchange.after.rename(place)
        server.process.send_signal(signal.SIGUSR1)
        server.log.wait_for("a fresh monitor takes over")
        for event in ('added client="new"', 'removed client="old"', 'changed client="stays"'):
            server.log.wait_for(f'audit: event={event} by="clients.conf"')
        wait_until(lambda: fetch("--timeout", 1, key=exchange.new).blob == b"new", "served")
        exchange.expect_after()


@case("reloads that each need a fresh monitor are slowed down, and all succeed")
def _():
    exchange = Exchange()
    link = temporary() / "flapping"
    link.symlink_to(exchange.before)
    with exchange.server(link) as server:
        for number in range(6):
            (temporary() / "next").symlink_to((exchange.after, exchange.before)[number % 2])
            (temporary() / "next").rename(link)
            expect_reloaded()
        exchange.expect_before()


if __name__ == "__main__":
    harness.main()
