#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an administrator reads after a mistake: each message has the place, what was found, what was
expected and what to do; it comes once, by --check and by a start, and nothing else comes with it."""
import contextlib, os, pathlib, re, shutil, socket, subprocess

import private_bus  # first: it may start this script again with another Python
import harness
from harness import Configuration, Server, case, expect, expect_equal, wait_until

MANDOS = harness.PREFIX / "sbin/mandos"
LISTEN = ("--address", "::1", "--port", str(harness.PORT))
NOBODY = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--"]
KEYS = iter(f"{number:064x}" for number in range(1, 1000))


def configuration(clients, server="", mode=0o600):
    """One with these texts as clients.conf, after a client that is as it should be, and mandos.conf."""
    config = Configuration().write()
    for name, text in (("clients.conf", f"[good]\nkey_id = {next(KEYS)}\nsecret = 0gEB\nchecker = true\n" + clients),
                       ("mandos.conf", server)):
        (config.directory / name).write_text(text)
        (config.directory / name).chmod(mode)
    config.write = lambda: config
    return config


def mandos(config, *arguments, command=(), without=("--no-dbus", "--no-zeroconf"), **popen):
    """(exit status, lines without the time, the process or the folder in them)"""
    ran = subprocess.run([*command, MANDOS, *without, "--configdir", config.directory, "--statedir", config.state,
                          *map(str, arguments)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                         stderr=subprocess.STDOUT, text=True, timeout=60 * harness.SLACK, **popen)
    return ran.returncode, plain(ran.stdout, config)


def plain(text, config):
    lines = text.replace(str(config.directory), "DIR").replace(str(config.state), "STATE").splitlines()
    return [re.sub(r"^(<\d+>)?mandos(-supervisor)?(\[\d+\])?: ", "", line) for line in lines]


def refused(config, *lines, options=(), check=True, status=1, **popen):
    """A start in the foreground fails and says these lines alone; --check says them, too."""
    expect_equal(mandos(config, *LISTEN, "--foreground", *options, **popen), (status, list(lines)), "a start")
    if check:
        found, said = mandos(config, *LISTEN, "--check", *options, **popen)
        expect_equal((found, [line for line in said if not line.startswith("ok: ")]),
                     (status, ["FAILED: " + line for line in lines]), "--check")


# In clients.conf: what is added, and what is said of it; "LINE" is the first line that was added, "KEY" a key ID.
SECTIONS = [
    ("missing secret", "[no-secret]\nkey_id = KEY\n",
     "DIR/clients.conf:LINE: [no-secret] secret: found nothing, expected a secret or a secfile; "
     "mandos-keygen --password prints one"),
    ("typing error in an option that guards", "[typo]\nkey_id = KEY\nsecret = 0gEB\napproved_by_defualt = no\n",
     'DIR/clients.conf:LINE+3: [typo] approved_by_defualt: found an unknown option, expected "approved_by_default"'),
    ("duplicate section", "[twice]\nkey_id = KEY\nsecret = 0gEB\n[twice]\n",
     "DIR/clients.conf:LINE+3: [twice] found a second section, after DIR/clients.conf:LINE, expected one; rename or "
     "remove it"),
    ("duplicate option", "[double]\nkey_id = KEY\nsecret = 0gEB\nsecret = 0gEB\n",
     "DIR/clients.conf:LINE+3: [double] secret: found a second value, after DIR/clients.conf:LINE+2, expected one; "
     "remove it"),
    ("secfile missing", "[no-file]\nkey_id = KEY\nsecfile = /nowhere/secret\n",
     "DIR/clients.conf:LINE+2: [no-file] secfile: found no file /nowhere/secret, expected the secret in it"),
    ("secfile with mode 0644", "[open]\nkey_id = KEY\nsecfile = /dev/shm/open\n",
     "DIR/clients.conf:LINE+2: [open] secfile: /dev/shm/open: found mode 0644, expected one that lets only its owner "
     "read or write, such as 0600; run: chmod go= /dev/shm/open"),
    ("secfile of another user", "[theirs]\nkey_id = KEY\nsecfile = /dev/shm/theirs\n",
     "DIR/clients.conf:LINE+2: [theirs] secfile: /dev/shm/theirs: found owner daemon, expected root; run: chown root "
     "/dev/shm/theirs"),
    ("damaged base64", "[damaged]\nkey_id = KEY\nsecret = hUFC\n  hU#C\n",
     "DIR/clients.conf:LINE+2: [damaged] secret: found damaged base64 at line LINE+3, character 3 of its text, expected "
     "it whole: the client could not decrypt what it gets; copy it again"),
    ("bad duration", "[slow]\nkey_id = KEY\nsecret = 0gEB\ntimeout = 5 minutes\n",
     'DIR/clients.conf:LINE+3: [slow] timeout: found "5 minutes", expected a duration such as PT5M, P1DT12H or '
     '"5m 30s"'),
    ("inline comment", "[comment]\nkey_id = KEY\nsecret = 0gEB\ntimeout = PT5M # five\n",
     'DIR/clients.conf:LINE+3: [comment] timeout: found "PT5M # five", expected a duration such as PT5M, P1DT12H or '
     '"5m 30s"; a comment needs a line of its own'),
    ("key_id too short", "[short]\nkey_id = 12ab\nsecret = 0gEB\n",
     'DIR/clients.conf:LINE+1: [short] key_id: found "12ab", expected 64 hexadecimal digits, not 4 characters'),
    ("secfile empty", "[empty]\nkey_id = KEY\nsecfile =\n",
     "DIR/clients.conf:LINE+2: [empty] secfile: found nothing, expected the absolute path of a file"),
    ("secfile without its path", "[relative]\nkey_id = KEY\nsecfile = secrets/web\n",
     'DIR/clients.conf:LINE+2: [relative] secfile: found "secrets/web", expected the absolute path of a file'),
    # Of the root folder, only this file may be let in, or no jail would close.
    ("secfile in the root folder", "[root]\nkey_id = KEY\nsecfile = /no-such-secret\n",
     "DIR/clients.conf:LINE+2: [root] secfile: found no file /no-such-secret, expected the secret in it"),
    ("key_id with a letter for a digit", "[letter]\nkey_id = O123\nsecret = 0gEB\n",
     'DIR/clients.conf:LINE+1: [letter] key_id: found "O123", expected 64 hexadecimal digits; character 1, "O", is none'),
    ("quotes", "[quotes]\nkey_id = KEY\nsecret = 0gEB\ntimeout = \"PT50S\"\n",
     'DIR/clients.conf:LINE+3: [quotes] timeout: found "\\x22PT50S\\x22", expected a duration such as PT5M, P1DT12H or '
     '"5m 30s"; quotes around a value are part of it'),
    ("option with a space", "[space]\nkey_id = KEY\nsecret = 0gEB\napproval delay = PT5M\n",
     'DIR/clients.conf:LINE+3: [space] approval delay: found an unknown option, expected "approval_delay"'),
    ("option that reads as a guard", "[guard]\nkey_id = KEY\nsecret = 0gEB\ndeny_by_default = yes\n",
     "DIR/clients.conf:LINE+3: [guard] deny_by_default: found an unknown option, expected approval_delay, "
     "approved_by_default or enabled"),
    ("key_id missing", "[none]\nsecret = 0gEB\n",
     "DIR/clients.conf:LINE: [none] key_id: found nothing, expected 64 hexadecimal digits"),
]
WARNINGS = [
    ("typing error in another option", "[web]\nkey_id = KEY\nsecret = 0gEB\nchecker = true\ntimeot = PT5M\n",
     'DIR/clients.conf:LINE+4: [web] timeot: unknown option, ignored; the nearest known one is "timeout"'),
    ("typing error in a short option", "[mail]\nkey_id = KEY\nsecret = 0gEB\nchecker = true\nhots = mail.example\n",
     'DIR/clients.conf:LINE+4: [mail] hots: unknown option, ignored; the nearest known one is "host"'),
    ("inline comment in a text", "[db]\nkey_id = KEY\nsecret = 0gEB\nchecker = true\nhost = db.example ; the db\n",
     'DIR/clients.conf:LINE+4: [db] host: found "db.example ; the db", expected a name or an address; a comment needs a '
     "line of its own"),
    ("denial that nobody is asked for", "[deny]\nkey_id = KEY\nsecret = 0gEB\nchecker = true\napproved_by_default = no\n",
     "DIR/clients.conf:LINE+4: [deny] approved_by_default: found no approval_delay for a client with it, expected one: "
     "nobody is asked, and the client gets its secret at once"),
    ("no host for the checker", "[hostless]\nkey_id = KEY\nsecret = 0gEB\nchecker = true %%(host)s\n",
     "DIR/clients.conf:LINE: [hostless] host: found nothing, expected a name or an address, which the checker is given: "
     "its checks would fail"),
    ("two hosts", "[hosts]\nkey_id = KEY\nsecret = 0gEB\nchecker = true\nhost = a.example, b.example\n",
     'DIR/clients.conf:LINE+4: [hosts] host: found "a.example, b.example", expected a name or an address'),
    ("checker empty", "[idle]\nkey_id = KEY\nsecret = 0gEB\nchecker =\n",
     "DIR/clients.conf:LINE+3: [idle] checker: found nothing, which always succeeds: a client that is gone would never be "
     "noticed"),
    ("not an OpenPGP message", "[text]\nkey_id = KEY\nsecret = QUJD\nchecker = true\n",
     "DIR/clients.conf:LINE+2: [text] secret: this is not an OpenPGP message: the client could not decrypt it"),
    ("checker program missing", "[lost]\nkey_id = KEY\nsecret = 0gEB\nchecker = fpign -q -- x\n",
     "DIR/clients.conf:LINE+3: [lost] checker: the checker program fpign is not found, or user _mandos may not execute "
     "it: the check cannot tell whether its client is alive; install it, or set another checker"),
]


def texts(mistakes):
    """What clients.conf has after the first client, and what is to be said."""
    added, said, line = "", [], 5
    for _name, text, message in mistakes:
        added += text.replace("KEY", next(KEYS))
        for offset in range(5, 0, -1):
            message = message.replace(f"LINE+{offset}", str(line + offset))
        said.append(message.replace("LINE", str(line)))
        line += text.count("\n")
    return added, said


@case("mistakes in sections of clients.conf: each is said once, by --check, by a start and by a reload")
def _():
    for name, mode, owner in (("open", 0o644, 0), ("theirs", 0o600, 1)):
        file = pathlib.Path("/dev/shm", name)
        file.write_text("secret")
        file.chmod(mode)
        os.chown(file, owner, 0)
    try:
        for mistakes, good in (SECTIONS, False), (WARNINGS, True):
            added, said = texts(mistakes)
            config = configuration(added)
            status, lines = mandos(config, "--check", "--port", "4711")
            expect_equal(status, 0 if good else 1, f"status of --check: {lines}")
            prefix = "warning: " if good else "FAILED: "
            expect_equal(sorted(line for line in lines if not line.startswith("ok: ")),
                         sorted(prefix + line for line in said), "lines of --check")
            # At a start, the checker-runner says it, which knows no files.
            at_start = [re.sub(r"^DIR\S+ \[(\w+)\] (?=checker: the)", r"checker of client \1: ", line).replace(
                ": checker: the", ": the") for line in said]
            with Server(config) as server:
                shown = lambda: [line.removeprefix("checker-runner: ") for line in plain(server.stderr(), config)]
                for line in at_start:
                    wait_until(lambda: line in shown(), f"a line {line!r}")
                expect_equal(sorted(line for line in shown() if not line.startswith(("Serving", "audit: "))),
                             sorted(at_start), "lines of a start")
                ran = subprocess.run([MANDOS, "--reload"], capture_output=True, text=True, timeout=60)
                expect_equal(ran.returncode, 0 if good else 1, f"status of --reload: {ran.stderr}")
                if not good:
                    expect_equal(sorted(plain(ran.stderr, config)), sorted(
                        said + ["nothing was changed: the configuration has errors", "the reload failed"]),
                        "lines of --reload")
    finally:
        for name in "open", "theirs":
            pathlib.Path("/dev/shm", name).unlink()


@case("mistakes that concern all clients end a start, with one line")
def _():
    refused(configuration("[DEFAULT]\ntimeout = 5x\n"),
            'DIR/clients.conf:6: [DEFAULT] timeout: found "5x", expected a duration such as PT5M, P1DT12H or "5m 30s"')
    refused(configuration(f"[web\nkey_id = {next(KEYS)}\nsecret = 0gEB\nchecker = true\n"),
            'DIR/clients.conf:5: [web] found a section header without a name or its "]", expected one such as [DEFAULT]')
    config = configuration("")
    clients = config.directory / "clients.conf"
    clients.chmod(0o644)
    refused(config, "DIR/clients.conf: found mode 0644, expected one that lets only its owner read or write, such as "
                    "0600; run: chmod go= DIR/clients.conf")
    clients.chmod(0o600)
    # By name; a number is left where there is none.
    for owner, name in (1, "daemon"), (64000, "64000"):
        os.chown(clients, owner, 0)
        refused(config, f"DIR/clients.conf: found owner {name}, expected root; run: chown root DIR/clients.conf")
    os.chown(clients, 0, 0)
    config.directory.chmod(0o777)
    refused(config, "DIR: found mode 0777, expected one that lets only its owner write; run: chmod go-w DIR")
    config.directory.chmod(0o755)
    clients.unlink()
    refused(config, "DIR/clients.conf: found neither it nor any DIR/clients.d/*.conf, expected the clients in them; "
                    "mandos-keygen --password prints a client's section")
    shutil.rmtree(config.directory)
    refused(config, "DIR: found no such directory, expected mandos.conf and clients.conf in it; make it, or name "
                    "another one with --configdir")


@case("mistakes in mandos.conf end a start, with one line that has its place")
def _():
    # "networker: ": by whom it is said at a start.
    for text, by, said in (
            ("priority = NORMAL:%NONSENSE", "networker: ",
             "priority: found priority string 'NORMAL:%NONSENSE', which GnuTLS does not accept from '%NONSENSE' on "
             "(The request is invalid.); leave it out for the default, see mandos.conf(5)"),
            ("source_penalty_exempt = 10.0.0.0/8, 10.0.0.300", "networker: ",
             "source_penalty_exempt: found '10.0.0.300', expected at most 64 networks such as 192.0.2.0/24 or "
             "2001:db8::/32"),
            ("use_ipv6 = yes # the web", "",
             'use_ipv6: found "yes # the web", expected 1, yes, true, on, 0, no, false or off; a comment needs a line '
             "of its own"),
            ("priority = NORMAL:\\x", "networker: ",
             "priority: found priority string 'NORMAL:\\x5cx', which GnuTLS does not accept from '\\x5cx' on "
             "(The request is invalid.); leave it out for the default, see mandos.conf(5)"),
            ('priority = "SECURE128"', "",
             'priority: found "\\x22SECURE128\\x22", expected the value alone; quotes around a value are part of it'),
            ("source_penalty_exempt = 10.0.0.0/8 # lan", "",
             'source_penalty_exempt: found "10.0.0.0/8 # lan", expected the value alone; a comment needs a line of its '
             "own"),
            ("statedir = /dev/shm/mandos # on its own disk", "",
             'statedir: found "/dev/shm/mandos # on its own disk", expected an absolute path; a comment needs a line '
             "of its own"),
            ('interface = "eth0"', "",
             'interface: found "\\x22eth0\\x22", expected an interface\'s name of at most 15 bytes; quotes around a value '
             "are part of it"),
            ("servicename = Mandos # x", "",
             'servicename: found "Mandos # x", expected 1 to 63 bytes of UTF-8 (RFC 6763 section 4.1.1); a comment '
             "needs a line of its own"),
            ("port = abc\nzeroconf = no", "",
             'port: found "abc", expected a whole number from 0 to 65535'),
            ("login_grace_time = 5 minutes", "",
             'login_grace_time: found "5 minutes", expected a duration such as PT5M, P1DT12H or "5m 30s"')):
        config = configuration("", f"[DEFAULT]\n{text}\n")
        where = f"DIR/mandos.conf:2: [DEFAULT] {said}"
        expect_equal(mandos(config, *LISTEN, "--foreground"), (1, [by + where]), "a start")
        _, lines = mandos(config, *LISTEN, "--check")
        expect_equal([line for line in lines if not line.startswith("ok: ")], ["FAILED: " + where], "--check")
    refused(configuration("", "\ufeff[DEFAULT]\n"),
            "DIR/mandos.conf:1: found a byte order mark (save it as UTF-8 without BOM), expected a section header such "
            "as [DEFAULT]")
    config = configuration("", "[DEFAULT]\nsocket = 77\n")
    said = "DIR/mandos.conf:2: [DEFAULT] socket: descriptor 77: Bad file descriptor"
    expect_equal(mandos(config, "--foreground"), (1, [said]), "a start")
    _, lines = mandos(config, "--check")
    expect_equal([line for line in lines if not line.startswith("ok: ")], ["FAILED: " + said], "--check")
    config = configuration("", "[DEFAULT]\nprot = 4711\nzerocnf = no\n")
    status, lines = mandos(config, "--check", "--port", "4711")
    expect_equal([line for line in lines if not line.startswith("ok: ")],
                 ['warning: DIR/mandos.conf:2: [DEFAULT] prot: unknown option, ignored; the nearest known one is "port"',
                  'warning: DIR/mandos.conf:3: [DEFAULT] zerocnf: unknown option, ignored; the nearest known one is '
                  '"zeroconf"'], "--check")
    expect_equal(status, 0, "its status")


@case("an option that the command line does not know is named, with the one that it resembles")
def _():
    for arguments, said in (
            (["--prot", "4711"], "--prot: unknown option; the nearest known one is --port"),
            (["--no-zeroconff"], "--no-zeroconff: unknown option; the nearest known one is --no-zeroconf"),
            (["--nonsense"], "--nonsense: unknown or ambiguous option"),
            (["--no"], "--no: unknown or ambiguous option"),
            (["-q"], "-q: unknown or ambiguous option"),
            (["--port"], "--port: found nothing, expected a value"),
            # A server that reads it again does so from another folder.
            (["--configdir", "conf"], '--configdir: found "conf", expected an absolute path'),
            (["--check=1"], "--check=1: found a value, expected none"),
            (["--port=99999"], '--port: found "99999", expected a whole number from 0 to 65535')):
        expect_equal(mandos(configuration(""), *arguments),
                     (2, ["usage: mandos [OPTION]... (see mandos --help)", "error: " + said]), " ".join(arguments))


@case("a start that the machine does not allow is refused with one line")
def _():
    config = configuration("")
    not_root = "must be run as root; only --check may be run by others"
    refused(config, not_root, command=NOBODY, check=False)
    expect_equal(mandos(config, "--reload", command=NOBODY), (1, [not_root]), "--reload")
    with socket.create_server(("::1", harness.PORT), family=socket.AF_INET6):
        in_use = (f"cannot listen on port {harness.PORT} of address ::1: another program has it (ss -tlnp shows "
                  "which): Address already in use")
        refused(config, "--port: " + in_use, check=False)
        expect_equal(mandos(config, *LISTEN), (1, ["--port: " + in_use]), "in the background")
        from_file = configuration("", f"[DEFAULT]\nport = {harness.PORT}\naddress = ::1\n")
        expect_equal(mandos(from_file, "--foreground"), (1, [f"DIR/mandos.conf:2: [DEFAULT] port: {in_use}"]),
                     "from mandos.conf")
    passwd = pathlib.Path("/etc/passwd")
    before = passwd.read_text()
    for account in harness.ACCOUNTS:
        passwd.write_text("".join(line for line in before.splitlines(True) if not line.startswith(account + ":")))
        try:
            missing = f"no account named {account}: run systemd-sysusers, or make it"
            refused(config, missing, check=False)
            status, lines = mandos(config, *LISTEN, "--check")
            expect_equal((status, [line for line in lines if not line.startswith("ok: ")]), (1, [missing]), "--check")
        finally:
            passwd.write_text(before)


@case("an interface and an address that are not there are waited for, with a line that says so")
def _():
    for option, value, what in (("--interface", "eth7", "the interface eth7"),
                                ("--address", "2001:db8::1", "the address 2001:db8::1")):
        with Server(configuration(""), option, value) as server:
            said = [line for line in plain(server.stderr(), server.config) if "waiting for" in line]
            expect_equal(said, [f"{option}: waiting for {what}, which does not exist yet ('ip address' shows those "
                                "that do)"], "what is said")


@case("a second start names the process and the unit of the first, and leaves everything as it is")
def _():
    with Server(configuration("")) as server:
        pid = server.pid("supervisor")
        config = configuration("")
        expect_equal(mandos(config, *LISTEN), (1, [f"already runs, as process {pid}: nothing was changed"]),
                     "in the background")
        status, lines = mandos(config, *LISTEN, "--foreground")
        # It may have a place of its own. If not, the first line is the reason.
        expect_equal((status, lines[0], lines[2:]),
                     (1, f"mandos already runs, as process {pid}, which is the one that mandos --reload asks",
                      []), f"in the foreground: {lines}")
        expect("another program has it" in lines[1], lines)
        # As systemd would have put it there.
        groups = harness.temporary() / "cgroup"
        groups.write_text("0::/system.slice/mandos.service\n")
        harness.bind(groups, f"/proc/{pid}/cgroup")
        try:
            expect_equal(mandos(config, *LISTEN),
                         (1, [f"already runs, as process {pid} of unit mandos.service: nothing was changed"]),
                         "with a unit")
        finally:
            subprocess.run(["umount", f"/proc/{pid}/cgroup"], check=True)
        expect_equal(subprocess.run([MANDOS, "--reload"], capture_output=True, timeout=60).returncode, 0, "--reload")


@case("no bus, no Avahi and no bus policy: each is said once, with what to do")
def _():
    def said(count):
        server = Server(configuration(""), without=())
        try:
            lines = lambda: [line for line in plain(server.stderr(), server.config)
                             if line.startswith("bus-agent: ")]
            wait_until(lambda: len(lines()) >= count, f"{count} lines of the bus-agent", 20)
            server.process.terminate()
            expect_equal(server.process.wait(20 * harness.SLACK), 0, "exit status")
            return lines()
        finally:
            server.process.kill()
            server.process.wait()
    with contextlib.suppress(FileNotFoundError):
        os.unlink(private_bus.SOCKET)
    expect_equal(said(1), ["bus-agent: not on the system bus, retrying: /run/dbus/system_bus_socket: No such file or "
                           "directory"], "no bus")
    no_avahi = ("bus-agent: not announced by Avahi, retrying: its daemon does not run; clients cannot find this "
                "server until avahi-daemon does, unless they are told its address")
    with private_bus.Bus():
        expect_equal(said(1), [no_avahi], "no Avahi")
    with private_bus.Bus('<policy user="root"/>'):
        expect_equal(sorted(said(2)), sorted(
            [no_avahi, "bus-agent: no bus name se.recompile.Mandos, retrying: the bus policy mandos-separated.conf is "
                       "not loaded yet; run: systemctl reload dbus"]), "no policy")


@case("quickstart finds the port in the line that a start ends with")
def _():
    pattern = re.search(r"sed -n '(s/\.\*Serving.*?)'", (harness.SOURCE / "quickstart").read_text())[1]
    with Server(configuration("")) as server:
        found = subprocess.run(["sed", "-n", pattern], input=server.stderr(), stdout=subprocess.PIPE, text=True)
        expect_equal(found.stdout, f"{harness.PORT}\n", "the port")


harness.main()
