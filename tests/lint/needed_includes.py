#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""needed_includes.py SOURCE [--fix]: every C++ file includes the headers of the names that it uses,
itself or by the header of the same name, whatever other headers happen to bring along: that changes
with each compiler. Every name of namespace std must be in the table below; of C and Linux, what is in
it is looked for. --fix adds what is missing."""
import pathlib, re, subprocess, sys

SOURCE = pathlib.Path(sys.argv[1])
# Header (or several that declare the same): names of std, and of its nested namespaces without them.
STD = """
algorithm: all_of any_of clamp copy copy_if copy_n count count_if equal fill find find_if for_each
  iter_swap max max_element min min_element minmax mismatch next_permutation none_of nth_element
  remove remove_if replace reverse rotate search shuffle sort stable_sort transform unique
  lower_bound upper_bound binary_search includes set_difference partition fold_left
array: array to_array
atomic: atomic atomic_flag atomic_ref memory_order_acquire memory_order_relaxed memory_order_release
bit: bit_cast bit_ceil bit_width countl_one countl_zero countr_one countr_zero endian popcount
bitset: bitset
cctype: isalnum isalpha isdigit isprint isspace isxdigit tolower toupper
charconv: from_chars to_chars chars_format
chrono: chrono chrono_literals
cmath: abs nan ceil exp floor isfinite isnan log log10 log2 lround pow round sqrt|cstdlib
compare: strong_ordering weak_ordering partial_ordering
concepts: integral same_as invocable convertible_to derived_from unsigned_integral floating_point
condition_variable: condition_variable
csignal: signal raise
cstddef: byte max_align_t nullptr_t ptrdiff_t size_t|cstdlib|cstring|cstdio
cstdint: int8_t int16_t int32_t int64_t intmax_t uint8_t uint16_t uint32_t uint64_t uintmax_t uintptr_t intptr_t
cstdio: FILE fclose fflush fgets fopen fprintf fputc fputs fread fwrite perror printf puts snprintf
  sscanf tmpfile
cstdlib: _Exit abort atexit atof atoi atol exit free getenv malloc calloc realloc strtol strtoul
  strtoull system
cstring: memchr memcmp memcpy memmove memset strchr strcmp strcspn strerror strlen strncmp strrchr
  strspn strstr
ctime: clock time time_t tm gmtime localtime strftime
deque: deque
exception: exception terminate exception_ptr
filesystem: filesystem
fstream: fstream ifstream ofstream
functional: function hash less greater plus bind_front invoke reference_wrapper ref cref not_fn
  identity move_only_function|memory|string|string_view
initializer_list: initializer_list
iomanip: setw setfill setprecision put_time
ios: ios ios_base hex dec|fstream|sstream|iostream|ostream
iostream: cin cout cerr clog
iterator: back_inserter inserter istreambuf_iterator istream_iterator ostream_iterator distance next
  prev advance move_iterator make_move_iterator
iterator|array|span|string|string_view|vector|map|set|deque: begin end size data ssize empty
limits: numeric_limits
list: list
map: map multimap
memory: addressof align allocator enable_shared_from_this make_shared make_unique shared_ptr
  unique_ptr weak_ptr default_delete
memory_resource: pmr polymorphic_allocator
mutex: lock_guard mutex scoped_lock unique_lock once_flag call_once
new: bad_alloc nothrow launder
numeric: accumulate gcd iota reduce
optional: nullopt optional nullopt_t make_optional
ostream: ostream endl flush|iostream|fstream|sstream
queue: priority_queue queue
random: mt19937 mt19937_64 random_device uniform_int_distribution uniform_real_distribution
regex: regex smatch regex_match regex_search
set: multiset set
span: span as_bytes as_writable_bytes dynamic_extent
sstream: istringstream ostringstream stringstream
stdexcept: invalid_argument logic_error out_of_range runtime_error
string: string stod stoi stol stoll stoul stoull to_string getline u8string char_traits
  wstring to_wstring
string_view: string_view string_view_literals wstring_view u32string_view
system_error: errc error_code system_error generic_category system_category make_error_code
thread: thread jthread this_thread
tuple: apply forward_as_tuple ignore make_tuple tie tuple tuple_size
type_traits: integral_constant conditional_t decay_t enable_if_t invoke_result_t is_constructible_v is_invocable_v is_convertible_v
  is_same_v is_trivially_copyable_v remove_cvref_t remove_pointer_t remove_reference_t true_type
  false_type underlying_type_t is_enum_v is_void_v is_base_of_v
unordered_map: unordered_map unordered_multimap
unordered_set: unordered_set unordered_multiset
cwctype: towlower wint_t iswprint
utility: as_const cmp_equal cmp_greater cmp_greater_equal cmp_less cmp_less_equal cmp_not_equal declval exchange forward in_place in_place_index in_place_t in_place_type_t
  in_place_type integer_sequence make_index_sequence make_pair move pair swap to_underlying unreachable
  index_sequence
variant: get_if holds_alternative monostate variant visit variant_alternative_t variant_size_v
variant|tuple|utility|array|map: get
vector|string|deque|list|set|map: erase erase_if
vector: vector
valarray: valarray
"""
PLAIN = r"""
arpa/inet.h: inet_ntop inet_pton
netinet/in.h|arpa/inet.h: htonl htons ntohl ntohs
cerrno: errno E(?!POLL)[A-Z]{3,}
csignal|signal.h|sys/wait.h|sys/signalfd.h: SIG[A-Z0-9]{2,}
csignal|signal.h: sigaction sigaddset sigemptyset sigfillset sigprocmask siginfo_t sigset_t
cstring|string.h: explicit_bzero
dirent.h: opendir readdir closedir
fcntl.h: openat fcntl O_[A-Z]+ F_[DGS][A-Z_]+ AT_[A-Z_]+ posix_fallocate
grp.h: getgrnam getgrgid setgroups fgetgrent
linux/capability.h|sys/capability.h: CAP_[A-Z_]+
net/if.h: if_nametoindex if_indextoname
netinet/in.h: sockaddr_in sockaddr_in6 in6addr_any in6addr_loopback IPPROTO_[A-Z0-9]+ INADDR_[A-Z]+
netinet/tcp.h|linux/tcp.h: TCP_[A-Z_]+
poll.h: pollfd
pwd.h: getpwnam getpwuid fgetpwent passwd
sched.h|linux/sched.h: CLONE_[A-Z]+ sched_yield
sys/epoll.h: epoll_create1 epoll_ctl epoll_event epoll_wait EPOLL[A-Z]+
sys/eventfd.h: eventfd
sys/file.h: flock LOCK_[A-Z]+
sys/ioctl.h: TIOC[A-Z]+
sys/mman.h: madvise mlock mmap mprotect mremap munmap memfd_create MAP_[A-Z]+ PROT_[A-Z]+ MADV_[A-Z]+
sys/prctl.h: prctl PR_[A-Z_]+
sys/random.h: getrandom GRND_[A-Z]+
sys/resource.h: getrlimit rlimit setrlimit RLIMIT_[A-Z]+ getrusage
sys/signalfd.h: signalfd signalfd_siginfo
sys/socket.h: accept4 getpeername getsockname getsockopt recvfrom recvmsg
  recvmmsg sendmsg sendto setsockopt sockaddr sockaddr_storage socketpair
  AF_[A-Z0-9]+ MSG_[A-Z]+ SOCK_[A-Z]+ SOL_SOCKET SO_[A-Z]+ SCM_[A-Z]+ CMSG_[A-Z]+
sys/stat.h: chmod fchmod fstat fstatat lstat mkdir umask S_IS[A-Z]+ S_I[A-Z]+
sys/syscall.h: SYS_[a-z_0-9]+
sys/timerfd.h: timerfd_create timerfd_settime TFD_[A-Z]+
sys/uio.h|sys/socket.h: iovec
sys/un.h: sockaddr_un
sys/vfs.h|sys/statfs.h: statfs fstatfs
sys/wait.h: waitpid WIFEXITED WIFSIGNALED WEXITSTATUS WTERMSIG WNOHANG
sys/xattr.h: getxattr setxattr
unistd.h: _exit chdir chroot dup dup2 dup3 environ execl execv execve execvp fdatasync fork
  fsync ftruncate getegid geteuid getgid getgroups getpid getppid getresgid getresuid getuid isatty lseek
  pipe pipe2 pread pwrite readlink rmdir setgid setresgid setresuid setsid setuid symlink syncfs
  sysconf syscall unlink unlinkat usleep vfork getentropy TEMP_FAILURE_RETRY STD[A-Z]+_FILENO
"""


def parse(table):
    """[(headers, [names])]"""
    rows = []
    for line in table.strip().splitlines():
        if not line.startswith(" "):
            head, _, line = line.partition(": ")
            rows.append((head.split("|"), []))
        line, *others = line.split("|")
        rows[-1][1].extend(line.split())
        rows[-1][0].extend(others)
    return rows


STD_HEADERS = {name: headers for headers, names in parse(STD) for name in names}
def pattern(names):
    """A function by its call, the others by their name."""
    each = [name + r"(?=\s*\()" if name.islower() and name not in TYPES and not name.endswith("_t") else name for name in names]
    return re.compile(r"(?<![\w.:>\"/~])(?:" + "|".join(each) + r")\b(?!\.h)")


# Types among the lower-case names.
TYPES = {"sockaddr", "sockaddr_storage", "sockaddr_in", "sockaddr_in6", "sockaddr_un", "iovec", "pollfd", "rlimit",
         "passwd", "epoll_event", "signalfd_siginfo", "environ", "errno", "in6addr_any", "in6addr_loopback"}
PLAIN_ROWS = [(headers, pattern(names)) for headers, names in parse(PLAIN)]
STD_NAME = re.compile(r"\bstd::(?:(ranges|pmr|chrono|filesystem|this_thread|views)\b(?:::(\w+))?|(\w+))")


def code_of(text):
    """Without comments, strings and directives."""
    text = re.sub(r'R"(\w*)\((.*?)\)\1"', '""', text, flags=re.S)
    text = re.sub(r'"(\\.|[^"\\\n])*"|\'(\\.|[^\'\\\n])\'', '""', text)
    text = re.sub(r"//[^\n]*|/\*.*?\*/", "", text, flags=re.S)
    return re.sub(r"(?m)^\s*#\s*(include|if|ifdef|ifndef|elif)\b.*$", "", text)


def included(file, text):
    own = set(re.findall(r'(?m)^#include [<"]([^>"]+)[>"]', text))
    pair = file.with_suffix(".h")
    if file.suffix == ".cc" and (SOURCE / pair).exists() and str(pair) in own:
        own |= set(re.findall(r'(?m)^#include [<"]([^>"]+)[>"]', (SOURCE / pair).read_text()))
    return own


def missing(file):
    """{header: a name}, and the names of std that the table does not have."""
    text = (SOURCE / file).read_text()
    code, has = code_of(text), included(file, text)
    found, unknown = {}, set()
    for nested, inner, name in STD_NAME.findall(code):
        if nested == "ranges":
            name = inner
            headers = STD_HEADERS.get(name, ["ranges"])
        else:
            name = name or {"views": "ranges", "pmr": "pmr"}.get(nested, nested)
            if nested == "pmr" and inner in STD_HEADERS:
                name = inner
            headers = ["ranges"] if name == "ranges" else STD_HEADERS.get(name)
        if headers is None:
            unknown.add(name)
        elif not has & set(headers):
            found.setdefault(headers[0], name)
    for headers, pattern in PLAIN_ROWS:
        hit = pattern.search(code)
        # <cerrno> and <errno.h> are one.
        names = set(headers) | {header[1:] + ".h" for header in headers if header.startswith("c") and "." not in header}
        if hit and not has & names:
            found.setdefault(headers[0], hit[0])
    return found, unknown


def add(file, headers):
    """Among those of its kind, and clang-format sorts them."""
    path = SOURCE / file
    lines = path.read_text().splitlines(keepends=True)
    for header in sorted(headers):
        c_like = "." in header
        same = [at for at, line in enumerate(lines)
                if re.match(r"#include <[^>]*\.h>" if c_like else r"#include <[^.>]+>", line)]
        if same:
            lines.insert(same[0], f"#include <{header}>\n")
            continue
        places = [at for at, line in enumerate(lines) if line.startswith("#include")] or \
            [at + 1 for at, line in enumerate(lines) if line.startswith("#pragma once")]
        first = places[0]
        pair = lines[first].startswith(f'#include "{file.with_suffix(".h")}"')
        angle = [at for at, line in enumerate(lines) if line.startswith("#include <")]
        if not c_like and angle:
            lines.insert(angle[-1] + 1, f"\n#include <{header}>\n")
        elif pair:
            lines.insert(first + 1, f"\n#include <{header}>\n")
        elif lines[first].startswith("#include"):
            lines.insert(first, f"#include <{header}>\n\n")
        else:
            lines.insert(first, f"\n#include <{header}>\n")
    path.write_text("".join(lines))
    subprocess.run(["clang-format", "-i", path], check=True)


files = subprocess.run(["git", "ls-files", "*.cc", "*.h"], cwd=SOURCE, check=True, capture_output=True,
                       text=True).stdout.split()
bad = 0
# Headers first: what they have, their .cc need not.
for file in sorted(map(pathlib.Path, files), key=lambda path: path.suffix != ".h"):
    found, unknown = missing(file)
    if found and "--fix" in sys.argv:
        add(file, found)
        found, unknown = missing(file)
    for header, name in sorted(found.items()):
        print(f"{file}: uses {name} without #include <{header}>")
    for name in sorted(unknown):
        print(f"{file}: std::{name} is not in the table of {pathlib.Path(__file__).name}")
    bad += len(found) + len(unknown)
sys.exit(bad != 0)
