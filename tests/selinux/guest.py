#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs in the virtual machine of tests/selinux/run, as a service; its words go to a serial line."""
import os, pathlib, re, shutil, subprocess, sys, time, traceback

MACHINE = "/etc/keys/mandos/"
LIBEXEC = pathlib.Path("/usr/local/libexec/mandos")
ROLES = {"mandos": "mandos_t", "mandos-monitor": "mandos_monitor_t",
         "mandos-networker": "mandos_networker_t", "mandos-checker-runner": "mandos_checker_t",
         "mandos-bus-agent": "mandos_bus_t"}
ADMINISTRATOR = ["runcon", "unconfined_u:unconfined_r:unconfined_t:s0"]
out = open("/dev/ttyS1", "w")
number = failed = 0


def say(*words):
    print(*words, file=out, flush=True)


def sh(*command, seconds=120):
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds)
    return done.returncode, done.stdout + done.stderr


def wait_until(predicate, seconds=90):
    end = time.monotonic() + seconds
    while not (found := predicate()) and time.monotonic() < end:
        time.sleep(0.5)
    return found


def case(name, truth, *story):
    global number, failed
    number += 1
    failed += not truth
    say(f"{'ok' if truth else 'not ok'} {number} - {name}")
    for text in story if not truth else ():
        for line in str(text).splitlines()[-60:]:
            say("# " + line)


def domains():
    found = {}
    for line in sh("ps", "-eo", "label,args")[1].splitlines():
        label, _, command = line.partition(" ")
        program = os.path.basename(command.split()[0])
        if program in ROLES and label.count(":") >= 2:
            found[program] = label.split(":")[2]
    return found


def journal():
    return sh("journalctl", "--no-pager", "-o", "cat", "-u", "mandos.service")[1]


def denials():
    return [line for line in sh("dmesg")[1].splitlines()
            if "avc:" in line and "denied" in line and "mandos" in line]


def main():
    case("the machine enforces", sh("getenforce")[1].strip() == "Enforcing", sh("getenforce")[1])
    status, told = sh("systemctl", "start", "mandos.service", seconds=180)
    case("systemd starts the service", status == 0, told, journal())
    wait_until(lambda: domains() == ROLES)
    case("each process is in its domain (ps -Z)", domains() == ROLES, domains(), journal())
    for program, domain in sorted(domains().items()):
        say(f"# {program}: {domain}")

    plugin = next(pathlib.Path("/usr/lib").glob("*/mandos/plugins.d/mandos-client"))
    def client():
        return subprocess.run([
            "timeout", "-k", "10", "100", plugin, "--debug", "--connect=::1:4711", "--interface=none", f"--pubkey={MACHINE}pubkey.txt",
            f"--seckey={MACHINE}seckey.txt", f"--tls-privkey={MACHINE}tls-privkey.pem",
            f"--tls-pubkey={MACHINE}tls-pubkey.pem"], capture_output=True)
    got = client()
    case("the real mandos-client gets its passphrase",
         got.stdout == b"correct horse battery staple", got.stderr.decode(errors="replace"), journal(),
         *denials())

    # The checker writes what fping is held by, and only after fping has succeeded.
    def checked():
        return [file.read_text() for file in
                pathlib.Path("/tmp").glob("systemd-private-*-mandos.service-*/tmp/checked")]
    found = wait_until(checked, 150)  # an emulated machine is slow
    case("the checker ran fping with success, in the checkers' domain",
         found and "mandos_checker_t" in found[0], found, sh("sh", "-c", "find /tmp -ls; cat /tmp/*/tmp/*")[1],
         sh(*ADMINISTRATOR, "mandos-ctl", "--dump-json")[1], *denials())

    status, told = sh(*ADMINISTRATOR, "mandos-ctl", "--dump-json")
    case("mandos-ctl lists the client over the bus", status == 0 and '"machine"' in told, told)
    status, told = sh(*ADMINISTRATOR, "mandos-ctl", "--disable", "machine")
    refused = subprocess.Popen([
        plugin, "--connect=::1:4711", "--interface=none", "--retry=1", f"--pubkey={MACHINE}pubkey.txt",
        f"--seckey={MACHINE}seckey.txt", f"--tls-privkey={MACHINE}tls-privkey.pem",
        f"--tls-pubkey={MACHINE}tls-pubkey.pem"], stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL)
    found = wait_until(lambda: "verdict=refused" in journal(), 60)
    refused.kill()
    refused.wait()
    case("mandos-ctl --disable takes effect", status == 0 and found, told, journal())
    status, told = sh(*ADMINISTRATOR, "mandos-ctl", "--enable", "machine")
    case("and --enable: it is served again",
         status == 0 and client().stdout == b"correct horse battery staple", told, journal())

    case("reload", sh("systemctl", "reload", "mandos.service")[0] == 0, journal())
    time.sleep(3)
    case("restart, the state kept", sh("systemctl", "restart", "mandos.service")[0] == 0 and
         client().stdout == b"correct horse battery staple", journal())
    wait_until(lambda: domains() == ROLES)
    case("stop", sh("systemctl", "stop", "mandos.service")[0] == 0 and not domains(), journal())
    found = denials()
    case("not one denial until here", not found, *found)

    # Another program in the networker's place.
    probe = "/usr/local/lib/mandos-test/probe"
    account = ["setpriv", "--reuid=_mandos-net", "--regid=_mandos-net", "--clear-groups"]
    sh("systemctl", "start", "mandos.service")  # something to connect to
    status, _ = sh(*ADMINISTRATOR, *account, probe)
    os.unlink("/var/tmp/probe")
    case("without a domain, the networker's account could do all that the probe tries",
         status == 191, f"status {status}")
    sh("systemctl", "stop", "mandos.service")
    networker = LIBEXEC / "mandos-networker"
    networker.unlink()
    shutil.copy(probe, networker)
    sh("restorecon", networker)
    sh("dmesg", "--clear")
    subprocess.Popen(["systemctl", "start", "mandos.service"])
    ended = wait_until(lambda: re.findall(r"mandos-networker\[\d+\] ended: (.*)", journal()))
    case("in the networker's domain it can do none of it", ended and set(ended) == {"exit status 128"},
         ended, journal(), *denials())
    found = denials()
    for what, pattern in (
            ("read a file", r"\{ read \} .*tclass=file"),
            ("make a TCP socket", r"\{ create \} .*tclass=tcp_socket"),
            ("make a UNIX socket", r"\{ create \} .*tclass=unix_dgram_socket")):
        hit = [line for line in found if re.search(pattern, line)
               and ":mandos_networker_t:" in line.split("scontext=")[1].split()[0]]
        case(f"denied: {what}", hit, *found)
        if hit:
            say("# " + re.sub(r".*avc: *", "avc: ", hit[0]))
    sh("systemctl", "stop", "mandos.service")


try:
    main()
except Exception:
    case("the test itself", False, traceback.format_exc())
say(f"1..{number}")
say("END")
os.system("systemctl poweroff --force --force")
