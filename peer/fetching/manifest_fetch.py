"""Fetches a manifest from whoever has it; it proves itself against the content id, page by page."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from core.errors import Corrupt, InvalidInput, NotFound, NotPossible, RelevoError, Unreachable
from core.manifest import Manifest, Root, checked_root
from peer.fetching.lines import Line
from peer.links.racing import first_success
from relevo.v1.peer_relay_pb2 import GetManifestRequest, GetManifestResponse

# Called with a peer id and the reason when that holder is not to be asked any more: NotFound may pass, else it lies.
Drop = Callable[[str, RelevoError], None]


@dataclass(frozen=True, slots=True)
class ManifestTimes:
    """Seconds: for one page from one holder, and before a further holder is asked beside a silent one."""

    timeout: float = 10.0
    patience: float = 1.0


async def fetch_manifest(
    content_id: bytes, most: int, lines: Sequence[Line], times: ManifestTimes, drop: Drop
) -> Manifest:
    """Returns the manifest of a content of at most `most` bytes.

    Nothing is allocated by what a holder says before it is proven. Pages may come from different holders.

    Raises:
        NotPossible: the content is larger; all pages but the first were not asked for.
        Unreachable: no holder answers, or none that does not lie; later it may be another matter.
    """
    asking = _Asking(content_id, lines, times, drop)
    root, first_page = await asking.page(0, None)
    if root.layout.size > most:
        raise NotPossible(f"the content has {root.layout.size} bytes, and there is room for {most}; make room for it")
    digests = bytearray(first_page)
    for page in range(1, root.layout.page_count):
        digests += (await asking.page(page, root))[1]
    return Manifest(root.layout, bytes(digests))


class _Asking:
    """Asks for pages; who lies once, or lacks the content, is not asked for the next."""

    def __init__(self, content_id: bytes, lines: Sequence[Line], times: ManifestTimes, drop: Drop) -> None:
        self._content_id = content_id
        self._lines = list(lines)
        self._times = times
        self._drop = drop

    async def page(self, page: int, root: Root | None) -> tuple[Root, bytes]:
        attempts = [partial(self._ask, page, root, line) for line in self._lines]
        try:
            return await first_success(attempts, self._times.patience)
        except RelevoError as error:
            raise Unreachable(f"no holder gives the manifest ({error}); try again later") from error

    async def _ask(self, page: int, root: Root | None, line: Line) -> tuple[Root, bytes]:
        request = GetManifestRequest(content_id=self._content_id, page_index=page)
        try:
            while True:
                answer, way = await line.get_manifest(request, self._times.timeout)
                try:
                    return _checked(self._content_id, page, root, answer)
                except (Corrupt, InvalidInput):
                    if not line.lied(way):
                        raise
        except (Corrupt, NotFound, InvalidInput) as error:
            self._lines.remove(line)
            self._drop(line.contact.peer_id, error)
            raise


def _checked(content_id: bytes, page: int, root: Root | None, answer: GetManifestResponse) -> tuple[Root, bytes]:
    proven = root or checked_root(content_id, answer.size_bytes, answer.block_size_bytes, answer.page_digests)
    if proven.layout.page_count:
        proven.check_page(page, answer.block_digests)
    elif answer.block_digests:
        raise Corrupt("an empty content has no manifest pages")
    return proven, answer.block_digests
