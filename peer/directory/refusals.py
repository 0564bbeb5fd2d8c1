"""What central would not take of this peer: entries that break a rule, and whatever is more than one peer may have."""

from collections.abc import Mapping

from core.errors import NotPossible, OverQuota, RelevoError
from core.names import printable
from peer.directory.differences import Batch, Published
from peer.library import LibraryFile


class Refusals:
    """Remembers refusals, so that one refused file holds nothing else up and is not offered again and again.

    Attributes:
        files: what central may have room for later: further files.
        copies: the same for further copies stored for others.
    """

    def __init__(self) -> None:
        self.files: OverQuota | None = None
        self.copies: OverQuota | None = None
        self._aside: dict[str, tuple[LibraryFile, str]] = {}

    @property
    def over(self) -> OverQuota | None:
        """What this peer has as much of as one may; None when there is room for everything, as far as is known."""
        return self.files or self.copies

    def put_aside(self, file: LibraryFile, reason: str) -> None:
        """Notes an entry that breaks a rule of central's: it is not published until it changes."""
        self._aside[file.path] = (file, reason)

    def forget(self) -> None:
        """Forgets everything, so that all of it is offered again."""
        self.files = self.copies = None
        self._aside.clear()

    @property
    def skipped(self) -> Mapping[str, str]:
        """Printable path of each entry that is put aside, to the reason in one sentence."""
        return {
            printable(path): f"central does not take it into the catalogue: {reason}"
            for path, (_, reason) in self._aside.items()
        }

    def offered(self, path: str, file: LibraryFile | None) -> LibraryFile | None:
        """Returns what is offered at a path: `file`, the library's, unless that is put aside.

        An entry that has changed or gone is put aside no more.
        """
        if path in self._aside:
            if self._aside[path][0] == file:
                return None
            del self._aside[path]
        return file

    def hold(self, batch: Batch, published: Published) -> bool:
        """Tells whether a batch has to wait for room: it would give central more, and central has said no."""
        if batch.stored:
            return self.copies is not None
        return self.files is not None and any(file.path not in published.files for file in batch.added)

    def of(self, path: str, published: Published) -> RelevoError | None:
        """Returns why a file that is shared is not in the catalogue; None when nothing stands in its way."""
        if path in self._aside:
            reason = self._aside[path][1]
            return NotPossible(
                f"{printable(path)} is shared, but central does not take it into the catalogue: {reason}"
            )
        if self.files is not None and path not in published.files:
            text = f"{printable(path)} is shared, but not in the catalogue yet: {self.files}"
            return OverQuota(text, self.files.retry_after, self.files.metadata)
        return None
