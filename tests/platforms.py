"""Platforms that lack something, played by a child process from which it is taken before anything is imported."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from tests.children import ENVIRONMENT, python_path

__all__ = ["EXPECTED", "FILES", "NETWORK", "SYSTEMS", "without"]

_START: Final = '''
"""Python runs this when it starts, in the process and in those that it starts."""

import asyncio, errno, importlib, os, select, shutil, signal, socket, subprocess, sys, tempfile

class Gone:
    """An attribute that neither the class nor its instances have."""
    def __get__(self, instance, owner=None):
        raise AttributeError("taken away")

def refuse(*arguments, **options):
    raise NotImplementedError

def take_uvloop():
    sys.modules["uvloop"] = None

def take_modules():
    for name in ("fcntl", "resource", "pwd", "grp", "termios"):
        sys.modules[name] = None

def take_wheels():
    """Packages that are not required where they have no wheel."""
    for name in ("blake3", "fastcrc"):
        sys.modules[name] = None

def take_sendmsg():
    import asyncio.selector_events as events
    socket.socket.sendmsg = socket.socket.recvmsg = socket.socket.recvmsg_into = Gone()
    events._HAS_SENDMSG = False
    transport = events._SelectorSocketTransport
    transport.writelines = asyncio.transports.WriteTransport.writelines
    if hasattr(transport, "_write_send"):
        transport._write_ready = transport._write_send

def take_unix_sockets():
    """A pair of sockets is one of TCP then, as on Windows."""
    del socket.AF_UNIX
    def pair():
        with socket.create_server(("127.0.0.1", 0)) as server:
            near = socket.create_connection(server.getsockname())
            return near, server.accept()[0]
    socket.socketpair = pair

def take_loop_signals():
    loop = asyncio.SelectorEventLoop
    loop.add_signal_handler = loop.remove_signal_handler = refuse

def take_readers():
    """As Windows' proactor: nothing but the loop itself watches sockets."""
    loop = asyncio.SelectorEventLoop
    loop.add_reader = loop.add_writer = refuse

def take_proc():
    """Nothing below /proc can be looked at, opened or linked to."""
    def checked(call):
        def checking(path, *more, **options):
            if isinstance(path, str) and (path + "/").startswith("/proc/"):
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
            return call(path, *more, **options)
        return checking
    for name in ("open", "stat", "link", "listdir", "listxattr", "getxattr"):
        setattr(os, name, checked(getattr(os, name)))
    isdir = os.path.isdir
    os.path.isdir = lambda path: not str(path).startswith("/proc") and isdir(path)

def take_statvfs():
    usage = shutil.disk_usage("/")
    shutil.disk_usage = lambda path: usage
    del os.statvfs, os.fstatvfs

def remove_by_path():
    """`shutil.rmtree` uses what is taken here, and is not what is tested."""
    shutil._use_fd_functions = False

def take_directory_descriptors():
    """As on Windows: a directory cannot be opened, and no name is relative to a descriptor."""
    for name in ("O_DIRECTORY", "O_NOFOLLOW", "O_PATH", "O_TMPFILE"):
        delattr(os, name)
    os.supports_dir_fd.clear()
    os.supports_fd.clear()
    remove_by_path()
    def checked(call):
        def checking(path, *more, **options):
            for option in ("dir_fd", "src_dir_fd", "dst_dir_fd"):
                if options.get(option) is not None:
                    raise NotImplementedError(option)
            if call is opened and os.path.isdir(path):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
            if isinstance(path, int) and call in (listed, times):
                raise TypeError("a path, not a descriptor")
            return call(path, *more, **options)
        return checking
    opened, listed, times = os.open, os.listdir, os.utime
    for name in ("open", "stat", "lstat", "readlink", "unlink", "replace", "rename", "link", "listdir", "utime"):
        setattr(os, name, checked(getattr(os, name)))

def take(name):
    if f"take_{name}" in globals():
        globals()[f"take_{name}"]()
        return
    module, _, attribute = name.partition(".")
    if attribute == "O_NONBLOCK":
        remove_by_path()
    if attribute == "sched_getaffinity" and hasattr(os, "process_cpu_count"):
        os.process_cpu_count = os.cpu_count  # as Python has it where the call is missing
    if hasattr(importlib.import_module(module), attribute):
        delattr(importlib.import_module(module), attribute)

for name in os.environ["TAKEN"].split():
    take(name)
'''

_WINDOWS: Final = (
    "uvloop modules sendmsg loop_signals proc directory_descriptors select.poll select.epoll unix_sockets "
    "socket.TCP_INFO socket.TCP_CONGESTION os.fork os.register_at_fork os.posix_fallocate os.preadv os.pwritev "
    "os.pread os.pwrite os.readv os.writev os.fchmod os.fchown statvfs os.O_NONBLOCK os.O_NOCTTY "
    "os.O_CLOEXEC os.set_blocking os.getuid os.geteuid os.umask os.eventfd os.sched_getaffinity os.listxattr "
    "os.getxattr os.setxattr os.chown os.sendfile os.memfd_create signal.SIGHUP signal.SIGPIPE signal.pthread_kill "
    "mmap.MAP_PRIVATE mmap.MAP_ANONYMOUS mmap.MAP_NORESERVE mmap.MADV_DONTNEED mmap.MADV_HUGEPAGE"
)
_MACOS: Final = (
    "proc select.epoll socket.TCP_INFO socket.TCP_CONGESTION os.O_TMPFILE os.O_PATH os.posix_fallocate os.eventfd "
    "os.sched_getaffinity os.listxattr os.getxattr os.setxattr mmap.MAP_NORESERVE mmap.MADV_HUGEPAGE "
    "os.memfd_create"
)

SYSTEMS: Final = {"what macOS lacks": _MACOS, "what Windows lacks": _WINDOWS}
"""All that a system lacks at once."""
NETWORK: Final = {
    "uvloop": "uvloop",
    "TCP_MAXSEG": "socket.TCP_MAXSEG",
    "TCP_INFO": "socket.TCP_INFO socket.TCP_CONGESTION",
    "poll": "select.poll",
    "poll and epoll": "select.poll select.epoll",
    "sendmsg": "sendmsg",
    "AF_UNIX": "unix_sockets",
    "fork": "os.fork os.register_at_fork",
    "readers on the loop": "uvloop readers",
    "SIGHUP, SIGPIPE, pthread_kill": "signal.SIGHUP signal.SIGPIPE signal.pthread_kill",
    "set_blocking": "os.set_blocking",
    "eventfd, sched_getaffinity": "os.eventfd os.sched_getaffinity",
    **SYSTEMS,
}
"""What a platform may lack that connections need on Linux, and what is taken away to play it."""

FILES: Final = {
    "signals on the loop": "uvloop loop_signals",
    "fcntl, resource, pwd": "modules os.getuid os.geteuid",
    "fallocate, O_TMPFILE": "os.posix_fallocate os.O_TMPFILE",
    "O_PATH, extended attributes": "os.O_PATH os.listxattr os.getxattr os.setxattr",
    "O_NONBLOCK, O_NOCTTY, O_CLOEXEC": "os.O_NONBLOCK os.O_NOCTTY os.O_CLOEXEC",
    "preadv, pwritev": "os.preadv os.pwritev",
    "pread, pwrite": "os.preadv os.pwritev os.pread os.pwrite",
    "fchmod, fchown": "os.fchmod os.fchown",
    "constants of mmap": "mmap.MAP_NORESERVE mmap.MADV_DONTNEED mmap.MADV_HUGEPAGE",
    "private mappings": "mmap.MAP_PRIVATE mmap.MAP_ANONYMOUS",
    "/proc": "proc",
    "wheels of blake3 and fastcrc": "wheels",
    "descriptors of directories": "directory_descriptors",
    **SYSTEMS,
}
"""The same of the command and its file service."""

EXPECTED: Final = {
    "directory_descriptors": "os.open in os.supports_dir_fd",
    "loop_signals": "False",
    "modules": "False",
    "proc": "os.path.isdir('/proc')",
    "readers": "False",
    "sendmsg": "hasattr(socket.socket, 'sendmsg')",
    "unix_sockets": "hasattr(socket, 'AF_UNIX')",
    "statvfs": "hasattr(os, 'fstatvfs')",
    "uvloop": "sys.modules['uvloop']",
    "wheels": "sys.modules['blake3']",
}
"""Expressions that are false where the thing is gone; of a module's attribute, `hasattr`."""


def without(taken: str, directory: Path) -> dict[str, str]:
    """The environment of a child that has nothing of what `taken` lists; `directory` is the test's own."""
    (directory / "sitecustomize.py").write_text(_START)
    return {**ENVIRONMENT, "PYTHONPATH": python_path(directory), "TAKEN": taken, "PYTHONWARNINGS": "error"}
