#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""mandos-monitor in a pseudo-terminal, seen through a terminal emulator, on real servers.

Needs python3-pyte, python3-gi and dbus-daemon, and for one case the original server."""
import fcntl, json, os, pathlib, re, signal, struct, subprocess, sys, termios, threading, time

from private_bus import *  # first: it finds the interpreter that has the modules

import harness as h
from bus_test import KEY, server
from ctl_test import Serving, asking, ctl, three_clients

try:
    import pyte
except ImportError:
    print("1..0 # SKIP no python3-pyte")
    sys.exit(77)

PROGRAM = str(h.PREFIX / "sbin/mandos-monitor")
SHELL = ["bash", "--norc", "--noprofile", "-i"]
ALTERNATE, BACK = b"\x1b[?1049h", b"\x1b[?1049l"
ESCAPE, UP, DOWN, RIGHT = "\x1b", "\x1bOA", "\x1bOB", "\x1bOC"


class Emulator(pyte.Screen):
    """With what ncurses uses of terminals and pyte lacks: SU, SD and REP."""

    def scroll_up(self, lines=1, **_):
        self.scroll(lines or 1, "bottom", self.index)

    def scroll_down(self, lines=1, **_):
        self.scroll(lines or 1, "top", self.reverse_index)

    def scroll(self, lines, edge, move):
        before = self.cursor.y
        self.cursor.y = getattr(self.margins or pyte.screens.Margins(0, self.lines - 1), edge)
        for _ in range(lines):
            move()
        self.cursor.y = before

    def draw(self, data):
        self.last = data[-1:]
        super().draw(data)

    def repeat(self, times=1, **_):
        super().draw(self.last * (times or 1))


class Stream(pyte.ByteStream):
    csi = pyte.ByteStream.csi | {"S": "scroll_up", "T": "scroll_down", "b": "repeat"}


class Terminal:
    """A program in a terminal of its own, as its session's leader; a context manager."""

    def __init__(self, *command, rows=24, columns=80, term="screen-256color", locale="C.UTF-8"):
        ptmx = pathlib.Path("/dev/ptmx")
        if not ptmx.exists():
            ptmx.symlink_to("pts/ptmx")
        self.master, self.slave = os.openpty()
        self.screen = Emulator(columns, rows)
        self.stream = Stream(self.screen)
        if locale == "C":
            self.stream.select_other_charset("@")
        self.lock, self.raw = threading.Lock(), b""
        self.set_size(rows, columns)
        self.modes = termios.tcgetattr(self.slave)
        self.process = subprocess.Popen(
            command or [PROGRAM], stdin=self.slave, stdout=self.slave, stderr=self.slave,
            start_new_session=True, preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
            env={"PATH": os.environ["PATH"], "TERM": term, "LC_ALL": locale, "TZ": "UTC", "PS1": "ready> "})
        threading.Thread(target=self._collect, daemon=True).start()

    def _collect(self):
        while True:
            try:
                part = os.read(self.master, 65536)
            except OSError:
                return
            with self.lock:
                self.raw += part
                self.stream.feed(part)

    def set_size(self, rows, columns):
        with self.lock:
            self.screen.resize(rows, columns)
        fcntl.ioctl(self.slave, termios.TIOCSWINSZ, struct.pack("4H", rows, columns, 0, 0))

    def type(self, text):
        os.write(self.master, text.encode())

    def lines(self):
        with self.lock:
            return [line.rstrip() for line in self.screen.display]

    def find(self, pattern):
        return next((line for line in self.lines() if re.search(pattern, line)), None)

    def wait_for(self, pattern, seconds=10):
        """The first line of the screen that fits."""
        try:
            return h.wait_until(lambda: self.find(pattern), pattern, seconds)
        except h.Failure as failure:
            raise h.Failure("\n".join([str(failure), *self.lines()])) from None

    def wait_without(self, pattern):
        h.wait_until(lambda: not self.find(pattern), f"no {pattern!r} on the screen")

    def wait_selected(self, name):
        self.wait_for(f"^> {re.escape(name)} ")

    def styles(self, pattern):
        """(color, bold, reverse) of each character of the first line that fits."""
        line = next(i for i, line in enumerate(self.lines()) if re.search(pattern, line))
        with self.lock:
            row = self.screen.buffer[line]
            return [(row[x].fg, row[x].bold, row[x].reverse) for x in range(self.screen.columns)]

    def output(self, since=0):
        with self.lock:
            return self.raw[since:]

    def end(self, status=0):
        h.expect_equal(self.process.wait(20 * h.SLACK), status, f"status, after {self.lines()}")

    def expect_restored(self):
        """The modes of the terminal, its screen and its cursor are as they were found."""
        h.expect_equal(termios.tcgetattr(self.slave), self.modes, "modes of the terminal")
        h.wait_until(lambda: self.output().rfind(BACK) > self.output().rfind(ALTERNATE), "the screen before")
        h.expect(not self.screen.cursor.hidden, "the cursor is hidden")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self.slave)


def quiet(config):
    """The first check comes at a random time within the interval, and must not come now."""
    for section in config.clients.values():
        section |= {"interval": "P20D", "timeout": "P400D"}
    return config


def properties(name):
    return json.loads(ctl("--dump-json", name).stdout)[name]


def masked(lines):
    """Without what differs from run to run."""
    text = "\n".join(lines)
    for pattern, with_ in ((r"\d\d:\d\d:\d\d ", "HH:MM:SS "), (r"in \d+:\d\d\b", "in M:SS"),
                           (r"[0-9A-F]{40,64}", "KEY")):
        text = re.sub(pattern, with_, text)
    return [line.rstrip() for line in text.split("\n")]


HEADING = "  Name                       State    Time left       Last check Host"
HINTS = " a approve  d deny  + enable  - disable  s check  R remove  / find  & filter  ?"


def settle(find, wanted, what):
    """The screen comes in pieces, so that a part of it may be older than another one."""
    try:
        h.wait_until(lambda: find() == wanted, what)
    except h.Failure:
        h.expect_equal(find(), wanted, what)


@h.case("the list in 80x24, and what happens to a client changes its row and the log")
def _():
    with Serving(config=quiet(three_clients())), Terminal() as terminal:
        ctl("--bump-timeout", "--all")
        for name in ("foo.bar-1", "one", "third"):
            terminal.wait_for(rf"^[> ] {name} +ok ")
        row = "{} {:26} ok       399d 23h        <1m ago    {}.example"
        settle(lambda: terminal.lines(), [
            " 3 clients", HEADING, row.format(">", "foo.bar-1", "foo.bar-1")[:79] + "~", row.format(" ", "one", "one"),
            row.format(" ", "third", "third"), *[""] * 11, " Log", *[""] * 6, HINTS], "the screen")
        h.expect(terminal.screen.cursor.hidden, "a cursor")
        ctl("--disable", "one")
        terminal.wait_for("^  one +disabled +<1m ago")
        terminal.wait_for(r"^\d\d:\d\d:\d\d one was disabled$")
        settle(lambda: terminal.lines()[0], " 3 clients, 1 disabled", "the title")
        ctl("--checker", "exit 3", "--start-checker", "third")
        terminal.wait_for("^  third +failed ")
        terminal.wait_for(" third: check failed, status 3$")
        ctl("-H", "elsewhere", "third")
        terminal.wait_for("^  third .* elsewhere$")
        ctl("--remove", "one")
        terminal.wait_for(" one was removed$")
        terminal.wait_without("^  one ")
        stranger, key_id = h.test_key()
        h.fetch(key=stranger)
        terminal.wait_for(f" unknown key from ::1: {key_id.upper()[:40]}")
        terminal.type("q")
        terminal.end()
        terminal.expect_restored()


@h.case("keys enable, disable, check, count a check, and remove after a yes")
def _():
    with Serving(config=quiet(three_clients())), Terminal() as terminal:
        terminal.wait_selected("foo.bar-1")
        terminal.type(DOWN)
        terminal.wait_selected("one")
        terminal.type("-")
        terminal.wait_for("You disabled one$")
        terminal.wait_for("^> one +disabled")
        h.expect(not properties("one")["Enabled"], "enabled")
        terminal.type("+")
        terminal.wait_for("^> one +enabled")
        h.expect(properties("one")["Enabled"], "disabled")
        terminal.type("C")
        terminal.wait_for("^> one +ok .*<1m ago")
        h.expect_equal(properties("one")["LastCheckerStatus"], 0, "status")
        ctl("--checker", "sleep 1000", "one")
        terminal.type("s")
        terminal.wait_for("^> one +checking")
        h.expect(properties("one")["CheckerRunning"], "no checker")
        terminal.type("S")
        terminal.wait_for("You stopped the checker of one$")
        terminal.wait_for("^> one +(ok|failed)")
        for answer in ("n", "q", ESCAPE, "\r"):
            terminal.type("R")
            terminal.wait_for('^ Remove "one" from the server\\? y/n')
            terminal.type(answer)
            terminal.wait_for("^ Nothing was removed")
        h.expect_equal(properties("one")["Name"], "one", "the client")
        terminal.type("\x0b")  # Ctrl-K
        terminal.wait_for("y/n")
        terminal.type("y")
        terminal.wait_for("You removed one$")
        terminal.wait_without("^[> ] one ")
        h.expect("one" not in json.loads(ctl("-j").stdout), "one is there")
        terminal.type("-")  # nothing is selected now
        terminal.wait_for("^ No client is selected")
        terminal.type("j-")
        terminal.wait_for("You disabled third$")
        terminal.type("\x03")
        terminal.end()
        terminal.expect_restored()


@h.case("waiting clients are listed first with a countdown; keys approve and deny them")
def _():
    config, key = asking()
    config.clients["zeta"] = dict(config.clients.pop("asks"))
    with Serving(config=quiet(config)), Terminal() as terminal:
        terminal.wait_selected("foo.bar-1")
        waiting = h.start_fetch(key=key)
        first = terminal.wait_for(r"^  zeta +waiting  deny in 9:\d\d ")
        settle(lambda: terminal.lines()[2], first, "the first row")
        settle(lambda: terminal.lines()[0], " 4 clients, 1 waiting", "the title")
        terminal.wait_for("zeta waits for approval, and is denied in 10:00$")
        yellow = {style for style in terminal.styles("^  zeta")[2:6]}
        h.expect_equal(yellow, {("brown", True, False)}, "the style of who waits")  # pyte's yellow
        terminal.wait_selected("foo.bar-1")  # it stays selected
        h.wait_until(lambda: terminal.lines()[2] != first, "it counts down")
        terminal.wait_for(r"^  zeta +waiting  deny in 9:\d\d ")
        terminal.type("g")
        terminal.wait_selected("zeta")
        terminal.type("a")
        h.expect_outcome(h.finish_fetch(waiting), "blob")
        terminal.wait_for("You approved zeta$")
        terminal.wait_for("zeta got its secret$")
        terminal.wait_for("^> zeta +(ok|enabled)")
        settle(lambda: terminal.lines()[2][:12], "  foo.bar-1 ", "the row")
        ctl("--approval-duration", "0", "zeta")
        terminal.type("d")
        terminal.wait_for("You denied zeta$")
        waiting = h.start_fetch(key=key)
        terminal.wait_for(r"^> zeta +waiting  deny in 9:\d\d ")
        terminal.type("d")
        h.finish_fetch(waiting)
        terminal.wait_for("zeta was refused: Denied$")


@h.case("search, filter, help, pages and the log's keys")
def _():
    config = quiet(three_clients())
    for number in range(10, 60):
        config.client(f"host{number}", KEY % number, b"x", host=f"h{number}.example",
                      interval="P200D", timeout="P400D")
    with Serving(config=config), Terminal() as terminal:
        terminal.wait_selected("foo.bar-1")
        terminal.type("/OST3")
        terminal.wait_for("^Search for: OST3$")
        h.expect(not terminal.screen.cursor.hidden, "no cursor")
        terminal.type("\r")
        terminal.wait_selected("host30")
        terminal.type("nn")
        terminal.wait_selected("host32")
        terminal.type("N")
        terminal.wait_selected("host31")
        h.expect(terminal.screen.cursor.hidden, "a cursor")
        terminal.type("/nobody\r")
        terminal.wait_for("^ Not found: nobody")
        terminal.wait_selected("host31")
        terminal.type("&h5\x7f5\r")
        terminal.wait_for('^ 53 clients; shown: 10 with "h5"$')
        terminal.wait_selected("host50")
        settle(lambda: [line[2:8] for line in terminal.lines()[2:12]],
                       [f"host{number}" for number in range(50, 60)], "those that fit")
        terminal.type(ESCAPE)
        terminal.wait_for("^ 53 clients$")
        terminal.type("g")
        terminal.wait_selected("foo.bar-1")
        for keys, name in (("\x16", "host23"), (" ", "host37"), ("f", "host51"), ("b", "host37"),
                           ("\x1bv", "host23"), ("\x1b[5~", "foo.bar-1"), ("\x1b[6~", "host23"), ("G", "third"),
                           ("k", "one"), (UP, "host59"), ("\x10", "host58"), ("\x0e", "host59")):
            terminal.type(keys)
            terminal.wait_selected(name)
        terminal.type("?")
        terminal.wait_for("^ Keys$")
        terminal.wait_for("count now as a successful check")
        terminal.type("x")
        terminal.wait_selected("host59")
        # A key that the terminal should not have, in one piece or two, is no letter at its end.
        for part in (RIGHT, "\x1b[C", "\x1b[1;5C", "\x1b[12345~"):
            terminal.type(part)
        terminal.type("&host\r")
        terminal.wait_for("; shown: 50 with")
        terminal.type(ESCAPE)
        terminal.wait_without("; shown: ")  # so what follows comes after that key
        terminal.type("[Ck")
        terminal.wait_selected("host58")
        h.expect_equal(terminal.find("You "), None, "something was done")
        ctl("--disable", "one")
        terminal.wait_for("one was disabled$")
        terminal.type("l")
        terminal.wait_without("^ Log")
        terminal.type("D")
        terminal.wait_for("^ Log$")
        for _ in range(4):
            ctl("--enable", "one")
            ctl("--disable", "one")
        terminal.type("\t")
        terminal.wait_for("^ Log .Tab: back to the clients.$")
        terminal.type("kk")
        terminal.wait_for(r", 2 lines below$")
        terminal.type("jj\t")
        terminal.wait_for("^ Log$")
        ctl("--checker", "true", "--start-checker", "host10")
        h.wait_until(lambda: properties("host10")["LastCheckerStatus"] == 0, "it was checked")
        ctl("--disable", "host10")
        terminal.wait_for("host10 was disabled")  # and so the check was seen, too
        terminal.type("v")
        terminal.wait_for("^ Successful checks are logged, too")
        terminal.type("w")
        terminal.wait_for("^ Long lines of the log are cut off")
        ctl("--start-checker", "host11")
        terminal.wait_for("host11: check succeeded$")
        h.expect_equal(terminal.find("host10: check"), None, "it was not asked for")


@h.case("resizing draws the new size, and Ctrl-L the same one")
def _():
    with Serving(config=quiet(three_clients())), Terminal() as terminal:
        terminal.wait_selected("foo.bar-1")
        for rows, columns in ((40, 132), (10, 40), (5, 20), (24, 80)):
            terminal.set_size(rows, columns)
            wanted = HINTS if columns > 79 else HINTS[:columns - 1] + "~"
            h.wait_until(lambda: terminal.lines()[-1] == wanted and terminal.lines()[0] == " 3 clients",
                         f"{rows} rows of {columns} columns")
            terminal.wait_selected("foo.bar-1"[:10])
            settle(lambda: len([line for line in terminal.lines() if line.startswith(" Log")]), int(rows > 8),
                           "logs")
        with terminal.lock:
            terminal.screen.reset()  # as if something else had written there
        terminal.type("\x0c")
        terminal.wait_selected("foo.bar-1")
        settle(lambda: terminal.lines()[-1], HINTS, "the last line")


@h.case("Ctrl-C, SIGTERM, SIGHUP and q restore the terminal, and so does Ctrl-Z until the program goes on")
def _():
    with Serving(config=quiet(three_clients())):
        for ending in ("\x03", "\x1c", "q", "Q", signal.SIGTERM, signal.SIGHUP):
            with Terminal(term="xterm-256color") as terminal:
                terminal.wait_for("foo.bar-1")
                h.expect(ALTERNATE in terminal.output(), "the screen of its own")
                h.expect(termios.tcgetattr(terminal.slave) != terminal.modes, "modes")
                terminal.type(ending) if isinstance(ending, str) else terminal.process.send_signal(ending)
                terminal.end()
                terminal.expect_restored()
        with Terminal(*SHELL) as terminal:
            terminal.wait_for("^ready>")
            for stopping in ("\x1a", signal.SIGTSTP, signal.SIGSTOP):
                terminal.type(f"stty -g > {h.temporary()}/before; {PROGRAM}\r")
                terminal.wait_selected("foo.bar-1")
                if isinstance(stopping, str):
                    terminal.type(stopping)
                else:
                    program = next(pid for pid in h.tree(terminal.process.pid)
                                   if os.readlink(f"/proc/{pid}/exe") == PROGRAM)
                    os.kill(program, stopping)
                terminal.wait_for(r"Stopped")
                if stopping != signal.SIGSTOP:
                    h.expect(terminal.output().rfind(BACK) > terminal.output().rfind(ALTERNATE), "its screen")
                    h.expect(not terminal.screen.cursor.hidden, "the cursor is hidden")
                ctl("--disable", "third")
                terminal.type("clear; echo away\r")
                terminal.wait_for("^away")
                terminal.set_size(30, 90)
                terminal.type("fg\r")
                terminal.wait_for("^  third +disabled")
                h.wait_until(lambda: terminal.lines()[29] == HINTS, "30 rows")
                h.expect_equal(terminal.find("away"), None, "the shell's text")
                h.expect(ALTERNATE in terminal.output()[terminal.output().rfind(b"fg"):] or
                         stopping == signal.SIGSTOP, "its screen again")
                terminal.type("j-")  # it reads keys as before
                terminal.wait_for("You disabled one$")
                ctl("--enable", "--all")
                terminal.wait_for("third was enabled")
                terminal.type("\x03")
                terminal.wait_for("^ready> ")
                terminal.type(f"echo status $?; stty -g | diff {h.temporary()}/before - && echo 's'ame\r")
                terminal.wait_for("^status 0")
                terminal.wait_for("^same")
                terminal.set_size(24, 80)
                terminal.type("clear\r")
                terminal.wait_without("^same")
            terminal.type("exit\r")
            terminal.end()


@h.case("the view survives a restart of the server, and of the bus")
def _():
    config = quiet(three_clients())
    with Bus(POLICY) as bus, Terminal() as terminal:
        terminal.wait_for("^ No server runs; waiting for it$")
        with server(config):
            terminal.wait_for("^ 3 clients")
            terminal.wait_for("The server is back$")
            terminal.wait_selected("foo.bar-1")
            terminal.type("j")
            terminal.wait_selected("one")
        terminal.wait_for("^ No server runs; waiting for it$")
        terminal.wait_for("The server is gone; waiting for it$")
        h.wait_until(lambda: terminal.lines()[2:5] == [""] * 3, "no client is shown")
        terminal.type("-")
        terminal.wait_for("^ There is no client")
        with server(config):
            terminal.wait_for("^ 3 clients")
            terminal.wait_selected("one")
            terminal.type("-")
            terminal.wait_for("You disabled one$")
        bus.stop()
        terminal.wait_for("lost the system bus; trying again$")
        bus.start()
        terminal.wait_for("connected to the system bus again$")
        with server(config):
            terminal.wait_for("^> one +disabled")
            terminal.type("+")
            terminal.wait_for("You enabled one$")
        terminal.type("q")
        terminal.end()


@h.case("a server that does not answer leaves the keys alive, and its refusal is shown")
def _():
    with Serving(config=quiet(three_clients())) as started, Terminal() as terminal:
        terminal.wait_selected("foo.bar-1")
        agent = next(pid for pid in h.tree(started.process.pid) if h.role_of(pid) == "bus-agent")
        os.kill(agent, signal.SIGSTOP)
        try:
            terminal.type("-j")
            terminal.wait_selected("one")
            ask = terminal.find("You ")
        finally:
            os.kill(agent, signal.SIGCONT)
        h.expect_equal(ask, None, "an answer")
        terminal.wait_for("You disabled foo.bar-1$")
        terminal.type("R")
        terminal.wait_for("y/n")
        ctl("--remove", "one")
        terminal.wait_for("one was removed")
        terminal.type("y")
        terminal.wait_for("cannot remove one: ")
        h.expect_equal(set(json.loads(ctl("-j").stdout)), {"foo.bar-1", "third"}, "clients")


@h.case("in an ASCII locale and on a terminal without colors")
def _():
    config = quiet(three_clients().client("b\u00e4r", KEY % 9, b"x", host="\u4e2d.example"))
    with Serving(config=config):
        with Terminal() as terminal:
            terminal.wait_for("^  third ")
            terminal.wait_for("^> b\u00e4r .* \u4e2d ?.example$")
            ctl("--bump-timeout", "one")
            terminal.wait_for("^  one +ok")
            h.expect("green" in {style[0] for style in terminal.styles("^  one")}, "no color")
        for term, locale in (("vt100", "C"), ("vt100", "C.UTF-8"), ("screen-256color", "C")):
            with Terminal(term=term, locale=locale) as terminal:
                terminal.wait_for("^  third ")
                terminal.wait_for("^  one +ok")
                if locale == "C":
                    terminal.wait_for(r"^> b\?r .* \?.example$")
                    h.expect(terminal.output().isascii(), "more than ASCII")
                if term == "vt100":
                    colors = re.findall(rb"\x1b\[[0-9;]*[34]\dm", terminal.output())
                    h.expect_equal(colors, [], "colors")
                    h.expect(terminal.styles("^> b")[2][2], "the selected row is not marked")
                terminal.type("-")
                terminal.wait_for(r"^> b(\?|\u00e4)r +disabled")
                terminal.type("+\x03")
                terminal.end()
                h.expect_equal(termios.tcgetattr(terminal.slave), terminal.modes, "modes")


@h.case("the original server")
def _():
    config, key = asking()
    with Serving(original=True, config=quiet(config)), Terminal() as terminal:
        terminal.wait_selected("asks")
        terminal.type("jj")
        terminal.wait_selected("one")
        terminal.type("-")
        terminal.wait_for("^> one +disabled")
        terminal.type("+C")
        terminal.wait_for("^> one +ok")
        terminal.type("Ry")
        terminal.wait_for("one was removed$")
        terminal.wait_without("^[> ] one")
        waiting = h.start_fetch(key=key)
        # That server may miss an answer that comes at once, and may call a client pending for good.
        terminal.wait_for(r"^  asks +waiting  deny in 9:5[0-8] ")
        terminal.type("ga")
        terminal.wait_for("You approved asks$")
        waiting.kill()
        waiting.communicate()


NODE = Gio.DBusNodeInfo.new_for_xml(f"""<node><interface name="{MANAGER}">
<method name="GetManagedObjects"><arg type="a{{oa{{sa{{sv}}}}}}" direction="out"/></method>
</interface></node>""")


class Fake:
    """A server with such names of clients; a context manager."""

    def __init__(self, names):
        day = 86400 * 1000
        utc = lambda seconds: time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(time.time() + seconds))
        each = {"Enabled": ("b", True), "Timeout": ("t", day), "LastCheckedOK": ("s", utc(-7200)),
                "Created": ("s", utc(-9999)), "Interval": ("t", day), "Host": ("s", "host.example"),
                "KeyID": ("s", "00"), "Fingerprint": ("s", ""), "CheckerRunning": ("b", False),
                "LastEnabled": ("s", utc(-9999)), "ApprovalPending": ("b", False),
                "ApprovedByDefault": ("b", False), "LastApprovalRequest": ("s", ""),
                "ApprovalDelay": ("t", 600000), "ApprovalDuration": ("t", 1000), "Checker": ("s", "true"),
                "ExtendedTimeout": ("t", day), "Expires": ("s", utc(86400 * 100 + 1800)),
                "LastCheckerStatus": ("n", 0)}
        self.common = {name: GLib.Variant(*value) for name, value in each.items()}
        self.names, self.utc, self.calls, self.silent = list(names), utc, 0, False
        self.build()

    def build(self):
        self.objects = GLib.Variant("(a{oa{sa{sv}}})", ({
            f"/clients/c{number}": {CLIENT: self.common | {"Name": GLib.Variant("s", name)}}
            for number, name in enumerate(self.names)},))

    def answer(self, *call):
        self.calls += 1
        if not self.silent:
            call[-1].return_value(self.objects)

    def add(self, names):
        first = len(self.names)
        self.names += names
        self.build()
        for number in range(first, len(self.names)):
            self.connection.emit_signal(None, "/", OURS, "ClientAdded", GLib.Variant("(o)", (f"/clients/c{number}",)))
        self.flush()

    def __enter__(self):
        self.context = GLib.MainContext.new()
        self.context.push_thread_default()
        self.caller = Caller()
        self.connection = self.caller.connection
        self.connection.register_object("/", NODE.interfaces[0], self.answer)
        self.context.pop_thread_default()
        self.loop = GLib.MainLoop.new(self.context, False)
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()
        self.caller.call("/org/freedesktop/DBus", "org.freedesktop.DBus", "RequestName",
                         GLib.Variant("(su)", (OURS, 4)), to="org.freedesktop.DBus")
        return self

    def run(self):
        self.context.push_thread_default()
        self.loop.run()

    def change(self, number, **properties):
        self.connection.emit_signal(None, f"/clients/c{number}", PROPERTIES, "PropertiesChanged", GLib.Variant(
            "(sa{sv}as)", (CLIENT, {name: GLib.Variant(*value) for name, value in properties.items()}, [])))

    def flush(self):
        self.connection.flush_sync(None)

    def __exit__(self, *_):
        self.loop.quit()
        self.thread.join()
        self.caller.close()


@h.case("a server that does not answer keeps neither a key nor a signal from being heeded")
def _():
    with Bus(LOOSE):
        with Fake(["one"]) as fake, Terminal() as terminal:
            terminal.wait_for("^> one ")
            fake.silent = True
            fake.add(["two"])
            h.wait_until(lambda: fake.calls == 2, "it asks for the new client")
            terminal.type("?")
            terminal.wait_for("^ Keys")
            terminal.set_size(5, 40)
            terminal.wait_for("^ Any key returns")
            terminal.type("?q")
            terminal.end()
        # Before it has answered at all, nothing is shown, and nothing is left behind.
        with Fake(["one"]) as fake:
            fake.silent = True
            for text, status in (("\x03", 0), ("\x1c", 0)):
                asked = fake.calls
                with Terminal() as terminal:
                    h.wait_until(lambda: fake.calls > asked, "it asks")
                    terminal.set_size(10, 40)
                    terminal.type(text)
                    terminal.end(status)
                    h.expect_equal(termios.tcgetattr(terminal.slave), terminal.modes, "modes of the terminal")


@h.case("names that could harm a terminal do not")
def _():
    names = ["a\x1b[2J\x1b]0;owned\x07b", "b\u202e\u200fgnp", "c\x9b2Jd", "d\u4e2d\u6587\u4e2d\u6587e\u0301",
             "e\r\nf\tg\x08", "f" * 5000, "g%s%n"]
    with Bus(LOOSE), Fake(names) as fake, Terminal() as terminal:
        terminal.wait_for("^  g%s%n ")
        settle(lambda: [re.match("(.*?) +ok ", line)[1] for line in terminal.lines()[2:9]], [
            "> a?[2J?]0;owned?b", "  b??gnp", "  c?2Jd", "  d\u4e2d\u6587\u4e2d\u6587e?", "  e??f?g?",
            "  " + "f" * 25 + "~", "  g%s%n"], "names")
        with terminal.lock:
            states = ["".join(terminal.screen.buffer[y][x].data for x in range(29, 31)) for y in range(2, 9)]
        h.expect_equal(states, ["ok"] * 7, "the columns of the states")
        for number in range(len(names)):
            fake.change(number, Enabled=("b", False), Host=("s", names[number]))
        fake.connection.emit_signal(None, "/", OURS, "ClientNotFound",
                                    GLib.Variant("(ss)", (names[0], names[1])))
        terminal.wait_for(re.escape("unknown key from b??gnp: a?[2J?]0;owned?b") + "$")
        terminal.type("w")
        terminal.wait_for("f was disabled|fffff~$")
        terminal.type("R")
        terminal.wait_for(re.escape(' Remove "a?[2J?]0;owned?b" from the server? y/n'))
        output = terminal.output()
        for bad in (b"owned\x07", b"\x1b]", b"\xe2\x80\xae", b"\xe2\x80\x8f", b"\xc2\x9b", b"\xcc\x81"):
            h.expect(bad not in output, f"{bad} was written")


@h.case("with 10,000 clients, a change writes only what has changed")
def _():
    with Bus(LOOSE), Fake([f"client{number:05}" for number in range(10000)]) as fake, Terminal() as terminal:
        terminal.wait_for("^> client00000 +ok", 60)
        terminal.wait_for("^ 10000 clients$")

        def written(act, pattern, most):
            before = len(terminal.output())
            act()
            terminal.wait_for(pattern, 30)
            found = len(terminal.output()) - before
            print(f"# {found} bytes for {pattern}", flush=True)
            h.expect(0 < found <= most, f"{found} bytes for {pattern}, at most {most} expected")

        def changes(numbers):
            for number in numbers:
                fake.change(number, Enabled=("b", False))
            fake.flush()

        written(lambda: fake.change(3, Enabled=("b", False)), "^  client00003 +disabled", 400)
        written(lambda: fake.change(5000, LastCheckerStatus=("n", 1)), "^ 10000 clients, 1 failed, 1 disabled", 200)
        # Drawn together, and no more often than twenty times a second.
        written(lambda: changes(range(7000, 8000)), "1001 disabled", 2000)
        written(lambda: terminal.type("j"), "^> client00001 ", 600)
        written(lambda: fake.change(9000, ApprovalPending=("b", True), LastApprovalRequest=("s", fake.utc(0))),
                "^  client09000 +waiting", 3000)
        second = terminal.find("client09000")
        written(lambda: None, f"^  client09000 +waiting(?!.*{second[38:55].strip()})", 120)
        written(lambda: terminal.type("f"), "^> client00015 ", 3000)
        written(lambda: terminal.type("&client0777\r"), "shown: 10 with", 3000)
        terminal.wait_selected("client07770")


@h.case("clients that are added together are read together, and nobody waits twice")
def _():
    with Bus(LOOSE), Fake(["one", "waits"]) as fake, Terminal() as terminal:
        terminal.wait_for("^  waits +ok")
        fake.common |= {"ApprovalPending": GLib.Variant("b", True)}  # of all from now on
        fake.add([f"new{number:03}" for number in range(200)])
        terminal.wait_for("^ 202 clients")
        print(f"# {fake.calls} calls for 200 clients", flush=True)
        h.expect(fake.calls <= 40, f"{fake.calls} calls")
        fake.add(["last"])
        terminal.wait_for("last was added$")
        settle(lambda: [line[9:] for line in terminal.lines() if re.match(r"\d\d:", line)][-2:],
                       ["last waits for approval", "last was added"], "the end of the log")


@h.case("the screen in doc/operating.md is a real one")
def _():
    page = (h.SOURCE / "doc/operating.md").read_text()
    shown = re.search(r"## The live view\n.*?```\n(.*?)```", page, re.S)[1].rstrip("\n").split("\n")
    key, key_id = h.test_key()
    config = h.Configuration()
    for number, name in enumerate(("backup", "db", "mail", "web")):
        config.client(name, KEY % (number + 1), b"x", host=f"{name}.example")
    config.client("nas", key_id, b"x", host="nas.example", approval_delay="PT10M", approved_by_default="False")
    with Serving(config=quiet(config)), Terminal(rows=len(shown)) as terminal:
        terminal.wait_selected("backup")
        ctl("--bump-timeout", "--all")
        ctl("--disable", "backup")
        terminal.wait_for("backup was disabled")
        ctl("--checker", "exit 1", "--start-checker", "db")
        terminal.wait_for("db: check failed")
        waiting = h.start_fetch(key=key)
        terminal.wait_for("nas waits")
        terminal.type("g")
        terminal.wait_for("^> nas +waiting")
        h.wait_until(lambda: masked(terminal.lines()) == masked(shown),
                     "\n".join(["the screen of doc/operating.md; this is the real one:", *terminal.lines()]))
        waiting.kill()
        waiting.communicate()


@h.case("the command line, and where there is no bus, no permission or no terminal")
def _():
    run = lambda *words, **options: subprocess.run([PROGRAM, *words], capture_output=True, text=True,
                                                   stdin=subprocess.DEVNULL, timeout=60 * h.SLACK, **options)
    ran = run("--help")
    h.expect_equal((ran.returncode, ran.stderr), (0, ""), "--help")
    h.expect("--version" in ran.stdout and max(map(len, ran.stdout.split("\n"))) <= 80, ran.stdout)
    h.expect_equal(run("--vers").stdout, ctl("--version").stdout.replace("mandos-ctl", "mandos-monitor"), "--version")
    for words in (["--frobnicate"], ["one"], ["--help=1"], ["-x"]):
        ran = run(*words)
        h.expect_equal((ran.returncode, ran.stdout), (2, ""), f"{words}")
        h.expect("mandos-monitor: " in ran.stderr and "--help" in ran.stderr, ran.stderr)
    ran = run()
    h.expect_equal((ran.returncode, ran.stdout), (1, ""), "no bus")
    h.expect("mandos-monitor: cannot connect to the system bus" in ran.stderr, ran.stderr)
    with Serving(config=three_clients()):
        ran = run()
        h.expect_equal((ran.returncode, ran.stdout), (1, ""), "no terminal")
        h.expect_equal(ran.stderr, "mandos-monitor: standard input and output must be a terminal\n", "no terminal")
        ran = run(user="nobody", group="nogroup", extra_groups=[])
        h.expect_equal((ran.returncode, ran.stdout), (1, ""), "no permission")
        h.expect("members of the group _mandos" in ran.stderr, ran.stderr)
        for term in ("", "nonsense", "dumb"):
            with Terminal(term=term) as terminal:
                terminal.end(1)
                terminal.wait_for("^mandos-monitor: TERM=")


if __name__ == "__main__":
    h._cases[:] = [each for each in h._cases if each[1].__module__ == "__main__"]
    h.main()
