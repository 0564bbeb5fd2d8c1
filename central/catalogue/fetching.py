"""Who is fetching what at this moment, and gives what it has of it already. Pure; kept in memory only.

Peers say so with every beat, so a central that has restarted knows again within one beat.
"""

from collections.abc import Collection
from random import Random


class Fetching:
    """The contents that live peers are fetching."""

    def __init__(self) -> None:
        self._by_peer: dict[str, frozenset[bytes]] = {}
        self._by_content: dict[bytes, set[str]] = {}

    def update(self, peer_id: str, content_ids: Collection[bytes]) -> None:
        """Notes what a peer is fetching now; none for one that has left."""
        before, now = self._by_peer.get(peer_id, frozenset()), frozenset(content_ids)
        if before == now:
            return
        for content_id in before - now:
            peers = self._by_content[content_id]
            peers.discard(peer_id)
            if not peers:
                del self._by_content[content_id]
        for content_id in now - before:
            self._by_content.setdefault(content_id, set()).add(peer_id)
        if now:
            self._by_peer[peer_id] = now
        else:
            self._by_peer.pop(peer_id, None)

    def some(self, content_id: bytes, most: int, random: Random) -> list[str]:
        """Returns the ids of at most `most` peers that are fetching a content, chosen and ordered by chance.

        Whoever takes up only the first ones so takes up others than everybody else does.
        """
        peers = sorted(self._by_content.get(content_id, ()))
        return random.sample(peers, min(most, len(peers)))
