"""What is left to publish: where central may not have what the library has."""

from peer.directory.differences import Batch, Published, differences
from peer.directory.refusals import Refusals
from peer.library import Library
from peer.library.holdings import Touched


class Backlog:
    """Keeps in mind which paths and contents are to be compared, so that one new file costs no look at all others."""

    def __init__(self, library: Library, refusals: Refusals) -> None:
        self._library = library
        self._refusals = refusals
        self._touched = Touched()
        self._everything = True

    def doubt_everything(self) -> None:
        """Has all of the library compared with what central holds."""
        self._everything = True

    def batches(self, published: Published, confirm: set[bytes]) -> list[Batch]:
        """Returns what central lacks, where it holds what `published` says.

        It is compared again at the next call: what central has taken by then does not differ any more.

        Args:
            published: what central holds.
            confirm: contents to name again, stored or not.
        """
        library, touched = self._library, self._library.take_touched()
        if self._everything:
            self._everything = False
            paths, contents = {*library.files, *published.files}, {*library.stored, *published.stored}
        else:
            paths, contents = touched.paths | self._touched.paths, touched.contents | self._touched.contents
        files = {path: self._refusals.offered(path, library.file(path)) for path in paths}
        stored = {content: library.stores(content) for content in contents | confirm}
        batches = list(differences(published, files, stored, confirm))
        self._touched = Touched()
        for batch in batches:
            self._touched.paths.update(batch.removed, (file.path for file in batch.added))
            self._touched.contents.update(batch.stored, batch.dropped)
        return batches
