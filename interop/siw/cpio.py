"""A deterministic writer of the cpio "newc" format, which is what the kernel unpacks as its first root."""

import stat
from dataclasses import dataclass, field
from pathlib import Path

_MAGIC = b"070701"
_END = "TRAILER!!!"


@dataclass(frozen=True)
class Entry:
    """One file: its mode with the type bits, its content (the target, for a link), its device number."""

    mode: int
    data: bytes = b""
    device: tuple[int, int] = (0, 0)


@dataclass
class Archive:
    """Files by path. The same content gives the same octets: sorted names, no times, no owners, inodes in order."""

    entries: dict[str, Entry] = field(default_factory=dict)

    def add(self, path: str, entry: Entry) -> None:
        """Put `entry` at `path`, with the directories above it; a later entry replaces an earlier one."""
        path = path.strip("/")
        above = path.rpartition("/")[0]
        if above and above not in self.entries:
            self.directory(above)
        self.entries[path] = entry

    def directory(self, path: str, mode: int = 0o755) -> None:
        """Add a directory."""
        self.add(path, Entry(stat.S_IFDIR | mode))

    def file(self, path: str, data: bytes, mode: int = 0o644) -> None:
        """Add a regular file."""
        self.add(path, Entry(stat.S_IFREG | mode, data))

    def copy(self, source: Path, path: str) -> None:
        """Add the host's file `source` (links followed) at `path`, executable if it was."""
        self.file(path, source.read_bytes(), 0o755 if source.stat().st_mode & 0o111 else 0o644)

    def link(self, path: str, target: str) -> None:
        """Add a symbolic link."""
        self.add(path, Entry(stat.S_IFLNK | 0o777, target.encode()))

    def character_device(self, path: str, major: int, minor: int) -> None:
        """Add a character device."""
        self.add(path, Entry(stat.S_IFCHR | 0o600, device=(major, minor)))

    def encode(self) -> bytes:
        """The archive as octets."""
        records = [_record(inode, name, self.entries[name]) for inode, name in enumerate(sorted(self.entries), 1)]
        return b"".join([*records, _record(0, _END, Entry(0))])


def _record(inode: int, name: str, entry: Entry) -> bytes:
    links = 2 if stat.S_ISDIR(entry.mode) else 1
    raw = name.encode() + b"\0"
    fields = (inode, entry.mode, 0, 0, links, 0, len(entry.data), 0, 0, *entry.device, len(raw), 0)
    head = _MAGIC + b"".join(b"%08X" % value for value in fields) + raw
    return _padded(head) + _padded(entry.data)


def _padded(data: bytes) -> bytes:
    return data + b"\0" * (-len(data) % 4)
