#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""mandos-ctl beside the original's: the same calls to both, on our server and on the original server.

Needs python3-gi, dbus-daemon and, for what is compared, the original server with its mandos-ctl."""
import json, pathlib, re, subprocess

import harness as h
from bus_test import KEY, original_server, running, timeless
from private_bus import *

CTL = str(h.PREFIX / "sbin/mandos-ctl")
ORIGINAL = "/usr/sbin/mandos-ctl"
POLICY_OF_ORIGINAL = pathlib.Path("/etc/dbus-1/system.d/mandos.conf")


def ctl(*words, before=()):
    return subprocess.run([*before, CTL, *words], capture_output=True, text=True,
                          stdin=subprocess.DEVNULL, timeout=60 * h.SLACK)


# Loads the original's tool once and runs each call in a process of its own: starting Python takes
# longer than all that the tool does. A call is a line of JSON with its words, and so is its result.
FORKING = """
import json, os, sys, tempfile, traceback
sys.argv = [sys.argv[1]]
tool = {"__name__": "the_original"}
exec(compile(open(sys.argv[0]).read(), sys.argv[0], "exec"), tool)
for line in sys.stdin:
    out, err = [tempfile.TemporaryFile() for _ in range(2)]
    child = os.fork()
    if child == 0:
        os.dup2(os.open("/dev/null", os.O_RDONLY), 0)
        os.dup2(out.fileno(), 1)
        os.dup2(err.fileno(), 2)
        sys.argv[1:] = json.loads(line)
        status = 0
        try:
            tool["main"]()
        except SystemExit as ended:
            status = ended.code or 0
        except BaseException:
            traceback.print_exc()
            status = 1
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    read = lambda file: os.pread(file.fileno(), 1 << 20, 0).decode()
    print(json.dumps([status, read(out), read(err)]), flush=True)
    out.close()
    err.close()
"""


class Original:
    """The original's tool; called as ctl() is."""

    def __init__(self):
        self.process = subprocess.Popen(["/usr/bin/python3", "-c", FORKING, ORIGINAL], text=True,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def __call__(self, *words):
        self.process.stdin.write(json.dumps(words) + "\n")
        self.process.stdin.flush()
        return subprocess.CompletedProcess(words, *json.loads(self.process.stdout.readline()))

    def close(self):
        self.process.communicate()


def three_clients():
    config = h.Configuration()
    for number, name in enumerate(("one", "foo.bar-1", "third")):
        config.client(name, KEY % (number + 1), b"secret", host=f"{name}.example")
    return config


class Serving:
    """A bus with a server on it: ours, or the original."""

    def __init__(self, original=False, config=None):
        self.bus = Bus(POLICY_OF_ORIGINAL.read_text() if original else POLICY)
        config = config or three_clients()
        self.server = original_server(config) if original else running(config)

    def __enter__(self):
        self.bus.__enter__()
        self.started = self.server.__enter__()
        caller = Caller()
        h.wait_until(caller.has_server, "the server is on the bus", 60)
        caller.close()
        return self.started

    def __exit__(self, *about):
        self.server.__exit__(*about)
        self.bus.__exit__(*about)


# Command lines that are wrong before a server is asked. Status 2 and nothing on standard output.
WRONG = """
-a | --all | -v -a | -j -a | -j -v | -avj | -j -e one | -je one | -j -V one | -v -e one | -ev one
-v -V one | -V | -V one third | -e | -d | -b | -r | -A | -D | -t PT1M | -H x | -c true | -s /etc/hostname
--start-checker | --stop-checker | --approve-by-default | --deny-by-default | --extended-timeout PT1M
--interval PT1M | --approval-delay PT1M | --approval-duration PT1M | -e -d one | -d -e one
--enable --disable -a | --deny --approve one | -A -D one | --start-checker --stop-checker one
--approve-by-default --deny-by-default one | -r -e one | -r -A one | -r -V one | -r -r one | -r -b one
-r -H x one | --e one | --a one | --app one | --ver | --de one | --den one | --st one | --d one
--approval-d PT1M one | --frobnicate | --foo=1 -e one | -Q | -vQ one | -v1 | --verbose=1 | --verb= one
--enable=yes one | -hx | -xh one | -t | --timeout | -s | -c | -H | -t -v one | -H -x one | -c -- one
-t -- one | --timeout --all | -s /nonexistent one | -s /etc one | one -x | --help=1 | --timeout one
-V -a one third | -eQ one | -H -e one | --start one --stop one | --interval | --host | -i
"""
# In their order: (what, command line). Each is played by both tools on servers of the same state.
PLAYED = """
| -v | --verbose | -j | --dump-json | one | one third | third one | one one | one foo.bar-1 -v
-j one | -j third one third | -- one | one -- third | -- -x | - | -5 | nobody | one nobody | nobody one
-e nobody | -a -e nobody | -V nobody | -r nobody | -v nobody | -j nobody
-V one | --is-enabled third | -V -a | -V -e one | -V -V one | -d one | -V one | -V -d one | -j
-d -V third | -j third | -e -V third | -e third | -e one | -e -e one | -ab | -abe | --en one | --disa third
-e -a | -d -a one | | -e --all | -V -b one | -A -V one | -V -H x one | -j one
-H new.example one | --host other.example one third | -Hx one | -H=x one | --host=-x one | -eHx one
-eH=x one | -H '' one | -j one | -H 'a"b\\c' one | -j one | -v one | -H ü one | -j one | -v | -H '-x y' one
-v one | -c true one | --checker 'test -e /' one | --checker= one | -c 'true # %%(host)s' third | -v | -j
-t PT2H one | --timeout=PT3H one | --timeo PT1H one | -tPT90M one | -t=PT1H1M1S one | one | -t 5h one | one
-t 1d12h one | one | -t '1d 12h' one | one | -t ' 5h ' one | -t P1W one | one | -t '3w 2d' one | one
-t P1DT2H3M4S one | one | -t PT36H one | -t P2D -t P3D one | one | -t 2w one third | -v
--extended-timeout PT5M one | --ex PT6M one | -v one | -i PT20M -c true one | --interval 1h one
--approval-delay PT1M one | --approval-delay 0 one | --approval-delay P1D foo.bar-1
--approval-duration PT2M one | --approval-duration 1s one | --approve-by-default one | --deny-by-default one
--approve-b third | --deny-b third | -V -e --approval-delay P1D one | -j foo.bar-1 one
-H a -c true --deny-by-default one | -j one | -A one | -D one | --approve -a | --deny -a
--secret SECRET one | -s SECRET -a | --secret=SECRET third | -s - one
--debug -H h one | --debug -j foo.bar-1 | --debug -V one
-c 'sleep 1000' third | --start-checker third | -V third | --stop-checker third
-t PT0S foo.bar-1 | foo.bar-1 | -V foo.bar-1 | -t 0s one | -t 0 one | one
--remove third | third | -D -r one | one | -j | --rem foo.bar-1 | -j | -e -a
"""


def lines(script):
    """The command lines of such a text, split as a shell does."""
    import shlex
    secret = h.temporary() / "secret"
    secret.write_bytes(b"\x01\x02new")
    return [[str(secret) if word == "SECRET" else word for word in shlex.split(one)]
            for row in script.strip().splitlines() for one in row.split(" | ")
            for one in [one.removeprefix("| ")]]


def sorted_clients(output):
    """What a call has written, with the clients in a fixed order: the original server's changes with
    every start."""
    if output.startswith("{"):
        return sorted(json.loads(output, object_pairs_hook=list), key=str)
    heading, *rows = output.splitlines() or [""]
    return [heading, *sorted(rows)]


def play(original, call):
    with Serving(original):
        told = []
        for words in lines(PLAYED):
            ran = call(*words)
            output = timeless(ran.stdout)
            told.append((words, ran.returncode, sorted_clients(output) if original else output,
                         bool(ran.stderr)))
    return told


def same_on(original):
    tool = Original()
    theirs, ours = play(original, tool), play(original, ctl)
    tool.close()
    for (words, *wanted, their_words), (_, *found, our_words) in zip(theirs, ours):
        h.expect_equal(found, wanted, f"mandos-ctl {' '.join(words)}: status and output")
        # The original says of every older duration that it is invalid, and takes it.
        older = not our_words and wanted[0] == 0 and re.search(r"\d[smhdw]", " ".join(words))
        h.expect(our_words == their_words or older or "0" in words,
                 f"mandos-ctl {' '.join(words)}: standard error")
    print(f"# {len(ours)} calls compared on {'the original server' if original else 'our server'}",
          flush=True)


@h.case("wrong command lines fail as they do with the original's tool")
def _():
    tool = Original()
    for words in lines(WRONG):
        for who, ran in (("the original", tool(*words)), ("ours", ctl(*words))):
            h.expect_equal((ran.returncode, ran.stdout), (2, ""), f"{who}: mandos-ctl {' '.join(words)}")
            h.expect(ran.stderr, f"{who}: {words}")
    tool.close()
    print(f"# {len(lines(WRONG))} wrong command lines compared", flush=True)


@h.case("every call has the status and the output that it has with the original's tool, on our server")
def _():
    same_on(original=False)


@h.case("every call has the status and the output that it has with the original's tool, on its server")
def _():
    same_on(original=True)


@h.case("every option of the original is there, and --help fits 80 columns")
def _():
    theirs = subprocess.run([ORIGINAL, "--help"], capture_output=True, text=True).stdout.split("options:")[1]
    options = lambda text: set(re.findall(r"(?<![\w-])--?[a-zA-Z][a-z-]*", text))
    ours = ctl("--help")
    h.expect_equal((ours.returncode, ours.stderr), (0, ""), "--help")
    h.expect_equal(options(theirs) - options(ours.stdout), set(), "options of the original")
    played = {word for words in lines(PLAYED) + lines(WRONG) for word in words}
    h.expect_equal(options(theirs) - played - {"--help", "-h", "--version", "--check", "--bump-timeout",
                                               "-b"}, set(), "options that are not played")
    wide = [line for line in ours.stdout.splitlines() if len(line) > 80]
    h.expect_equal(wide, [], "lines of more than 80 columns")
    h.expect_equal(ctl("--check").returncode, 0, "the self-test")
    h.expect(re.fullmatch(r"mandos-ctl \d+\.\d+\.\d+ \(mandos-separated\)\n", ctl("--version").stdout),
             "--version")


@h.case("what the original gets wrong is refused or done")
def _():
    with Serving():
        before = ctl("-j", "one").stdout
        # It takes these for 0 or for a part of what they say, and so disables a client.
        for time in ("nonsense", "", "5", "PT", "P", "1.5h", "5mx", "-5m", "P1D2W", "PT1H1S", "1W", "PT5M PT5M",
                     "99999999999999999999w", "P99999999999999W"):
            ran = ctl(f"--timeout={time}", "one")
            h.expect_equal((ran.returncode, ran.stdout), (2, ""), f"--timeout={time}")
            h.expect("duration" in ran.stderr, ran.stderr)
        h.expect_equal(ctl("-j", "one").stdout, before, "the client")
        # It ends with a traceback where a duration is longer than 24 days.
        h.expect_equal(ctl("-t", "P1Y2M3DT4H5M6S", "one").returncode, 0, "a long duration")
        h.expect("423T04:05:06" in ctl("one").stdout, ctl("one").stdout)
        # It removes the client and then fails.
        h.expect_equal(ctl("-r", "-D", "-e", "one").returncode, 2, "--remove with more than --deny")
        # It takes no option between operands.
        h.expect_equal(ctl("-d", "one", "--host=x", "third").returncode, 0, "mixed operands")
        found = json.loads(ctl("-j").stdout)
        h.expect_equal([(found[name]["Enabled"], found[name]["Host"]) for name in ("one", "third")],
                       [(False, "x")] * 2, "both")
        # It looks at one client only.
        h.expect_equal(ctl("-V", "-a").returncode, 1, "--is-enabled --all")
    with Serving(config=h.Configuration()):
        ran = ctl()
        h.expect_equal((ran.returncode, ran.stdout, ran.stderr),
                       (0, "Name Enabled Timeout Last Successful Check\n", ""), "no client at all")
        h.expect_equal(ctl("-j").stdout, "{}\n", "no client at all")
        h.expect_equal(ctl("-V", "-a").returncode, 1, "no client is enabled")


@h.case("a mistake is told so that it can be put right")
def _():
    def fails(ran, *wanted):
        h.expect_equal((ran.returncode, ran.stdout), (1, ""), ran.stderr)
        for text in wanted:
            h.expect(text in ran.stderr, f"{text!r} is not in {ran.stderr!r}")
    fails(ctl(), "cannot connect to the system bus")
    with Bus():
        fails(ctl("-e", "one"), "no Mandos server runs")
    with Serving():
        fails(ctl("tird"), 'no client "tird"; did you mean "third"?')
        fails(ctl("-d", "FOO.BAR"), '"foo.bar-1"')
        fails(ctl("-d", "something.else"), 'no client "something.else"\n')
        for user, groups in (("games", "--clear-groups"), ("_mandos", "--groups=_mandos")):
            fails(ctl(before=["setpriv", f"--reuid={user}", f"--regid={user}", groups]),
                  "permission denied", "members of the group _mandos")
        h.expect_equal(ctl(before=["setpriv", "--reuid=games", "--regid=games", "--groups=_mandos"])
                       .returncode, 0, "a member of the group")
        full = subprocess.run(["sh", "-c", f"{CTL} -j > /dev/full"], capture_output=True, text=True)
        h.expect_equal(full.returncode, 1, "a full disk")
        h.expect("No space left" in full.stderr, full.stderr)
        # What fails for one client is done for the others.
        ran = ctl("-H", "\udcff", "one")
        h.expect_equal(ran.returncode, 1, f"not UTF-8: {ran.stderr}")
        # No control character of a setting reaches the terminal.
        h.expect_equal(ctl("-H", "a\x1b[2J\nb\u009bc", "one").returncode, 0, "a strange host")
        h.expect("a?[2J?b?c" in ctl("-v", "one").stdout, ctl("-v", "one").stdout)


class Impostor:
    """Owns the server's name and answers GetManagedObjects with `reply`."""
    XML = """<node><interface name="org.freedesktop.DBus.ObjectManager"><method name="GetManagedObjects">
<arg type="%s" direction="out"/></method></interface></node>"""

    def __init__(self, reply):
        self.reply = reply

    def __enter__(self):
        import threading
        ready, self.loop = threading.Event(), None

        def run():
            context = GLib.MainContext()
            context.push_thread_default()
            caller = Caller()
            node = Gio.DBusNodeInfo.new_for_xml(self.XML % self.reply.get_type_string()[1:-1])
            caller.connection.register_object(
                "/", node.interfaces[0], lambda *about: about[-1].return_value(self.reply), None, None)
            caller.call("/org/freedesktop/DBus", "org.freedesktop.DBus", "RequestName",
                        GLib.Variant("(su)", (OURS, 0)), to="org.freedesktop.DBus")
            self.loop = GLib.MainLoop.new(context, False)
            ready.set()
            self.loop.run()
            caller.close()
        self.thread = threading.Thread(target=run, daemon=True)
        self.thread.start()
        h.expect(ready.wait(20), "the impostor is ready")

    def __exit__(self, *_):
        self.loop.quit()
        self.thread.join(20)


MAY_OWN = '<policy user="root"><allow own="*"/><allow send_destination="*"/></policy>'


@h.case("a server that answers nonsense is called that")
def _():
    one = GLib.Variant("a{oa{sa{sv}}}", {"/clients/one": {CLIENT: {"Name": GLib.Variant("s", "one")}}})
    wrong = GLib.Variant("a{oa{sa{sv}}}", {"/clients/one": {CLIENT: {
        "Name": GLib.Variant("s", "one"), "Enabled": GLib.Variant("s", "yes")}}})
    for reply, told in ((GLib.Variant("(s)", ("hello",)), "malformed"),
                        (GLib.Variant("(a{sv})", ({},)), "malformed"),
                        (GLib.Variant.new_tuple(one), "/clients/one has no Enabled"),
                        (GLib.Variant.new_tuple(wrong), "Enabled of /clients/one has the wrong type")):
        with Bus(POLICY, MAY_OWN), Impostor(reply):
            for words in ([], ["-j"], ["-e", "one"], ["-V", "one"]):
                ran = ctl(*words)
                h.expect_equal((ran.returncode, ran.stdout), (1, ""), ran.stderr)
                h.expect("nonsense" in ran.stderr and told in ran.stderr, ran.stderr)


if __name__ == "__main__":
    h._cases[:] = [each for each in h._cases if each[1].__module__ == "__main__"]
    h.main()
