#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""settings_table.py SOURCE: a setting of a client is described once, in monitor/client_settings.h. It has a
field in each .proto and a row in the bus-agent. No other file of a process names it, except those
below, which act on it."""
import pathlib, re, sys

SOURCE = pathlib.Path(sys.argv[1])
TABLE = "monitor/client_settings.h"
STATE, BUS, AGENT = "proto/state.proto", "proto/bus_agent.proto", "bus-agent/client_object.cc"
# The settings whose names are not everyday words, and the files with the rules that they are made for.
ACTS_ON = {
    "approval_delay": ["monitor/client.cc", "monitor/clients_conf.cc", "monitor/fate.cc"],
    "approval_duration": ["monitor/client.cc", "monitor/fate.cc"],
    # the signal NeedApproval shows this one
    "approved_by_default": ["monitor/client.cc", "monitor/client.h", "monitor/clients_conf.cc",
                            "monitor/doors/bus_agent.cc", "monitor/fate.cc"],
    "extended_timeout": ["monitor/client.cc", "monitor/clients_conf.cc"],
}


def code(path):
    return re.sub(r"//[^\n]*", "", path.read_text())


def fields(proto, message):
    """The names of the fields of a message, those of a oneof included."""
    text = code(SOURCE / proto)
    start = re.search(rf"message {message} \{{", text).end()
    end, depth = start, 1
    while depth:
        depth += {"{": 1, "}": -1}.get(text[end], 0)
        end += 1
    return set(re.findall(r"(\w+) = \d+;", text[start:end]))


rows = [(kind, name, shown) for kind, name, shown in
        re.findall(r"^  (IDENTITY|PAYLOAD|SETTING|STATE)\([^,]+, (\w+), (\w+), .*, \d+, [\w |]+\)", (SOURCE / TABLE).read_text(),
                   re.M)]
names = [name for _, name, _ in rows]
shown_by_agent = {name.lower() for name in re.findall(r'^    \{"(\w+)", "\w+", Emits::', (SOURCE / AGENT).read_text(), re.M)}
assert len(rows) >= 12 and len(shown_by_agent) > len(rows), (rows, shown_by_agent)
files = {str(path.relative_to(SOURCE)): code(path)
         for room in ("bus-agent", "checker-runner", "common", "monitor", "networker", "proto", "supervisor")
         for path in sorted((SOURCE / room).rglob("*.*")) if path.suffix in (".cc", ".h", ".proto")}

bad = []
if names != sorted(names):
    bad.append(f"{TABLE}: the rows are not in the order of the names: {names}")
for kind, name, shown in rows:
    if kind != "PAYLOAD" and name not in fields(STATE, "Settings"):
        bad.append(f"{STATE}: Settings has no field {name}")
    if name not in fields(BUS, "Client"):
        bad.append(f"{BUS}: Client has no field {name}")
    if (name in fields(BUS, "Request")) != (kind != "IDENTITY"):
        bad.append(f"{BUS}: Request {'cannot' if kind != 'IDENTITY' else 'can'} change {name}")
    if shown.lower() not in shown_by_agent:
        bad.append(f"{AGENT}: no row for {shown}")
    if name in ACTS_ON:
        found = {file for file, text in files.items() if re.search(rf"\b({name}|k?{shown})\b", text)}
        describing = {TABLE, STATE, BUS, AGENT}
        print(f"{name}: described in {len(found & describing)} files, acted on in {len(found - describing)}")
        if found - describing != set(ACTS_ON[name]) or not describing <= found:
            bad.append(f"{name} is in {sorted(found)}, expected {sorted(describing)} and {ACTS_ON[name]}")
if unknown := set(ACTS_ON) - set(names):
    bad.append(f"no setting: {unknown}")
print("\n".join(bad))
sys.exit(bool(bad))
