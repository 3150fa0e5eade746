#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Random configuration files and values, valid and broken: our verdict and values against those of
Python's configparser, of a model of the manual written here and, where it is installed, of the
original server's own functions. Usage: config_differential_test.py PROBE [ROUNDS [SEED]]; or, for
what a fuzzer found: config_differential_test.py PROBE --files FOLDER..., where a folder with
"duration" in its name holds durations, and another one files."""

import ast
import codecs
import configparser
import datetime
import io
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import types

ORIGINAL = "/usr/sbin/mandos"


class Probe:
    def __init__(self, path):
        self.process = subprocess.Popen([path], stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def ask(self, question, data):
        self.process.stdin.write(question.encode() + b" " + data.hex().encode() + b"\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline().decode().split()
        if not answer:
            raise SystemExit(f"the probe died of {question} {data!r}")
        return answer

    def close(self):
        self.process.stdin.close()
        if self.process.wait(10) != 0:
            raise SystemExit("the probe failed")


def original_functions():
    """The original's own way from a ConfigParser to settings, or None where it is not installed."""
    if not os.path.exists(ORIGINAL):
        return None
    with open(ORIGINAL, encoding="utf-8") as script:
        tree = ast.parse(script.read())
    wanted = []
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and node.name in ("rfc3339_duration_to_delta",
                                                               "string_to_delta"):
            wanted.append(node)
        if isinstance(node, ast.ClassDef) and node.name == "Client":
            node.bases = []
            node.decorator_list = []
            node.body = [each for each in node.body
                         if getattr(each, "name", "") == "config_parser"
                         or (isinstance(each, ast.Assign)
                             and each.targets[0].id == "client_defaults")]
            wanted.append(node)
    module = types.ModuleType("original")
    module.__dict__.update(re=re, datetime=datetime, codecs=codecs, os=os,
                           collections=__import__("collections"))
    exec(compile(ast.Module(wanted, []), ORIGINAL, "exec"), module.__dict__)
    return module


def read_python(data, defaults):
    parser = configparser.ConfigParser(defaults)
    with io.TextIOWrapper(io.BytesIO(data), encoding="utf-8") as file:
        parser.read_file(file)
    return parser


# Files: sections, options, continuation, comments, expansion.

NAMES = ["alpha", "Beta", "GAMMA", "d e", "h-1", "preset", "n\u00e4me", "o1", "o2", "o3", "o4", "o5", "o6",
         "o7", "o8", "o9", "o10", "o11", "o12"]
SPACES = [" ", "  ", "\t", "\t ", "   ", "\u00a0", "\u3000", "\x0b", "\x1f", "\u2003 "]


def random_value(rng, broken):
    pieces = []
    for _ in range(rng.choice([0, 1, 1, 2, 3])):
        pieces.append(rng.choice([
            "text", "a b", "x=y", "a:b", "#no", ";no", "[v]", "\u00fc", "\u20ac", "\U0001f511", "\\n", "\"q\"", "'",
            "%%", "%%%%", "%%(alpha)s", rng.choice(SPACES),
            "%({})s".format(rng.choice(NAMES).swapcase() if rng.random() < .3 else rng.choice(NAMES)),
            "%({})s".format(rng.choice(NAMES))]))
        if rng.random() < broken:
            pieces.append(rng.choice(["%", "%x", "%(", "%(alpha", "%(alpha)", "%(alpha)d", "%()s",
                                      "%(nowhere)s", "%%%", "%( alpha)s"]))
    return "".join(pieces)


def random_file(rng):
    broken = rng.choice([0, 0, 0, .02, .1])
    lines = []
    free_sections = ["one", "Two", " three ", "f]our", "five six", "s\u00e9ven", "default", "[", "]"]
    rng.shuffle(free_sections)
    in_section = rng.random() < broken
    used = set()
    defaults_used = set()
    if rng.random() < .1:
        lines.append("# comment first")
    for _ in range(rng.randrange(1, 5)):
        if rng.random() < .4:
            lines.append("[DEFAULT]" + rng.choice(["", " ", " trailing", "=x"]))
            current = defaults_used
        elif free_sections:
            name = free_sections[-1] if rng.random() < broken else free_sections.pop()
            lines.append(rng.choice(["", "", " "]) + f"[{name}]" + rng.choice(["", " ", " ; rest"]))
            current = set()
        names = NAMES[:]
        rng.shuffle(names)
        for name in names[:rng.randrange(0, 9)]:
            if name.lower() in current and rng.random() >= broken:
                continue
            current.add(name.lower())
            shown = name.upper() if rng.random() < .2 and name.isascii() else name
            indent = rng.choice(["", "", "", "", ""] + SPACES) if rng.random() < .1 + broken else ""
            delimiter = rng.choice(["=", ":", " = ", ": ", " =", "\t:\u00a0", "= "])
            lines.append(indent + shown + delimiter + random_value(rng, broken)
                         + rng.choice(["", "", " ", "\t"]))
            while rng.random() < .3:
                lines.append(rng.choice([
                    rng.choice(SPACES) + indent + (random_value(rng, broken) or "x"),
                    rng.choice(SPACES) + indent + rng.choice(["[more]", "more = x", "a: b", "=", "]"]),
                    "", "  ", "\t", "# comment", "   ; comment", indent + "  # indented comment"]))
        if rng.random() < broken:
            lines.append(rng.choice(["junk", "= no name", ": no name", "[]", "[ ", "]", "[open", "[]]", "[]=1",
                                     "a = 1", "\ufeff[bom]", "[x] y ] z"]))
    if rng.random() < .1:
        length = rng.randrange(8, 13)
        lines.append("[chain]")
        lines += [f"o{i} = %(o{i + 1})s" for i in range(1, length)]
        lines.append(f"o{length} = " + rng.choice(["end", "%%"]))
    if rng.random() < broken and lines:
        lines.insert(rng.randrange(len(lines) + 1), random_value(rng, .5))
    end = rng.choice(["\n", "\n", "\n", "\r\n", "\r"])
    data = end.join(lines + rng.choice([[], [""], ["", ""]])).encode()
    while rng.random() < broken and data:
        at = rng.randrange(len(data))
        data = rng.choice([data[:at] + bytes([rng.randrange(1, 256)]) + data[at + 1:],
                           data[:at] + data[at + 1:],
                           data[:at] + rng.choice([b"\n", b" ", b"%", b"[", b"]", b"=", b"\r"]) + data[at:]])
    return data


def has_capital_beyond_ascii(data):
    """Option names are made lower case within ASCII only."""
    text = data.decode("utf-8", "ignore")
    return any(c != c.lower() for c in text if not c.isascii())


def python_ini(data):
    try:
        parser = read_python(data, {"preset": "set %%before"})
        return {(section, option): value
                for section in parser.sections() for option, value in parser.items(section)}
    except (configparser.Error, UnicodeDecodeError):
        return None


def our_ini(probe, data):
    answer = probe.ask("ini", data)
    if answer[0] == "refused":
        return None
    return {(bytes.fromhex(section).decode(), bytes.fromhex(option).decode()): bytes.fromhex(value).decode()
            for section, option, value in (each.split("=") for each in answer[1:])}


# Durations.

def random_duration(rng):
    number = lambda: str(rng.choice([0, 1, 2, 5, 30, 59, 60, 365, 1000, 10**6, 10**9, 10**15, 10**25])
                         if rng.random() < .3 else rng.randrange(200))
    kind = rng.random()
    if kind < .45:
        units = [u for u in "YMD" if rng.random() < .5] if rng.random() < .9 else ["W"]
        date = "".join(number() + u for u in units)
        time = "".join(number() + u for u in "HMS" if rng.random() < .5)
        text = "P" + date + ("T" + time if time or rng.random() < .05 else "")
    elif kind < .8:
        text = rng.choice([" ", "  ", "\t", "\n"]).join(number() + rng.choice("smhdw")
                                                       for _ in range(rng.randrange(1, 4)))
    else:
        text = "".join(rng.choice("PTYMWDHSsmhdw0123456789 .,-+_") for _ in range(rng.randrange(0, 8)))
    if rng.random() < .15 and text:
        at = rng.randrange(len(text))
        text = text[:at] + rng.choice(["", "P", "T", "0", "S", "s", " ", "-", "x", "."]) + text[at + 1:]
    return text


def model_duration(text):
    """Milliseconds, or None: the manual (RFC 3339 appendix A), with the original's 52 weeks a year
    and 4 weeks a month, and the older language."""
    standard = re.fullmatch(
        r"P(?=[0-9T])(?:([0-9]+)W|(?:([0-9]+)Y(?!\d+D))?(?:([0-9]+)M)?(?:([0-9]+)D)?"
        r"(?:T(?=[0-9])(?:([0-9]+)H(?!\d+S))?(?:([0-9]+)M)?(?:([0-9]+)S)?)?)", text)
    if standard:
        seconds = sum(int(n or 0) * size for n, size in zip(
            standard.groups(), (604800, 364 * 86400, 28 * 86400, 86400, 3600, 60, 1)))
    else:
        words = text.split()
        if not words or not all(re.fullmatch(r"[0-9]+[smhdw]", word) for word in words):
            return None
        seconds = sum(int(word[:-1]) * {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}[word[-1]]
                      for word in words)
    return seconds * 1000 if seconds < 10**9 * 86400 else None


def original_duration(original, text):
    """The original's verdict; or "differs" where ours is meant to differ: the original takes an empty
    text for zero, signs and underscores in numbers, and refuses "P1YT1H", which RFC 3339 allows."""
    if not text.strip() or re.search(r"[-+_]", text) or re.fullmatch(r"P\d+[YM](\d+M)?T.*", text):
        return "differs"
    try:
        return original.string_to_delta(text) // datetime.timedelta(milliseconds=1)
    except (ValueError, OverflowError):
        return None


def our_duration(probe, text):
    answer = probe.ask("duration", text.encode())
    return int(answer[1]) if answer[0] == "ok" else None


# Whole clients.

DEFAULTS = {"timeout": "PT5M", "extended_timeout": "PT15M", "interval": "PT2M",
            "checker": "fping -q -- %%(host)s", "host": "", "approval_delay": "PT0S",
            "approval_duration": "PT1S", "approved_by_default": "True", "enabled": "True"}
DURATIONS = ("timeout", "extended_timeout", "interval", "approval_delay", "approval_duration")


def random_key(rng):
    key = "%064x" % rng.getrandbits(256)
    key = rng.choice([key, key.upper()])
    return " ".join(re.findall(".{8}", key)) if rng.random() < .2 else key


def random_secret(rng):
    data = rng.randbytes(rng.choice([1, 2, 3, 4, 30, 700]))
    text = codecs.encode(data, "base64").decode()
    lines = text.replace("\n", "\n   ").rstrip()
    if rng.random() < .1:
        at = rng.randrange(len(lines))
        lines = lines[:at] + rng.choice(["", "=", "!", "-", " ", "A", "\n ", "\""]) + lines[at + rng.randrange(2):]
    return lines


def random_clients(rng, folder):
    broken = rng.choice([0, 0, .03])
    maybe_broken = lambda good, bad: bad if rng.random() < broken else good
    lines = []

    def options(required):
        for name in DURATIONS:
            if rng.random() < .2:
                good = rng.choice(["PT5M", "P1D", "1d 2h", "90s", "P2W", "PT1H30M", "P1Y2M3D", "P1M"])
                lines.append(f"{name} = {maybe_broken(good, random_duration(rng))}")
        for name in ("enabled", "approved_by_default"):
            if rng.random() < .3:
                good = rng.choice(["1", "yes", "True", "ON", "0", "no", "False", "oFF"])
                lines.append(f"{name}: {maybe_broken(good, rng.choice(['', '2', 'maybe', 'y', 'on off']))}")
        if rng.random() < .5:
            lines.append("Host = {}".format(rng.choice(["a.example.org", "::1", "%(fingerprint)s", ""])))
        if rng.random() < .3:
            lines.append("ssh_fingerprint = a/b+c")
            lines.append("checker = " + maybe_broken("ssh-check %%(host)s %(ssh_fingerprint)s 100%%%%",
                                                     "ssh-check %(host)s%"))
        if not required:
            return
        if rng.random() >= broken:
            lines.append(f"key_id = {maybe_broken(random_key(rng), 'abc')}")
        if rng.random() >= broken:
            lines.append("fingerprint = 3e39 3AEA efb84c7e89e2f547b3a107558fca3a27")
        kind = rng.random()
        if kind < .7:
            lines.append(f"secret = {random_secret(rng)}")
        if .6 < kind < 1 - broken:
            with open(os.path.join(folder, f"secret-{len(lines)}"), "wb") as secret:
                secret.write(rng.randbytes(maybe_broken(100, 0)))
            os.chmod(secret.name, 0o600)
            lines.append("secfile = " + rng.choice(
                [secret.name, f"$HERE/secret-{len(lines)}", f"${{HERE}}/secret-{len(lines)}",
                 f"~/secret-{len(lines)}", maybe_broken(secret.name, "$NOWHERE/secret")]))

    if rng.random() < .5:
        lines.append("[DEFAULT]")
        options(False)
    for number in range(rng.randrange(1, 5)):
        lines.append("[{}{}]".format(rng.choice(["a client", "n\u00e4me", "x.example.org", "-"]), number))
        options(True)
    return "\n".join(lines) + "\n"


def model_clients(data):
    """Our settings by name, or None, from Python's view of the file and the manual's words."""
    try:
        parser = read_python(data, DEFAULTS)
        out = {}
        for name in parser.sections():
            section = dict(parser.items(name))
            key = "".join(section.get("key_id", "").split()).upper()
            fingerprint = section.get("fingerprint", "").replace(" ", "").upper()
            if key and not re.fullmatch("[0-9A-F]{64}", key) or not key and "fingerprint" not in section:
                return None
            if "secret" in section:
                text = section["secret"]
                # Ours forgives nothing that may mean a loss.
                text = re.sub("[ \t\n]", "", text)
                secret = codecs.decode(text.encode(), "base64")
                if codecs.encode(secret, "base64").decode().replace("\n", "") != text:
                    return None
            else:
                with open(os.path.expanduser(os.path.expandvars(section["secfile"])), "rb") as file:
                    secret = file.read()
            durations = [model_duration(section[each]) for each in DURATIONS]
            if not secret or None in durations or durations[2] == 0:
                return None
            out[name] = (key, fingerprint, secret, section["host"], section["checker"],
                         parser.getboolean(name, "enabled"),
                         parser.getboolean(name, "approved_by_default"), *durations)
        return out
    except (configparser.Error, ValueError, KeyError, OSError):
        return None


def original_clients(original, data):
    """The same by the original's code; None where it refuses."""
    try:
        settings = original.Client.config_parser(read_python(data, original.Client.client_defaults))
    except (configparser.Error, ValueError, KeyError, TypeError, OSError, OverflowError):
        return None
    return {name: (one["key_id"], one["fingerprint"], one["secret"], one["host"], one["checker_command"],
                   one["enabled"], one["approved_by_default"],
                   *(one[each] // datetime.timedelta(milliseconds=1) for each in DURATIONS))
            for name, one in settings.items()}


def our_clients(probe, folder):
    answer = probe.ask("clients", folder.encode())
    if answer[0] == "refused":
        return None, bytes.fromhex(answer[1]).decode()
    text = lambda digits: bytes.fromhex(digits).decode()
    out = {}
    for each in answer[1:]:
        name, key, fingerprint, secret, host, checker, enabled, approved, *durations = each.split("=")
        out[text(name)] = (key, text(fingerprint), bytes.fromhex(secret), text(host), text(checker),
                           enabled == "1", approved == "1", *map(int, durations))
    return out, ""


class Comparison:
    def __init__(self, what):
        self.what = what
        self.accepted = self.refused = self.by_original = self.failures = 0

    def compare(self, question, ours, expected, whose="Python's"):
        if ours != expected:
            self.failures += 1
            if self.failures <= 5:
                print(f"{self.what}: {question!r}\n  ours:   {ours}\n  {whose}: {expected}")

    def count(self, ours):
        self.accepted += ours is not None
        self.refused += ours is None

    def done(self):
        print(f"{self.what}: {self.accepted} accepted, {self.refused} refused, {self.by_original} also"
              f" judged by the original, {self.failures} differ")
        # Both kinds must have come, or the comparison says nothing.
        return self.failures == 0 and min(self.accepted, self.refused) * 10 > self.accepted + self.refused


def judge_found(probe, original, folders):
    def out_of_time(*_):
        raise TimeoutError

    signal.signal(signal.SIGALRM, out_of_time)
    files, durations = Comparison("files found"), Comparison("durations found")
    for folder in folders:
        for name in sorted(os.listdir(folder)):
            with open(os.path.join(folder, name), "rb") as file:
                data = file.read()
            if "duration" in os.path.basename(folder):
                try:
                    text = data.decode()
                except UnicodeDecodeError:
                    continue
                if "\0" in text or not text.isascii():
                    continue
                ours = our_duration(probe, text)
                durations.compare(text, ours, model_duration(text), "the model's")
                durations.count(ours)
                theirs = original_duration(original, text) if original else "differs"
                if theirs != "differs":
                    durations.by_original += 1
                    durations.compare(text, ours, theirs, "the original's")
            elif not has_capital_beyond_ascii(data) and b"\0" not in data:
                ours = our_ini(probe, data)
                # Python sets no bound to how often an option may refer to others.
                signal.alarm(2)
                try:
                    expected = python_ini(data)
                except TimeoutError:
                    expected = None
                signal.alarm(0)
                files.compare(data, ours, expected)
                files.count(ours)
    probe.close()
    for each in (files, durations):
        each.done()
    return files.failures + durations.failures == 0


def main():
    if sys.argv[2:3] == ["--files"]:
        return judge_found(Probe(sys.argv[1]), original_functions(), sys.argv[3:])
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 2000
    rng = random.Random(int(sys.argv[3]) if len(sys.argv) > 3 else 20260101)
    original = original_functions()

    with tempfile.TemporaryDirectory() as folder:
        os.environ["HERE"] = os.environ["HOME"] = folder
        os.environ.pop("NOWHERE", None)
        probe = Probe(sys.argv[1])
        files = Comparison("files")
        for _ in range(rounds):
            data = random_file(rng)
            if has_capital_beyond_ascii(data) or b"\0" in data:
                continue
            ours = our_ini(probe, data)
            files.compare(data, ours, python_ini(data))
            files.count(ours)

        durations = Comparison("durations")
        for _ in range(rounds):
            text = random_duration(rng)
            ours = our_duration(probe, text)
            durations.compare(text, ours, model_duration(text), "the model's")
            durations.count(ours)
            theirs = original_duration(original, text) if original else "differs"
            if theirs != "differs":
                durations.by_original += 1
                durations.compare(text, ours, theirs, "the original's")

        clients = Comparison("clients")
        path = os.path.join(folder, "clients.conf")
        for _ in range(rounds // 2):
            data = random_clients(rng, folder).encode()
            with open(path, "wb") as file:
                file.write(data)
            os.chmod(path, 0o600)
            ours, why = our_clients(probe, folder)
            expected = model_clients(data)
            clients.compare((data, why), ours, expected, "the model's")
            clients.count(ours)
            # What the original refuses and we do not, or the other way round, is in the model.
            if original and ours is not None:
                theirs = original_clients(original, data)
                if theirs is not None:
                    clients.by_original += 1
                    clients.compare(data, ours, theirs, "the original's")
        probe.close()
    return all([each.done() for each in (files, durations, clients)])


if __name__ == "__main__":
    sys.exit(0 if main() else 1)
