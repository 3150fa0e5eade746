#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes the seeds whose names say what they are: make_seeds.py CORPUS_FOLDER. The other files of a
corpus were found by the fuzzer. An operation of the doors' targets is a byte that picks it, then its
operands, as the head of each target lists them."""

import hashlib
import pathlib
import struct
import sys

CORPUS = pathlib.Path(sys.argv[1])
ROOT = pathlib.Path(__file__).resolve().parent.parent.parent


def seed(target, name, content):
    folder = CORPUS / target
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())


def version_lines():
    for name, line in {"one": "1", "zero": "0", "two": "2", "words": " 1 and more", "underscore": "0_1",
                       "double-underscore": "0__1", "plus": "+1", "negative": "-17", "zeros": "0" * 60 + "1",
                       "long": "9" * 256, "spaces": "\t\x0b\x1c 1\r", "empty": "", "http": "GET / HTTP/1.1"}.items():
        seed("version_line", name, line)


def durations():
    for name, text in {"minutes": "PT5M", "all": "P1Y2M3DT4H5M6S", "weeks": "P2W", "gap": "P1Y3D", "time-gap": "PT1H3S",
                       "old": "1d 2h 30m", "old-seconds": "90s", "zero": "PT0S", "year-time": "P1YT1H",
                       "longest": "PT86399999999999S", "too-long": "P999999999999999999999W",
                       "long-sum": "999999999d 86399s", "negative": "PT-1S", "nothing": "P"}.items():
        seed("duration", name, text)


def configurations():
    for target in ("ini", "clients_conf"):
        for path in ("dist/mandos.conf", "dist/clients.conf"):
            seed(target, "dist-" + path.split("/")[1], (ROOT / path).read_bytes())
    seed("ini", "settings", """[DEFAULT]
interface = lo
address: ::1
port = 4711
debug = yes
debuglevel = INFO
use_ipv6 = 1
max_connections = 10
login_grace_time = PT%(port)sS
servicename = caf\u00e9
priority = SECURE128:%PROFILE_ULTRA
 :+VERS-TLS1.3
""")
    seed("ini", "penalties", "[DEFAULT]\nsource_penalty_threshold = 3\nsource_penalty_exempt = 192.0.2.0/24,\n"
         " 2001:db8::/32 ::1 10.0.0.1\nsource_penalty_time = 0s\n")
    seed("ini", "folded", "[a]\nName = one\n\n  two\n# comment\n\tthree: %(other)s %% end\nother = 1\n[b ] c]\nx:\n y\n")
    seed("ini", "nested", "[DEFAULT]\na=%(b)s%(b)s\nb=%(c)s\n[s]\nc=x%(d)s\nd=%%\n")
    seed("ini", "nothing-often", "[DEFAULT]\n" + "".join("a%d = %s\n" % (i, "%%(a%d)s" % (i + 1) * 20) for i in range(9)) + "a9 =\n[x]\n")
    seed("ini", "wrong", "name\n[a]\n=\nx=%\nx=1\n[a]\ny=%(z\nz=%(nowhere)s\n")
    seed("clients_conf", "client", "[DEFAULT]\ntimeout = 1h\ninterval=PT1M\n[one]\nkey_id = " + "0123456789abcdef" * 4 +
         "\nfingerprint = 3e39 3AEA\nsecret =\n c2Vj\n cmV0\nhost = one.example.org\n"
         "checker = ping %%(host)s %(ssh)s\nssh = a/b\nenabled = no\napproval_delay = 30s\n")
    seed("clients_conf", "secfile", "[two]\nfingerprint = AB\nsecfile = ~/secret\nkey_id=\n[.]\nsecfile=$HOME/nowhere\n")
    seed("clients_conf", "wrong", "[a/b]\nkey_id = x\nsecret = A\ntimeout = soon\ninterval = 0s\nenabled = perhaps\n[c]\n")


def expansions():
    values = {"plain": b"host.example.org", "quote": b"it's", "hostile": b"';touch /tmp/x;'", "substitution": b"$(id)`id`",
              "newline": b"a\nb", "bytes": bytes(range(1, 256)), "empty": b"", "bang": b"!!\\"}
    for number, (name, value) in enumerate(values.items()):
        seed("expansion", name, bytes([number % 4]) + struct.pack("<H", len(value)) + value + b"fping -q -- %(host)s %% %(name)s")
    for number, checker in enumerate([b"%", b"%(", b"%(host)d", b"%(nothing)s", b"%%%(key_id)s", b"%(dbus_object_path)s"]):
        seed("expansion", "checker-%d" % number, bytes(3) + checker)


# Protobuf by hand: a field is (number, value) where the value is an int or bytes.

def varint(value):
    out = b""
    value &= 2**64 - 1
    while value > 127:
        out += bytes([value & 127 | 128])
        value >>= 7
    return out + bytes([value])


def message(*fields):
    out = b""
    for number, value in fields:
        if isinstance(value, int):
            out += varint(number << 3) + varint(value)
        else:
            out += varint(number << 3 | 2) + varint(len(value)) + value
    return out


def states():
    settings = message((1, bytes(32)), (2, b"AB"), (3, hashlib.sha256(b"the file's secret").digest()), (4, b"host"),
                       (5, b"true"), (6, 1), (7, 300000), (8, 900000), (9, 120000), (10, 1), (11, 0), (12, 1000))
    saved = message((1, 1), (2, b"a"), (3, settings), (4, settings), (5, 1700000000000000), (6, 1700000000000000),
                    (7, 1700000001000000), (9, 1700000300000000), (10, 1))
    own = saved + message((11, 1))
    # Of a time that is yet to come, so that both hold whenever they are read.
    answer = saved + message((18, 1), (19, 250000000000000000), (20, 1700000000000000))
    for name, proto, secret in (("plain", saved, b""), ("own-secret", own, b"a secret of its own"), ("own-empty", own, b""),
                                ("newer", message((1, 2), (2, b"a")), b""), ("other", message((1, 1), (2, b"b")), b""),
                                ("approved", answer, b""), ("denied", answer + message((18, 0)), b""),
                                ("answer-extreme", saved + message((18, 1), (19, 2**62), (20, -2**62), (21, 2**63)), b""),
                                ("extreme", message((1, 1), (2, b"a"), (5, -1), (6, 2**62), (9, -2**62), (10, 99999)), b"")):
        content = struct.pack("<I", len(proto)) + proto + secret
        for first in (1, 3):
            seed("state", "%s-%d" % (name, first), bytes([first]) + content)
    seed("state", "file", b"\0" + hashlib.sha256(content).digest() + content)
    seed("state", "length", b"\1" + struct.pack("<I", 2**31) + saved)
    seed("state", "short", b"\0" + bytes(20))


def byte_sized(content):
    return bytes([len(content)]) + content


def two_byte_sized(content):
    return struct.pack("<H", len(content)) + content


def networker_doors():
    greeting, listen, hang_up = b"\1\0", b"\x09", b"\x0a"
    opened = lambda number: b"\2" + bytes([number]) + byte_sized(b"2001:db8::1")
    proof = lambda number, shape, spoilt=b"": b"\3" + bytes([number, shape]) + spoilt
    next_part = lambda number: b"\5" + bytes([number])
    closed = lambda number, delivered: b"\6" + bytes([number, delivered])
    approve = lambda verdict: b"\x08" + bytes([verdict])
    served = opened(1) + proof(1, 0) + next_part(1) + closed(1, 1)
    for name, operations in {
            "served": served * 2, "retry": opened(1) + proof(1, 4), "sha384": opened(1) + proof(1, 12),
            "approved": opened(2) + proof(2, 1) + approve(1) + next_part(2) + closed(2, 1),
            "denied": opened(2) + proof(2, 1) + approve(0) + closed(2, 0), "disabled": opened(3) + proof(3, 2),
            "stranger": opened(4) + proof(4, 3) + closed(4, 0), "hung-up-waiting": opened(2) + proof(2, 1) + closed(2, 0),
            "spoilt": opened(1) + proof(1, 16, struct.pack("<HB", 300, 1)), "replayed": opened(1) + proof(1, 0) + proof(1, 0),
            "too-many": b"".join(map(opened, range(9))), "part-too-many": served[:-3] + next_part(1),
            "gone-while-waiting": opened(2) + proof(2, 1) + hang_up,
            "junk": b"\0" + two_byte_sized(b"\xff\xff"), "own-proof": opened(1) + b"\4\1" + two_byte_sized(bytes(200)),
            "together": served[:-3] + b"\x0b\3" + closed(1, 1) + opened(1) + opened(2) + proof(1, 0),
            "together-wrong": opened(1) + b"\x0b\2" + next_part(9) + proof(1, 0),
            "alive": b"\x0c" + listen + b"\x0d" + served, "hangs": b"\x0c" * 6, "pong": b"\x0d" + served,
            "together-too-many": b"\x0b\5" + b"".join(map(opened, range(5))),
            "descriptor": b"\7" + byte_sized(message((5, b"")))}.items():
        seed("networker_door", name, greeting + operations + listen)
    seed("networker_door", "ungreeted-alive", b"\x0c\x0d" + greeting + listen)
    seed("networker_door", "ungreeted", opened(1))
    seed("networker_door", "problem", b"\1" + byte_sized(b"no priority"))


def checker_runner_doors():
    start, stop = b"\4\0\1", b"\4\0\0"
    finished = lambda which, status: b"\1" + bytes([which]) + struct.pack("<I", status)
    for name, operations in {
            "ok": start + finished(0, 0), "failed": start + finished(0, 0x100), "killed": start + stop + finished(0, 9),
            "again": start + stop + start + finished(0, 9) + finished(1, 0), "twice": start + finished(0, 0) * 2,
            "invented": b"\2" + bytes(12), "junk": b"\0" + byte_sized(b"\xff"), "long": b"\0" + byte_sized(bytes(65)),
            "pong": b"\0" + byte_sized(message((2, b""))), "gone": start + stop + start + b"\x09", "disabled": start + b"\5\0\0" + finished(0, 0),
            "unusable": b"\6\0" + byte_sized(b"%(") + start,
            "long-host": b"\7\0" + byte_sized(b"'" * 250) + b"\xff\xff" + start, "descriptor": b"\3" + byte_sized(b"x"),
            "alive": b"\x0a\x0b\x08\x0a\x0b\x08" + start, "hangs": b"\x0a" * 7, "pong-twice": b"\x0a\x0b\x0b"}.items():
        seed("checker_runner_door", name, operations + b"\x08")


def bus_agent_doors():
    greeting = b"\1"
    request = lambda change, value, client=0, serial=7: b"\2" + bytes([serial, client, change]) + value
    part = lambda size, times: b"\3" + struct.pack("<HBB", size, times - 1, 65)
    minute = struct.pack("<Q", 60000)
    for number in range(15):
        value = minute if number < 5 else b"\1" if number not in (8, 9) else two_byte_sized(b"text") + b"\\0"
        seed("bus_agent_door", "change-%d" % number, greeting + request(number, value, number % 3))
    for name, operations in {
            "secret": part(1000, 2) + request(10, b"\1"), "secret-too-long": part(32768, 33) + request(10, b"\1"),
            "no-client": b"\2\1\3" + byte_sized(b"nobody") + b"\x0b\1", "never": request(2, b"\xff" * 8),
            "waiting": b"\7\1" + request(11, b"\1", 1), "removed-waiting": b"\7\1" + request(13, b"\1", 1),
            "withdraw": b"\5\4", "pong": b"\0" + two_byte_sized(message((5, b""))), "withdrawn-twice": b"\4\4\4", "junk": b"\0" + two_byte_sized(b"\xff"), "gone": b"\x09",
            "descriptor": b"\6" + byte_sized(b"x"), "elsewhere": b"\x0a\2\7\0\x0a\1" + request(6, b"\1") + b"\x0a\0",
            "alive": b"\x0b\x0c\x08\x0b\x0c\x08" + request(7, b"\0"), "hangs": b"\x0b" * 7, "pong-twice": b"\x0b\x0c\x0c",
            "checking": request(6, b"\1") + request(6, b"\0") + request(7, b"\0")
    }.items():
        seed("bus_agent_door", name, greeting + operations + b"\x08")
    seed("bus_agent_door", "ungreeted", request(7, b"\1"))


def supervisor_doors():
    for name, operations in {
            "begin": b"\1\0\0\1\2\1", "started": b"\2\2\1" + bytes(8), "started-without": b"\2\1\1" + bytes(8), "reload": b"\3\0\3\1",
            "stop": b"\4\0", "ping": b"\5\0", "ask": b"\6", "junk": b"\0\0" + byte_sized(b"\xff"), "long": b"\0\3" + byte_sized(bytes(255)),
            "empty": b"\0\0\0\5\0"}.items():
        seed("supervisor_door", name, operations)


def log_inlets():
    for name, lines in {"plain": [(b"4all is not well", 0)], "forged": [(b'4x\nmandos[1]: "\x1b[2J\xff', 0)], "flood": [(b"6x", 255)] * 3,
                        "levels": [(bytes([digit]) + b"x", 0) for digit in range(47, 59)], "long": [(b"4" + b"\n" * 1100, 1)],
                        "empty": [(b"", 0), (b"4x", 0)]}.items():
        seed("log_inlet", name, b"".join(two_byte_sized(line) + bytes([times]) for line, times in lines))


def networkers():
    settings = lambda *values: b"\1" + bytes(values)
    nonce, refused, connect = b"\2\0\x20", b"\4\0", lambda shape: b"\7" + bytes([shape])
    part = lambda size, last: b"\3\0" + struct.pack("<HB", size, last)
    line, handshake, leave = b"\x08\0", b"\x0a\0", b"\x0c\0"
    say = lambda text: b"\x09\0" + byte_sized(text)
    proved = connect(0) + line + nonce + handshake * 4
    for name, operations in {
            "served": proved + part(100, 1) + handshake, "parts": proved + part(32768, 0) * 1 + handshake + part(9, 1) + handshake,
            "retry": connect(4) + line + nonce + handshake * 5 + part(9, 1), "p256": connect(1) + line + nonce + handshake * 4,
            "ed448": connect(2) + line + nonce + handshake * 4 + refused, "refused": proved + refused,
            "nonce-twice": connect(0) + line + nonce * 2, "nonce-short": connect(0) + line + b"\2\0\xd0",
            "part-too-early": connect(0) + line + part(9, 1), "left": proved + leave + part(9, 1), "http": connect(0) + say(b"GET / HTTP/1.1\r\n"),
            "early": connect(0) + say(b"1\n\x16\3\3\0\1x") + nonce, "late": proved + say(b"x" * 255) + part(9, 1),
            "spoilt": connect(0) + line + nonce + b"\x0b\0" + struct.pack("<HB", 200, 1), "long": connect(0) + say(b"1" * 255) * 2,
            "crowd": b"".join(connect(n) + line for n in range(6)), "serve": b"\x0d\0\x0d\x08\x0d\5", "gone": proved + b"\x0f",
            "number": proved + b"\5" + struct.pack("<I", 1 << 20) + refused, "descriptor": b"\6" + byte_sized(message((5, b""))),
            "ping": (b"\0" + two_byte_sized(message((6, b"")))) * 2 + proved,
            "junk": b"\0" + two_byte_sized(b"\xff"), "settings-twice": settings(1, 1, 1, 1, 1, 0, 0, 1)}.items():
        seed("networker", name, b"\1" + operations + b"\x0e")
    for name, values in {"debug": (4, 4, 100, 0, 7, 9, 0, 1), "wide": (4, 4, 100, 0, 7, 0, 1, 2), "x509": (4, 4, 100, 0, 7, 0, 2, 1),
                         "priority": (4, 4, 100, 0, 7, 0, 5, 1), "groups": (4, 4, 100, 0, 7, 0, 4, 1), "nothing": (0,) * 8,
                         "penalty": (1, 1, 1, 255, 7, 0, 0, 1), "exempt": (4, 4, 100, 128, 7, 0, 0, 1), "no-network": (4, 4, 100, 47, 7, 0, 0, 1), "deaf": (4, 4, 100, 0, 7, 0, 0, 0)}.items():
        seed("networker", "settings-" + name, b"\0" + settings(*values) + proved + part(9, 1) + connect(0) + line)
    seed("networker", "no-settings", b"\0" + nonce)


def tls_peers():
    line, nonce, work, forward, hang_up = b"\0", b"\2", b"\3", b"\4", b"\x0f"
    part = lambda size, last: b"\x0e" + struct.pack("<HB", size, last)
    begin = line + nonce + work
    step = forward + work
    lie = lambda kind, place, bits: b"\x0d" + struct.pack("<BHB", kind, place, bits)
    for shape in range(8):
        seed("tls_peer", "good-%d" % shape, bytes([shape]) + begin + step * 3 + part(100, 0) + part(32768, 1) + work)
    for kind in (2, 8, 11, 15, 20):
        for place in (0, 1, 2, 5, 40):
            seed("tls_peer", "lie-%d-%d" % (kind, place), b"\0" + line + nonce + lie(kind, place, 1) + work + step * 2)
    for name, operations in {
            "flip": work + b"\6" + struct.pack("<HB", 50, 1) + step, "drop": work + b"\7\1" + step, "double": work + b"\x08\0" + step,
            "swap": work + b"\x09\1" + step, "alert": work + b"\x0a\1\x15" + step, "resize": work + b"\x0b\0\xff\xff" + step,
            "insert": work + b"\x0c\1\x14" + byte_sized(b"\1") + step, "some": work + (b"\5" + struct.pack("<H", 100)) * 8 + work,
            "warning": b"\1" + byte_sized(b"\x15\3\3\0\2\1\x5a"), "fatal": b"\1" + byte_sized(b"\x15\3\3\0\2\2\x28"),
            "hang-up": work + hang_up, "talks-on": (work + forward) * 3 + (b"\1" + byte_sized(b"x" * 255)) * 9 + part(9, 1),
            "junk": b"\1" + byte_sized(bytes(range(256))[:255])}.items():
        seed("tls_peer", name, b"\0" + line + nonce + operations)
    seed("tls_peer", "early", b"\0\1" + byte_sized(b"1 \n\x16\3\3") + nonce)
    seed("tls_peer", "no-line", b"\0\1" + byte_sized(b"x" * 255) + b"\1" + byte_sized(b"xx"))


def bus_message(order, fields, signature=b"", body=b"", kind=1):
    """As the D-Bus specification has it; `fields` are (code, type, text or number)."""
    pad = lambda data, to: data + bytes(-len(data) % to)
    text = lambda value: struct.pack(order + "I", len(value)) + value + b"\0"
    header = b""
    for code, type, value in [*fields, *([(8, b"g", signature)] if signature else [])]:
        header = pad(header, 8) + bytes([code, 1]) + type + b"\0"
        header += bytes([len(value)]) + value + b"\0" if type == b"g" else \
            struct.pack(order + "I", value) if type == b"u" else text(value)
    mark = b"l" if order == "<" else b"B"
    return pad(mark + bytes([kind, 0, 1]) + struct.pack(order + "III", len(body), 77, len(header)) + header, 8) + body


def bus_wires():
    call = [(1, b"o", b"/clients/one"), (3, b"s", b"Set"), (2, b"s", b"org.freedesktop.DBus.Properties"), (7, b"s", b":1.7")]
    for name, order in (("little", "<"), ("big", ">")):
        text = lambda value: struct.pack(order + "I", len(value)) + value + b"\0"
        put = lambda property, kind, value: text(b"") + bytes(3) + text(property) + bytes(1) + bytes([len(kind)]) + kind + b"\0" + value
        for property in (b"Secret", b"Hidden"):
            body = put(property, b"ay", b"")
            body += bytes(-len(body) % 4) + struct.pack(order + "I", 6) + b"hidden"
            seed("bus_wire", f"{property.decode().lower()}-{name}", b"\xff\xff" + bus_message(order, call, b"ssv", body))
        body = put(b"Secret", b"ai", b"")
        body += bytes(-len(body) % 4) + struct.pack(order + "III", 8, 65, 256)
        seed("bus_wire", f"integers-{name}", b"\xff\xff" + bus_message(order, call, b"ssv", body))
        seed("bus_wire", f"reply-{name}", b"\0\0" + bus_message(order, [(5, b"u", 9), (7, b"s", b"org.freedesktop.DBus")], kind=2))
        seed("bus_wire", f"three-{name}", b"\7\0" + bus_message(order, call) * 2 + bus_message(order, call[:3]))
        seed("bus_wire", f"strings-{name}", b"\x40\0" + bus_message(order, call, b"as", struct.pack(order + "I", 37) + text(b"") * 1 + (bytes(3) + text(b"")) * 4))
    seed("bus_wire", "unknown-type", b"\x10\0" + bus_message("<", call, kind=77) + bus_message("<", call))
    long = bus_message("<", call)
    seed("bus_wire", "endless-body", b"\xff\0" + long[:4] + struct.pack("<I", 5 << 20) + long[8:] + bytes(300))
    seed("bus_wire", "endless-header", b"\xff\0" + long[:12] + struct.pack("<I", 5 << 20) + long[16:] + bytes(300))
    seed("bus_wire", "no-bus", b"\xff\xffHTTP/1.1 400 Bad Request\r\n")


for write in (networkers, tls_peers, networker_doors, checker_runner_doors, bus_agent_doors, supervisor_doors, log_inlets, version_lines, durations, configurations, expansions, states, bus_wires):
    write()
