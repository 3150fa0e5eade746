# SPDX-License-Identifier: GPL-3.0-or-later
"""A disk whose syncs, or opens, take as long as a test likes: a file system in memory that speaks the kernel's
FUSE protocol (linux/fuse.h) itself, from a thread of the test. What it shows is the kernel's own
path of an fsync that does not end; only the disk below is made up."""
import ctypes, errno, os, stat, struct, threading

IN = struct.Struct("<IIQQIIII")  # length, opcode, unique, node, uid, gid, pid, extension
OUT = struct.Struct("<IiQ")
ENTRY = struct.Struct("<QQQQII")
(LOOKUP, FORGET, GETATTR, SETATTR, UNLINK, RENAME, OPEN, READ, WRITE, STATFS, RELEASE, FSYNC, FLUSH,
 INIT, OPENDIR, READDIR, RELEASEDIR, FSYNCDIR, ACCESS, CREATE, INTERRUPT, DESTROY, BATCH_FORGET,
 RENAME2) = (1, 2, 3, 4, 10, 12, 14, 15, 16, 17, 18, 20, 25, 26, 27, 28, 29, 30, 34, 35, 36, 38, 42, 45)
SILENT = (FORGET, INTERRUPT, BATCH_FORGET)


class SlowDisk:
    """Mounted on a folder. After stall() no sync ends until release(); or none of other calls."""

    def __init__(self, folder, others=False):
        self.folder = os.fspath(folder)
        # The harness has a /dev and a /run of its own.
        device = f"/run/fuse-of-{id(self)}" if others else f"{self.folder}.fuse"
        os.mknod(device, stat.S_IFCHR | 0o600, os.makedev(10, 229))
        self.device = os.open(device, os.O_RDWR | os.O_CLOEXEC)
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.mount(b"slow", self.folder.encode(), b"fuse", 0,
                      b"fd=%d,rootmode=40000,user_id=0,group_id=0,default_permissions%s"
                      % (self.device, b",allow_other" if others else b"")):
            raise OSError(ctypes.get_errno(), "mount fuse")
        self.nodes = {1: [stat.S_IFDIR | (0o755 if others else 0o700), 0, b""]}  # number: mode, owner, content
        self.names = {}
        self.next = 2
        self.stalled, self.held, self.lock = (), [], threading.Lock()
        self.syncs = 0
        threading.Thread(target=self.serve, daemon=True).start()

    def stall(self, *opcodes):
        with self.lock:
            self.stalled = opcodes or (FSYNC, FSYNCDIR)

    def release(self):
        """Everything that waits has ended, and the later ones end at once."""
        with self.lock:
            self.stalled = ()
            held, self.held = self.held, []
        for unique, opcode, node, body in held:
            self.answer(unique, self.handle(opcode, node, body))

    def serve(self):
        while True:
            try:
                request = os.read(self.device, 1 << 20)
            except OSError as problem:
                if problem.errno in (errno.ENOENT, errno.EINTR):
                    continue
                return  # unmounted
            _, opcode, unique, node, *_ = IN.unpack_from(request)
            body = request[IN.size:]
            with self.lock:
                self.syncs += opcode in (FSYNC, FSYNCDIR)
                if opcode in self.stalled:
                    self.held.append((unique, opcode, node, body))
                    continue
            try:
                answer = self.handle(opcode, node, body)
            except OSError as problem:
                self.answer(unique, error=problem.errno)
            else:
                if opcode not in SILENT:
                    self.answer(unique, answer)

    def answer(self, unique, body=b"", error=0):
        try:
            os.write(self.device, OUT.pack(OUT.size + len(body), -error, unique) + body)
        except OSError:
            pass  # who asked is gone

    def attributes(self, number):
        mode, owner, content = self.nodes[number]
        return struct.pack("<QQQQQQIIIIIIIIII", number, len(content), 1, 0, 0, 0, 0, 0, 0, mode, 1,
                           owner, 0, 0, 4096, 0)

    def entry(self, number):
        return ENTRY.pack(number, 1, 0, 0, 0, 0) + self.attributes(number)

    def handle(self, opcode, node, body):
        name = body.split(b"\0")[0]
        if opcode == INIT:
            major, minor = struct.unpack_from("<II", body)
            return struct.pack("<IIIIHHIIHHI28x", 7, min(minor, 31), 65536, 0, 64, 48, 65536, 1, 0, 0, 0)
        if opcode == LOOKUP:
            if name not in self.names:
                raise OSError(errno.ENOENT, "")
            return self.entry(self.names[name])
        if opcode == GETATTR:
            return struct.pack("<QII", 0, 0, 0) + self.attributes(node)
        if opcode == SETATTR:
            valid, _, _, size = struct.unpack_from("<IIQQ", body)
            mode, _, owner = struct.unpack_from("<III", body, 68)
            of = self.nodes[node]
            if valid & 1:
                of[0] = stat.S_IFMT(of[0]) | stat.S_IMODE(mode)
            if valid & 2:
                of[1] = owner
            if valid & 8:
                of[2] = of[2][:size].ljust(size, b"\0")
            return struct.pack("<QII", 0, 0, 0) + self.attributes(node)
        if opcode == CREATE:
            mode = struct.unpack_from("<II", body)[1]
            name = body[16:].split(b"\0")[0]
            number, self.next = self.next, self.next + 1
            self.nodes[number] = [mode, 0, b""]
            self.names[name] = number
            return self.entry(number) + struct.pack("<QII", 0, 0, 0)
        if opcode in (OPEN, OPENDIR):
            return struct.pack("<QII", 0, 0, 0)
        if opcode == WRITE:
            _, offset, size = struct.unpack_from("<QQI", body)
            data = body[40:40 + size]
            of = self.nodes[node]
            of[2] = of[2][:offset].ljust(offset, b"\0") + data + of[2][offset + size:]
            return struct.pack("<II", size, 0)
        if opcode == READ:
            _, offset, size = struct.unpack_from("<QQI", body)
            return self.nodes[node][2][offset:offset + size]
        if opcode == READDIR:
            _, offset, size = struct.unpack_from("<QQI", body)
            listed = b""
            for place, (each, number) in enumerate(list(self.names.items()), 1):
                if place > offset:
                    one = struct.pack("<QQII", number, place, len(each), 8) + each
                    one = one.ljust(-(-len(one) // 8) * 8, b"\0")
                    if len(listed) + len(one) > size:
                        break
                    listed += one
            return listed
        if opcode in (RENAME, RENAME2):
            old, new = body[8 if opcode == RENAME else 16:].split(b"\0")[:2]
            self.names[new] = self.names.pop(old)
            return b""
        if opcode == UNLINK:
            del self.names[name]
            return b""
        if opcode == STATFS:
            return struct.pack("<QQQQQIIII24x", 1000, 1000, 1000, 1000, 1000, 4096, 255, 4096, 0)
        if opcode in (RELEASE, RELEASEDIR, FLUSH, FSYNC, FSYNCDIR, ACCESS, DESTROY, *SILENT):
            return b""
        raise OSError(errno.ENOSYS, "")
