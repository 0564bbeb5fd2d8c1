"""What the peer holds and where: from content ids to places, and from places to what is published. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from peer.disk.rooted import Stamp

_PATH_TAKEN = "the shared directory has another file under the path {!r}, so this download is not offered"
_PATH_TAKEN_TWICE = "another download is offered under the path {!r}, so this one is not"


class PlaceKind(IntEnum):
    """Why a file is here; also the order in which places are read."""

    SHARED = 0
    FETCHED = 1
    STORED = 2


class Place(NamedTuple):
    """A file with known content: the root that it lies beneath, its path there as on disk, and how it looked."""

    kind: PlaceKind
    root: Path
    disk: str
    stamp: Stamp

    @property
    def location(self) -> Path:
        """The absolute path."""
        return self.root / self.disk


class LibraryFile(NamedTuple):
    """A file that is offered under a name.

    Attributes:
        path: catalogue path (NFC).
        content_id: 32 bytes.
        size: bytes.
        modify_time: seconds since 1970.
        executable: whether anybody may execute it.
    """

    path: str
    content_id: bytes
    size: int
    modify_time: float
    executable: bool


@dataclass(slots=True)
class Totals:
    """How much there is: published files and copies stored for others, and the bytes of each."""

    files: int = 0
    file_bytes: int = 0
    copies: int = 0
    copy_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Touched:
    """Where something may have changed: catalogue paths, and content ids of copies stored for others."""

    paths: set[str] = field(default_factory=set)
    contents: set[bytes] = field(default_factory=set)


class Holdings:
    """All places by content, and the three ways to get at them: catalogue path, location, content id.

    Attributes:
        version: grows whenever `files` or `stored` may have changed.
        totals: of `files` and `stored`.
    """

    def __init__(self) -> None:
        self.version = 0
        self.totals = Totals()
        self._files: dict[str, LibraryFile] = {}
        self._shared: dict[str, tuple[Place, LibraryFile]] = {}
        self._fetched: dict[Path, tuple[Place, LibraryFile]] = {}
        self._fetched_at: dict[str, dict[Path, LibraryFile]] = {}  # by catalogue path, the first to come first
        self._stored: dict[bytes, Place] = {}
        self._places: dict[bytes, dict[Place, None]] = {}
        self._touched = Touched()
        self._view: tuple[int, Mapping[str, LibraryFile]] | None = None

    @property
    def files(self) -> Mapping[str, LibraryFile]:
        """What is published by catalogue path: a snapshot. Shared files go before downloads elsewhere."""
        if self._view is None or self._view[0] != self.version:
            self._view = (self.version, MappingProxyType(self._files.copy()))
        return self._view[1]

    def file(self, path: str) -> LibraryFile | None:
        """Returns what is published at a catalogue path: what `files` has there, without the cost of a snapshot."""
        return self._files.get(path)

    def take_touched(self) -> Touched:
        """Returns where `files` and `stored` may have changed since this was last called; for one caller."""
        touched, self._touched = self._touched, Touched()
        return touched

    @property
    def conflicts(self) -> Mapping[str, str]:
        """Location of each download that is not published, to the reason in one sentence: a snapshot."""
        conflicts: dict[str, str] = {}
        for location, (_, file) in self._fetched.items():
            published = self.file(file.path)
            if published is not None and published.content_id != file.content_id:
                reason = _PATH_TAKEN if file.path in self._shared else _PATH_TAKEN_TWICE
                conflicts[str(location)] = reason.format(file.path)
        return MappingProxyType(conflicts)

    @property
    def stored(self) -> Mapping[bytes, int]:
        """Copies kept for others, content id to size in bytes: a snapshot."""
        return MappingProxyType({content_id: place.stamp.size for content_id, place in self._stored.items()})

    def stores(self, content_id: bytes) -> bool:
        """Tells whether a copy is kept for others: what `stored` says, without the cost of a snapshot."""
        return content_id in self._stored

    def place(self, content_id: bytes) -> Place | None:
        """Returns where a content is to be read: of the first kind that there is; None when it is not held."""
        places = self._places.get(content_id)
        if places is None:
            return None
        first = next(iter(places))
        return first if first.kind is PlaceKind.SHARED else min(places, key=lambda each: each.kind)

    def shared(self, path: str) -> tuple[Place, LibraryFile] | None:
        """Returns the file of the shared directory at a catalogue path."""
        return self._shared.get(path)

    def fetched(self, location: Path) -> tuple[Place, LibraryFile] | None:
        """Returns the download at a location outside the shared directory."""
        return self._fetched.get(location)

    def put_shared(self, place: Place, file: LibraryFile) -> None:
        """Records a file of the shared directory in the place of what was at its path."""
        if self._shared.get(file.path) != (place, file):
            self.drop_shared(file.path)
            self._shared[file.path] = (place, file)
            self._publish(file.path)
            self._add(file.content_id, place)

    def drop_shared(self, path: str) -> None:
        """Forgets the file of the shared directory at a catalogue path."""
        known = self._shared.pop(path, None)
        if known is not None:
            self._publish(path)
            self._remove(known[1].content_id, known[0])

    def put_fetched(self, place: Place, file: LibraryFile) -> None:
        """Records a download outside the shared directory in the place of what was at its location."""
        if self._fetched.get(place.location) != (place, file):
            self.drop_fetched(place.location)
            self._fetched[place.location] = (place, file)
            self._fetched_at.setdefault(file.path, {})[place.location] = file
            self._publish(file.path)
            self._add(file.content_id, place)

    def drop_fetched(self, location: Path) -> None:
        """Forgets the download at a location."""
        known = self._fetched.pop(location, None)
        if known is not None:
            place, file = known
            elsewhere = self._fetched_at[file.path]
            del elsewhere[location]
            if not elsewhere:
                del self._fetched_at[file.path]
            self._publish(file.path)
            self._remove(file.content_id, place)

    def put_stored(self, content_id: bytes, place: Place) -> None:
        """Records a copy kept for others."""
        if self._stored.get(content_id) != place:
            self.drop_stored(content_id)
            self._stored[content_id] = place
            self.totals.copies += 1
            self.totals.copy_bytes += place.stamp.size
            self._touched.contents.add(content_id)
            self._add(content_id, place)

    def drop_stored(self, content_id: bytes) -> None:
        """Forgets a copy kept for others."""
        place = self._stored.pop(content_id, None)
        if place is not None:
            self.totals.copies -= 1
            self.totals.copy_bytes -= place.stamp.size
            self._touched.contents.add(content_id)
            self._remove(content_id, place)

    def _publish(self, path: str) -> None:
        """Brings what is published at a path up to date."""
        before = self._files.pop(path, None)
        if before is not None:
            self.totals.files -= 1
            self.totals.file_bytes -= before.size
        shared = self._shared.get(path)
        file = shared[1] if shared else next(iter(self._fetched_at.get(path, {}).values()), None)
        if file is not None:
            self._files[path] = file
            self.totals.files += 1
            self.totals.file_bytes += file.size
        self._touched.paths.add(path)

    def _add(self, content_id: bytes, place: Place) -> None:
        self._places.setdefault(content_id, {})[place] = None
        self.version += 1

    def _remove(self, content_id: bytes, place: Place) -> None:
        places = self._places[content_id]
        del places[place]
        if not places:
            del self._places[content_id]
        self.version += 1
