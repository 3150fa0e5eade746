#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""contracts.py SOURCE: what both ends of a door must agree on is written once, in proto/DOOR.h, and the
descriptor numbers of all doors in common/child.h. No file of a process declares one of these names
again, a channel of a process receives as much as the contract says, a row of a table in the monitor takes
its bounds from it, and no number stands where a descriptor of a child is meant."""
import pathlib, re, sys

SOURCE = pathlib.Path(sys.argv[1])
# At which doors each room stands.
ROOMS = {"common": [], "supervisor": ["supervisor"], "networker": ["networker"], "bus-agent": ["bus_agent"],
         "checker-runner": ["checker_runner"],
         "monitor": ["supervisor", "networker", "checker_runner", "bus_agent"]}


def code(path):
    return re.sub(r"//[^\n]*", "", path.read_text())


contracts = {path: code(path) for path in sorted(SOURCE.glob("proto/*.h"))}
names = {door.stem: set(re.findall(r"constexpr [\w:]+ (k?\w+)\b", text)) for door, text in contracts.items()}
assert set(names) == {"bus_agent", "checker_runner", "networker", "supervisor"}, names
assert all(len(each) > 4 for each in names.values()), names
every = set().union(*names.values())
lengths = {name for name in every if name.startswith("kLongest")}
descriptors = set(re.findall(r"constexpr int (k\w+Fd)\b", code(SOURCE / "common/child.h")))
assert len(descriptors) == 4, descriptors
bad, received, rows = [], 0, 0
for room, doors in ROOMS.items():
    own = set().union(*(names[door] for door in doors))
    for path in sorted((SOURCE / room).rglob("*.*")):
        if path.suffix not in (".cc", ".h"):
            continue
        text, where = code(path), path.relative_to(SOURCE)
        # A share of a number may have its name: kMostAhead / 2.
        for name, value in re.findall(r"constexpr [\w:]+ (k\w+)\s*[={]\s*([^;]+);", text):
            if name in own and f"::{name}" not in value:
                bad.append(f"{where}: {name} is a number of a contract")
            if name in descriptors and str(where) != "common/child.h":
                bad.append(f"{where}: {name} stands in common/child.h")
        for value in re.findall(r"\.receive\s*=\s*([^,}]+)", text):
            received += 1
            if value.strip().rpartition("::")[2] not in lengths:
                bad.append(f"{where}: receives {value.strip()}, expected a kLongest of the contract")
        # once, at a greeting or in answer to a Ping: the door's states say so
        for message, longest, rate in re.findall(
                r'\{ToMonitor::k\w+,\s*"(\w+)",\s*[\w |]+,\s*([^,]+),\s*([^,]+),', text):
            rows += 1
            if longest not in lengths or (rate not in every and rate != "1"):
                bad.append(f"{where}: {message} may have {longest} bytes, {rate} times a second")
        for call in re.findall(r"\b(?:UniqueFd|to_socket|getsockopt|dup2)\([^;]*?\b[34][,)]", text):
            bad.append(f"{where}: {call}: descriptor numbers stand in common/child.h")
# Both ends of four doors, where one header of Channel has the default of none.
assert received == 8 and rows == 13, (received, rows)
print("\n".join(bad))
sys.exit(bool(bad))
