"""A file system in memory that takes names for one that differ in case or normal form only, over /dev/fuse.

Run as `python folding_fs.py DIRECTORY [OPTION…]`, as root: it mounts itself there, says `ready`, and serves until it
is unmounted. Like those of macOS and Windows it keeps the spelling of whoever made a file; `nfd` lists names
decomposed, as HFS+ does; `nolinks` has no hard links, as FAT. Kernels seldom come with such a file system of their own.
"""

import ctypes
import errno
import os
import stat
import struct
import sys
import time
import unicodedata
from dataclasses import dataclass, field
from pathlib import Path

_HEADER = struct.Struct("<IIQQIIIHH")
_ANSWER = struct.Struct("<IiQ")
_LOOKUP, _FORGET, _GETATTR, _SETATTR, _MKDIR, _UNLINK, _RMDIR, _RENAME, _LINK = 1, 2, 3, 4, 9, 10, 11, 12, 13
_OPEN, _READ, _WRITE, _STATFS, _RELEASE, _FSYNC, _FLUSH, _INIT = 14, 15, 16, 17, 18, 20, 25, 26
_OPENDIR, _READDIR, _RELEASEDIR, _FSYNCDIR, _CREATE, _BATCH_FORGET, _RENAME2 = 27, 28, 29, 30, 35, 42, 45
_NOREPLACE = 1
_SILENT = {_FORGET, _BATCH_FORGET}
_NOTHING = {_RELEASE, _FSYNC, _FLUSH, _RELEASEDIR, _FSYNCDIR}


def folded(name: bytes) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFD", os.fsdecode(name)).casefold())


@dataclass(eq=False)
class Node:
    number: int
    mode: int
    data: bytearray = field(default_factory=bytearray)
    children: dict[str, tuple[bytes, "Node"]] = field(default_factory=dict)
    links: int = 1
    atime: int = field(default_factory=time.time_ns)
    mtime: int = field(default_factory=time.time_ns)


class Refused(Exception):
    def __init__(self, number: int) -> None:
        self.number = number


class FoldingFileSystem:
    """Answers the kernel's requests; `options` are those of the command line."""

    def __init__(self, options: set[str]) -> None:
        self._options = options
        self._nodes = {1: Node(1, stat.S_IFDIR | 0o755)}
        self._operations = {
            _LOOKUP: self._lookup,
            _GETATTR: lambda node, _: self._attributes_out(node),
            _SETATTR: self._set_attributes,
            _MKDIR: lambda node, body: self._make(node, body[8:-1], stat.S_IFDIR | _mode(body[:8])),
            _CREATE: self._create,
            _UNLINK: lambda node, body: self._remove(node, body[:-1]),
            _RMDIR: lambda node, body: self._remove(node, body[:-1], errno.ENOTEMPTY),
            _RENAME: lambda node, body: self._rename(node, body[:8], body[8:], 0),
            _RENAME2: lambda node, body: self._rename(node, body[:8], body[16:], struct.unpack_from("<I", body, 8)[0]),
            _LINK: self._link,
            _OPEN: lambda *_: struct.pack("<QII", 0, 0, 0),
            _OPENDIR: lambda *_: struct.pack("<QII", 0, 0, 0),
            _READ: self._read,
            _WRITE: self._write,
            _READDIR: self._list,
            _STATFS: lambda *_: struct.pack(
                "<5Q4I24x", 1 << 20, 1 << 20, 1 << 20, 1 << 20, 1 << 20, 4096, 255, 4096, 0
            ),
            _INIT: lambda *_: struct.pack("<4I2H2I2H8I", 7, 31, 1 << 16, 0, 8, 8, 1 << 16, 1, 0, 0, *[0] * 8),
        }

    def serve(self, device: int) -> None:
        while True:
            try:
                request = os.read(device, 1 << 18)
            except InterruptedError:
                continue
            except OSError:  # unmounted
                return
            _, operation, unique, number, *_ = _HEADER.unpack_from(request)
            if operation not in _SILENT:
                problem, answer = self._answer(operation, number, request[_HEADER.size :])
                os.write(device, _ANSWER.pack(_ANSWER.size + len(answer), -problem, unique) + answer)

    def _answer(self, operation: int, number: int, body: bytes) -> tuple[int, bytes]:
        if operation in _NOTHING:
            return 0, b""
        if operation not in self._operations:
            return errno.ENOSYS, b""
        try:
            return 0, self._operations[operation](self._nodes.get(number, self._nodes[1]), body)
        except Refused as refused:
            return refused.number, b""

    def _child(self, node: Node, name: bytes) -> Node:
        if folded(name) not in node.children:
            raise Refused(errno.ENOENT)
        return node.children[folded(name)][1]

    def _lookup(self, node: Node, body: bytes) -> bytes:
        return self._entry(self._child(node, body[:-1]))

    def _make(self, parent: Node, name: bytes, mode: int) -> bytes:
        node = Node(len(self._nodes) + 1, mode)
        self._nodes[node.number] = node
        self._name(parent, name, node)
        return self._entry(node)

    def _name(self, parent: Node, name: bytes, node: Node) -> None:
        if folded(name) in parent.children:
            raise Refused(errno.EEXIST)
        if "nfd" in self._options:
            name = os.fsencode(unicodedata.normalize("NFD", os.fsdecode(name)))
        parent.children[folded(name)] = (name, node)
        parent.mtime = time.time_ns()

    def _create(self, parent: Node, body: bytes) -> bytes:
        _, mode, umask, _ = struct.unpack_from("<4I", body)
        return self._make(parent, body[16:-1], stat.S_IFREG | mode & ~umask & 0o7777) + struct.pack("<QII", 0, 0, 0)

    def _remove(self, parent: Node, name: bytes, full: int = 0) -> bytes:
        node = self._child(parent, name)
        if full and node.children:
            raise Refused(full)
        node.links -= 1
        del parent.children[folded(name)]
        parent.mtime = time.time_ns()
        return b""

    def _rename(self, parent: Node, where: bytes, names: bytes, flags: int) -> bytes:
        if flags & ~_NOREPLACE:
            raise Refused(errno.EINVAL)
        old, new, _ = names.split(b"\0")
        target = self._nodes[struct.unpack("<Q", where)[0]]
        node, standing = self._child(parent, old), target.children.get(folded(new))
        if standing is not None and standing[1] is not node:
            if flags & _NOREPLACE:
                raise Refused(errno.EEXIST)
            self._remove(target, new)
        del parent.children[folded(old)]
        self._name(target, new, node)
        return b""

    def _link(self, parent: Node, body: bytes) -> bytes:
        if "nolinks" in self._options:
            raise Refused(errno.EPERM)
        node = self._nodes[struct.unpack_from("<Q", body)[0]]
        self._name(parent, body[8:-1], node)
        node.links += 1
        return self._entry(node)

    def _read(self, node: Node, body: bytes) -> bytes:
        _, offset, size = struct.unpack_from("<QQI", body)
        return bytes(node.data[offset : offset + size])

    def _write(self, node: Node, body: bytes) -> bytes:
        _, offset, size = struct.unpack_from("<QQI", body)
        node.data.extend(bytes(max(0, offset - len(node.data))))
        node.data[offset : offset + size] = body[40 : 40 + size]
        node.mtime = time.time_ns()
        return struct.pack("<II", size, 0)

    def _list(self, node: Node, body: bytes) -> bytes:
        _, offset, size = struct.unpack_from("<QQI", body)
        listed = b""
        entries = [(b".", node), (b"..", node), *node.children.values()]
        for at, (name, child) in enumerate(entries[offset:], offset + 1):
            entry = struct.pack("<QQII", child.number, at, len(name), stat.S_IFMT(child.mode) >> 12) + name
            entry += bytes(-len(entry) % 8)
            if len(listed) + len(entry) > size:
                break
            listed += entry
        return listed

    def _set_attributes(self, node: Node, body: bytes) -> bytes:
        valid, _, _, size, _, atime, mtime, _, atime_ns, mtime_ns, _, mode = struct.unpack_from("<IIQQQQQQIIII", body)
        if valid & 1:
            node.mode = stat.S_IFMT(node.mode) | mode & 0o7777
        if valid & 8:
            node.data = node.data[:size] + bytes(max(0, size - len(node.data)))
            node.mtime = time.time_ns()
        if valid & 16:
            node.atime = atime * 1_000_000_000 + atime_ns
        if valid & 32:
            node.mtime = mtime * 1_000_000_000 + mtime_ns
        return self._attributes_out(node)

    def _attributes(self, node: Node) -> bytes:
        times = [divmod(when, 1_000_000_000) for when in (node.atime, node.mtime, node.mtime)]
        size = len(node.data)
        seconds, rests = [each[0] for each in times], [each[1] for each in times]
        # The caller's own files: owner 0, as only root mounts this.
        return struct.pack(
            "<6Q10I", node.number, size, -(-size // 512), *seconds, *rests, node.mode, node.links, 0, 0, 0, 4096, 0
        )

    def _attributes_out(self, node: Node) -> bytes:
        return struct.pack("<QII", 0, 0, 0) + self._attributes(node)

    def _entry(self, node: Node) -> bytes:
        # Nothing may be cached: what a name leads to is asked each time.
        return struct.pack("<QQQQII", node.number, 0, 0, 0, 0, 0) + self._attributes(node)


def _mode(body: bytes) -> int:
    mode, umask = struct.unpack("<II", body)
    return mode & ~umask & 0o7777


def main(directory: Path, options: set[str]) -> None:
    device = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
    libc = ctypes.CDLL(None, use_errno=True)
    settings = f"fd={device},rootmode=40000,user_id=0,group_id=0".encode()
    if libc.mount(b"relevo-test", os.fsencode(directory), b"fuse", 0, settings):
        sys.exit(os.strerror(ctypes.get_errno()))
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    FoldingFileSystem(options).serve(device)


if __name__ == "__main__":
    main(Path(sys.argv[1]), set(sys.argv[2:]))
