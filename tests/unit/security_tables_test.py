#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""SECURITY.md against the code: nobody adds a message, a capability or a system call without its
line there. Arguments: the source folder, the program that prints the jails."""
import pathlib, platform, re, struct, subprocess, sys, unittest

SOURCE, PRINT_JAILS = pathlib.Path(sys.argv.pop(1)), sys.argv.pop(1)
TEXT = (SOURCE / "SECURITY.md").read_text()
DOORS = ("supervisor", "networker", "checker_runner", "bus_agent")


def table(mark):
    """The rows behind `<!-- test: mark -->`, each a list of cells, without the header."""
    behind = TEXT.partition(f"<!-- test: {mark} -->\n")[2]
    rows = [line for line in behind.partition("\n\n")[0].splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows[2:]]


def without_comments(name):
    return re.sub(r"//.*", "", (SOURCE / name).read_text())


def block(text, opening):
    """What stands between the braces that `opening` begins."""
    rest = text[text.index(opening) + len(opening):]
    depth = 1
    for at, character in enumerate(rest):
        depth += (character == "{") - (character == "}")
        if depth == 0:
            return rest[:at]
    raise ValueError(opening)


def messages(door):
    """{direction: [its messages]} of proto/DOOR.proto."""
    text = without_comments(f"proto/{door}.proto")
    found = {}
    for direction in re.findall(r"^message (To\w+) \{", text, re.M):
        choice = block(block(text, f"message {direction} {{"), "oneof message {")
        # By the field, since two messages may have one type.
        found[direction] = ["".join(part.capitalize() for part in field.split("_"))
                            for field in re.findall(r"\w+ (\w+) = \d+;", choice)]
    return found


def number(expression, known):
    while name := re.search(r"\bk[A-Z]\w+", expression):
        expression = expression.replace(name[0], f"({known[name[0]]})")
    return eval(re.sub(r"(\d)U?L?\b", r"\1", expression.replace("'", "")), {"__builtins__": {}})


def door_rows(door):
    """{message: (longest, per second)} of the table in the code, by the numbers of the contract."""
    text = without_comments(f"monitor/doors/{door}.cc")
    known = dict(re.findall(r"constexpr (?:std::size_t|int|unsigned) (k\w+) =\s+([^;]+);",
                            without_comments(f"proto/{door}.h")))
    rows = re.findall(r'\{ToMonitor::k\w+,\s*"(\w+)",\s*([\w |]+),\s*([\w *]+),\s*([\w *]+),', text)
    return {name: (number(longest, known), number(rate, known)) for name, _, longest, rate in rows}


def printed():
    """The lines of the program that prints the jails."""
    return subprocess.run([PRINT_JAILS], check=True, capture_output=True,
                          text=True).stdout.splitlines()


class SecurityTables(unittest.TestCase):
    def test_every_message_has_its_line_and_every_line_its_message(self):
        documented = {(row[0], row[1]) for row in table("messages")}
        in_code = {(f"{door} {direction}", name) for door in DOORS
                   for direction, names in messages(door).items() for name in names}
        self.assertGreater(len(in_code), 20)
        self.assertEqual(documented, in_code)

    def test_bounds_of_the_doors_are_those_of_the_code(self):
        for door in DOORS[1:]:
            rows = door_rows(door)
            self.assertEqual(set(rows), set(messages(door)["ToMonitor"]), door)
            documented = {row[0]: (int(row[2]), int(row[3])) for row in table(f"door {door}")}
            self.assertEqual(documented, rows, door)

    def test_every_change_that_the_bus_may_ask_for_is_named(self):
        request = block(without_comments("proto/bus_agent.proto"), "message Request {")
        changes = set(re.findall(r"\w+ (\w+) = \d+;", block(request, "oneof change {")))
        documented = {row[0] for row in table("changes")}
        self.assertEqual(documented, changes)

    def test_jails_are_those_of_the_code(self):
        in_code = [[cell.strip() for cell in row.strip("|").split("|")]
                   for row in printed() if row.startswith("|")]
        self.assertEqual(len(in_code), 20)
        self.assertEqual(table("jails"), in_code)

    def test_system_calls_of_the_operations_are_those_of_the_code(self):
        in_code = [row.split(" | ")[1:] for row in printed() if row.startswith("operation |")]
        self.assertGreater(len(in_code), 10)
        # Where it has its arguments in memory, mmap is left out. A system of 32 bits runs on a kernel
        # that calls itself x86_64.
        machine = platform.machine()
        unsafe = machine in ("s390", "s390x") or (
            machine in ("i386", "i686", "x86_64") and struct.calcsize("P") == 4)
        in_table = [[name, calls.replace("mmap2, mmap", "mmap2") if unsafe else calls]
                    for name, calls in table("operations")]
        self.assertEqual(in_table, in_code)
        self.assertNotIn("?", str(in_code))

    def test_capabilities_of_the_process_table_are_those_of_the_jails(self):
        numbers = dict(re.findall(r"#define CAP_(\w+)\s+(\d+)",
                                  pathlib.Path("/usr/include/linux/capability.h").read_text()))
        names = {row[0]: row[2] for row in table("jails") if row[1] == "capabilities"}
        for process, _, *sets in table("process-table"):
            mask = sum(1 << int(numbers[name.upper()]) for name in names[process].split(", ")
                       if name != "none")
            self.assertEqual([int(each, 16) for each in sets[:4]], [mask] * 4, process)

    def test_what_each_is_started_with_is_documented(self):
        text = without_comments("supervisor/supervisor.cc")
        kinds = block(text, "static const std::vector<Kind> table = {")
        for process, given in re.findall(r'"mandos-([\w-]+)",\s*&Accounts::\w+,\s*\{([^}]*)\}',
                                         kinds):
            names = ", ".join(sorted(name.strip()[4:].lower() for name in given.split(",")))
            self.assertIn([process, names], table("started-with"))
        self.assertEqual(len(table("started-with")), 3)

    def test_variables_of_the_environment_are_documented(self):
        text = without_comments("supervisor/supervisor.cc")
        listed = re.findall(r'"(\w+)"', block(text, "kVariables[] = {"))
        self.assertGreater(len(listed), 3)
        for name in listed:
            self.assertIn(f"`{name}`", TEXT)


unittest.main(verbosity=0)
