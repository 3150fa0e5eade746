#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Holds the manual pages against the parsers: every option, setting, default, checker name and
verdict of the source stands in the page that is about it, and the pages name no other. The pages
are rendered without a warning.

  man_options_test.py SOURCE PAGES MONITOR CTL VIEW   (CTL: mandos-ctl, VIEW: the live view; empty
                                                      where it is not built)
"""
import pathlib, re, shutil, subprocess, sys

SOURCE, PAGES = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
MONITOR, CTL, VIEW = sys.argv[3:]
NAMES = ("mandos.8", "mandos.conf.5", "mandos-clients.conf.5", *(("mandos-ctl.8",) if CTL else ()),
         *(("mandos-monitor.8",) if VIEW else ()))
results = []


def case(name):
    def run(function):
        number = 1 + sum(not line.startswith("#") for line in results)
        try:
            function()
            results.append(f"ok {number} - {name}")
        except AssertionError as failed:
            results.append(f"not ok {number} - {name}")
            results.extend(f"# {line}" for line in str(failed).splitlines())
    return run


def page(name):
    return (PAGES / name).read_text()


def source(path):
    return (SOURCE / path).read_text()


def table(path, name):
    """The rows of a constant table: all until the line that closes it."""
    match = re.search(rf"{re.escape(name)}\[\] = \{{\n(.*?)\n\}};", source(path), re.S)
    assert match, f"{path}: there is no table {name}"
    return match[1]


def section(text, title):
    match = re.search(rf'^\.S[hs] {title}\n(.*?)(?=^\.Sh |\Z)', text, re.M | re.S)
    assert match, f"no section {title}"
    return match[1]


def same(found, wanted, what):
    missing, unknown = sorted(wanted - found), sorted(found - wanted)
    assert found and wanted, f"{what}: nothing was found"
    assert not missing and not unknown, f"{what}: missing {missing}, unknown {unknown}"


def settings_items(name):
    """Setting name -> what the page says of it."""
    parts = re.split(r"^\.It Ic (\w+) Li = .*$", section(page(name), "SETTINGS"), flags=re.M)
    assert len(set(parts[1::2])) == len(parts[1::2]), "a setting is described twice"
    return dict(zip(parts[1::2], parts[2::2]))


def stated_default(text):
    match = re.search(r"^Default:\s+(.*?)(?=^\.It |^\.Pp|^\.El|^See |^Where |\Z)", text, re.M | re.S)
    assert match, f"no default in: {text[:60]!r}"
    return re.sub(r"\\[:&]", "", match[1])


# (setting, its function, expanded, argument, letter, operand), empty where there is none.
ROWS = re.findall(r'\{"(\w*)", (\S.*?), (true|false)(?:, "([a-z0-9-]+)", (0|\'.\'), (nullptr|"\w+"))?[,}]',
                  " ".join(table("monitor/settings.cc", "kRows").split()))
ARGUMENTS = [row[3:] for row in ROWS if row[3]]
SETTINGS = {row[0] for row in ROWS if row[0]}


@case("every command line option stands in mandos.8, with its letter and operand, and no other")
def command_line():
    items = re.findall(r"^\.It (Fl .*)$", section(page("mandos.8"), "OPTIONS"), re.M)
    found = set()
    for item in items:
        letter = re.search(r"Fl ([a-z])\b", item)
        name = re.search(r"Fl -([a-z0-9-]+)", item)[1]
        operand = re.search(r"Ar (\w+)$", item)
        found.add((name, f"'{letter[1]}'" if letter else "0",
                   f'"{operand[1]}"' if operand else "nullptr"))
    same(found, set(ARGUMENTS), "options")


@case("every command line option stands in the synopsis of mandos.8")
def synopsis():
    text = page("mandos.8").split(".Sh SYNOPSIS")[1].split(".Sh")[0]
    same(set(re.findall(r"-([a-z][a-z0-9-]+)", text)), {name for name, _, _ in ARGUMENTS},
         "synopsis")


@case("--help tells the same options")
def help_text():
    # Its name tells the program that it is asked, and not started to serve.
    done = subprocess.run(["mandos-inspect", "--help"], executable=MONITOR, capture_output=True,
                          text=True, timeout=30)
    assert done.returncode == 0, f"status {done.returncode}: {done.stderr}"
    same(set(re.findall(r"--([a-z0-9-]+)", done.stdout.split("\n", 2)[2])),
         {name for name, _, _ in ARGUMENTS}, "--help")


for program, path in (("mandos-ctl", CTL), ("mandos-monitor", VIEW)):
    if not path:
        continue

    @case(f"{program}.8 has the options of {program} --help, with their letters and operands")
    def tool():
        told = subprocess.run([path, "--help"], capture_output=True, text=True, timeout=30).stdout
        row = r"^  (?:-(\w), |    )--([a-z-]+)(?: ([A-Z]+))?(?:  |$)"
        options = set(re.findall(row, told, re.M))
        items = re.findall(r"^\.It (Fl .*)$", section(page(f"{program}.8"), "OPTIONS"), re.M)
        found = {tuple((re.search(pattern, item) or ["", ""])[1] for pattern in (
            r"Fl (\w)\b", r"Fl -([a-z-]+)", r"Ar (\w+)$")) for item in items}
        same(found, options, "options")


@case("every setting of mandos.conf stands in mandos.conf.5, and no other")
def server_settings():
    same(set(settings_items("mandos.conf.5")), SETTINGS, "settings")


@case("mandos.conf.5 says which settings are expanded")
def expansion():
    expanded = {row[0] for row in ROWS if row[0] and row[2] == "true"}
    same({name for name, text in settings_items("mandos.conf.5").items() if "\nExpanded.\n" in text},
         expanded, "expanded")


@case("the defaults in mandos.conf.5 are those of the source")
def server_defaults():
    text = source("monitor/settings.h")
    struct = text[text.index("struct Settings {"):text.index("enum class Action")]
    members = {"max_connections_per_source": "max_per_source", "login_grace_time": "login_grace",
               "source_penalty_time": "source_penalty", "debuglevel": "level",
               "source_penalty_threshold": "penalty_threshold",
               "source_penalty_exempt": "penalty_exempt"}
    wrong = []
    for name, said in settings_items("mandos.conf.5").items():
        member = members.get(name, name)
        match = re.search(rf"\b{member}(?: =\s+([^;]+))?;", struct)
        assert match, f"Settings has no {member}"
        value = (match[1] or "empty").strip('"')
        seconds = re.fullmatch(r"std::chrono::seconds\((\d+)\)", value)
        value = {"true": "True", "false": "False", "-1": "none", "LogLevel::kWarning": "WARNING",
                 "MANDOS_STATE_DIR": "/mandos"}.get(value, value)
        if seconds:
            value = f"PT{seconds[1]}S"
        if not re.search(rf"(^|\W|/var/lib){re.escape(value)}(\W|$)", stated_default(said)):
            wrong.append(f"{name}: {value!r} is not in {stated_default(said)!r}")
    assert not wrong, "\n".join(wrong)


@case("the ranges in mandos.conf.5 are those of the source")
def ranges():
    items = settings_items("mandos.conf.5")
    rows = [(row[0], *match.groups()) for row in ROWS
            if (match := re.match(r"set_number<&Settings::\w+, (\d+), (\w+)>$", row[1]))]
    assert len(rows) >= 5, "numbers were not found"
    for name, least, most in rows:
        if most == "INT_MAX":
            wanted = f"{least} or higher"
        else:
            wanted = f"{least} to {most}"
        assert wanted in " ".join(items[name].split()), f"{name}: expected {wanted!r}"


def client_rows():
    """Setting of a client -> its default as clients.conf would have it, or None."""
    rows = re.findall(r"^  (IDENTITY|PAYLOAD|SETTING|STATE)\([^,]+, (\w+), \w+, (.*), \d+, [\w |]+\)",
                      source("monitor/client_settings.h"), re.M)
    found = {name: preset if kind in ("SETTING", "STATE") else None for kind, name, preset in rows}
    for name, preset in found.items():
        if duration := re.match(r"std::chrono::(minutes|seconds)\((\d+)\)$", preset or ""):
            found[name] = f"PT{duration[2]}{duration[1][0].upper()}"
        elif preset:
            found[name] = {"true": "True", "false": "False"}.get(preset, preset.strip('"').replace("%", "%%"))
    return found | dict.fromkeys(re.findall(r'\{"(\w+)", nullptr\}', table("monitor/clients_conf.cc", "kFields")))


@case("every setting of a client stands in mandos-clients.conf.5, and no other")
def client_settings():
    same(set(settings_items("mandos-clients.conf.5")), set(client_rows()), "settings")


@case("the defaults in mandos-clients.conf.5 are those of the source")
def client_defaults():
    items = settings_items("mandos-clients.conf.5")
    presets = {name: preset for name, preset in client_rows().items() if preset is not None}
    assert len(presets) >= 9, "presets were not found"
    for name, value in presets.items():
        said = stated_default(items[name])
        assert re.search(rf"(^|\W){re.escape(value or 'empty')}(\W|$)", said), \
            f"{name}: {value!r} is not in {said!r}"


@case("every name that a checker may use stands in mandos-clients.conf.5, and no other")
def checker_names():
    names = set(re.findall(r'\{"(\w+)", value<[^>]+>\}', table("monitor/checker_command.cc", "kAttributes")))
    names |= set(re.findall(r"^  (?:IDENTITY|SETTING|STATE)\([^,]+, (\w+), .*\bkForCheckers\b", source("monitor/client_settings.h"), re.M))
    text = section(page("mandos-clients.conf.5"), "CHECKERS")
    found = set()
    for item in re.findall(r"^\.It Li (.*)$", text, re.M):
        found |= set(item.split(" , "))
    same(found, names, "names")


@case("every verdict of the audit lines stands in mandos.8, and no other")
def verdicts():
    body = re.search(r"string_view text\(Verdict verdict\) \{.*?\n\}", source("monitor/client.cc"),
                     re.S)[0]
    reasons = set(re.findall(r'"([^"]+)"', body))  # however it returns them
    registry = source("monitor/registry.cc") + source("monitor/registry.h")
    reasons |= set(re.findall(r'"(Unknown key|Revoked while it was sent)"', registry))
    reasons |= {text.rstrip(": ") for text in re.findall(r'"(No proof: )"', registry)}
    text = page("mandos.8")
    item = text[text.index(".It Li reason\n"):]
    item = item[:item.index(".El")]
    found = {re.sub(r"^\\&|:\\&$", "", text) for text in re.findall(r"^\.Dq (.*?)(?: ,| ;)?$", item, re.M)}
    same(found, reasons, "reasons")


@case("the fields of the audit line stand in mandos.8, in their order")
def audit_fields():
    body = re.search(r"void Registry::audit\(.*?\n\}", source("monitor/registry.cc"), re.S)[0]
    fields = re.findall(r'(\w+)=', "".join(re.findall(r'"((?:[^"\\]|\\.)*)"', body)))
    example = re.search(r"^audit: (.*?)^audit:", page("mandos.8"), re.M | re.S)[1]
    assert fields == re.findall(r"(\w+)=", example), f"the source has {fields}"
    logging = section(page("mandos.8"), "LOGGING")
    listed = re.findall(r"^\.It Li (\w+)$", logging[:logging.index(".Ss ")], re.M)
    assert fields == listed, f"the list has {listed}"


@case("the events of a client's fate and their fields stand in mandos.8, and no others")
def events():
    code = source("monitor/fate.cc")
    rows = code[code.index("rows[] = {"):code.index("for (const auto& row")]
    told = set(re.findall(r'"(\w+)",\s*(?:by|"checker")', rows)) | set(re.findall(r'fate_line\((?:[\w.]+ \? )?"(\w+)"', code + source(
        "monitor/registry.cc"))) | set(re.findall(r'\? "(\w+)" : "(\w+)"', rows)[0])
    logging = section(page("mandos.8"), "LOGGING")
    said = logging[logging.index(".Ss Client events"):logging.index(".Ss Client summary")]
    listed = re.findall(r"^\.It Li (\w+)$", said, re.M)
    head = re.findall(r"(\w+)=", re.search(r"fate_line\(.*?\n}", code, re.S)[0])
    same(set(listed), told | set(head), "events and first fields")
    for field in set(re.findall(r"[ (](\w+)=", rows)):
        assert re.search(rf"\.Li {field}\b", said), f"the field {field} is not in the manual"


@case("every signal that ends or reloads the server stands in mandos.8, and no other")
def signals():
    handled = re.search(r"on_signals\(\{([^}]*)\}", source("supervisor/supervisor.cc"))[1]
    handled = {name for name in re.findall(r"SIG\w+", handled) if name != "SIGCHLD"}
    same(set(re.findall(r"SIG\w+", " ".join(
        re.findall(r"^\.It Dv (.*)$", section(page("mandos.8"), "SIGNALS"), re.M)))),
        handled, "signals")


@case("man renders the pages without a warning")
def rendered():
    for name in NAMES:
        done = subprocess.run(["man", "--warnings", "-E", "UTF-8", "-l", "-Tutf8", "-Z",
                               str(PAGES / name)], capture_output=True, text=True, timeout=60,
                              env={"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", "MANWIDTH": "80", "GROFF_NO_SGR": "1"})
        assert done.returncode == 0 and not done.stderr, f"{name}: {done.stderr}"
        assert len(done.stdout) > 3000, f"{name}: almost nothing was rendered"


# Macros of mdoc(7) that are English words as well, and so disappear from a sentence.
WORDS = {"No", "In", "It", "At", "An", "Do", "So", "Em", "Es"}


def words_of(text):
    """Letters and digits, since quotes and hyphens depend on the device, without macros."""
    kept = [word for word in re.sub(r"\\&|\\e|\\\(..|[\\\-\u00ad\u2010-\u2015\u2212]", "", text).split()
            if word in WORDS or not re.fullmatch("[A-Z][a-z][a-z]?", word)]
    return " " + " ".join(re.findall(r"\w+", " ".join(kept))) + " "


@case("what the pages quote is rendered word for word")
def quoted():
    count = 0
    for name in NAMES:
        done = subprocess.run(["man", "-E", "UTF-8", "-l", "-Tutf8", str(PAGES / name)],
                              capture_output=True, text=True, timeout=60,
                              env={"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", "MANWIDTH": "80", "GROFF_NO_SGR": "1"})
        told = words_of(re.sub("(?<=[-\u2010])\n *", "", re.sub(".\b", "", done.stdout)))
        written = words_of(re.sub(r"^\.[A-Z]\w* ?|^\.\\\".*$", "", page(name), flags=re.M))
        for quote in re.findall(r"^\.(?:[DSQ]q|Ql) (.*)$", page(name), re.M):
            wanted = words_of(quote)
            count += 1
            # Elsewhere it may be right.
            assert told.count(wanted) >= written.count(wanted), f"{name}: {quote!r} is rendered otherwise"
    assert count > 20, f"{count} quotes"


@case("mandoc -Tlint finds nothing")
def linted():
    assert shutil.which("mandoc"), "mandoc is not installed (package mandoc)"
    for name in NAMES:
        done = subprocess.run(["mandoc", "-Tlint", "-Wstyle", str(PAGES / name)],
                              capture_output=True, text=True, timeout=60)
        remarks = [line for line in done.stdout.splitlines()
                   # It knows the systems that have a Mandos of their own, and this is none.
                   if "referenced manual not found" not in line
                   and "unknown manual" not in line and "operating system explicitly" not in line]
        assert not remarks, "\n".join(remarks)


print(f"1..{sum(not line.startswith('#') for line in results)}")
print("\n".join(results))
sys.exit(any(line.startswith("not ok") for line in results))
