"""Downloads of one file by many peers at once, over slow links: what its first holder has to send of it."""

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from bench.cases import least_time
from bench.programs import Failed, Programs, until
from bench.scenery import MIB, Peer, listed, random_name, same, seconds
from peer.commands.client import Daemon
from peer.commands.show import rate, span
from peer.links.rate_limit import BURST

SIZE = 32 * MIB
# Bytes a second that each peer sends at most: little for one machine that is all of them, so that links are scarce.
LIMIT = 8 * MIB
# Copies that the first holder may send; without help it would be one for each download.
MOST_COPIES = 2.0


@dataclass(frozen=True)
class Crowd:
    """What the downloads came to.

    Attributes:
        first: the name of the first holder.
        given: for each downloader by name, the bytes that came from the first holder, and from the others.
        copies: of the file that the first holder sent.
        seconds: from when the first daemon took its download to when the last file was in place.
    """

    first: str
    given: dict[str, tuple[int, int]]
    copies: float
    seconds: float

    def told(self) -> Iterator[str]:
        """Yields what happened, in lines for people."""
        first, count = self.first, len(self.given)
        yield f"{listed(list(self.given))}$ relevo get {random_name(SIZE)}; everybody sends {rate(LIMIT)} at most"
        shares = (f"{name} {own / MIB:.1f} + {rest / MIB:.1f}" for name, (own, rest) in self.given.items())
        yield f"MiB from {first} + from others: {' · '.join(shares)}"
        yield f"{first} sent {self.copies:.2f} copies for {count} downloads; same bytes everywhere"
        # What a limit has saved up goes through at once.
        least = span(least_time(SIZE, LIMIT, [LIMIT] * count, [math.inf] * count) - BURST)
        alone = span(count * SIZE / LIMIT - BURST)
        yield f"all have it after {span(self.seconds)}; the least possible is {least}; {first} alone would take {alone}"


def crowded_download(programs: Programs, first: Peer, others: Sequence[Peer]) -> Crowd:
    """Downloads the random file of `SIZE` bytes that `first` shares with `relevo get` on all `others` at once.

    Nobody sends more than `LIMIT` meanwhile.

    Raises:
        Failed: a download failed, its bytes are not right, or the first holder had to send too many copies.
    """
    name = random_name(SIZE)
    _set_limits([first, *others], LIMIT)
    with Daemon(first.home) as holder:
        until(f"{name} in the catalogue", lambda: [1 for one in holder.files(name) if one.holder_count == 1])
        sent_before = holder.status().sent_bytes
        commands = [
            programs.begin("peer", "--home", peer.home, "get", name, "--to", peer.fetched, "--quiet", "--json")
            for peer in others
        ]
        documents = [json.loads(programs.finish(command))["files"][0] for command in commands]
        copies = (holder.status().sent_bytes - sent_before) / SIZE
    _set_limits([first, *others], 0)
    for peer in others:
        same(first.shared / name, peer.fetched / name)
    given = {peer.name: _given(one, first.name) for peer, one in zip(others, documents, strict=True)}
    if copies > MOST_COPIES:
        raise Failed(f"{first.name} sent {copies:.2f} copies for {len(others)} downloads, which do not help each other")
    began, ended = (sorted(seconds(one[moment]) for one in documents) for moment in ("start_time", "end_time"))
    return Crowd(first.name, given, copies, ended[-1] - began[0])


def _set_limits(peers: Sequence[Peer], limit: int) -> None:
    for peer in peers:
        with Daemon(peer.home) as daemon:
            daemon.set_rate_limits(upload=limit)


def _given(document: dict[str, Any], first: str) -> tuple[int, int]:
    """Returns the bytes of a download that came from the first holder, and from the others."""
    by_name = {source["peer"]["name"]: source["bytes"] for source in document["sources"]}
    own = by_name.pop(first, 0)
    rest = sum(by_name.values())
    if own + rest != document["size_bytes"]:
        raise Failed(f"{document['size_bytes']} bytes, of which {own} came from {first} and {rest} from others")
    return own, rest
