"""Who is fetching what at this moment, and gives what it has of it already. Pure; kept in memory only.

Peers say so with every beat, so a central that has restarted knows again within one beat.
"""

from collections.abc import Collection
from random import Random


class _Peers:
    """The peers that are fetching one content; to draw some of them takes no longer, however many they are."""

    def __init__(self) -> None:
        self._ids: list[str] = []
        self._places: dict[str, int] = {}

    def __bool__(self) -> bool:
        return bool(self._ids)

    def add(self, peer_id: str) -> None:
        """Takes up one that is not there."""
        self._places[peer_id] = len(self._ids)
        self._ids.append(peer_id)

    def discard(self, peer_id: str) -> None:
        """Forgets one that is there; the last one takes its place."""
        place, last = self._places.pop(peer_id), self._ids.pop()
        if last != peer_id:
            self._ids[place] = last
            self._places[last] = place

    def some(self, most: int, random: Random) -> list[str]:
        """Returns at most `most` of them, drawn and ordered by chance."""
        return random.sample(self._ids, min(most, len(self._ids)))


class Fetching:
    """The contents that live peers are fetching."""

    def __init__(self) -> None:
        self._by_peer: dict[str, frozenset[bytes]] = {}
        self._by_content: dict[bytes, _Peers] = {}

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
            self._by_content.setdefault(content_id, _Peers()).add(peer_id)
        if now:
            self._by_peer[peer_id] = now
        else:
            self._by_peer.pop(peer_id, None)

    def some(self, content_id: bytes, most: int, random: Random) -> list[str]:
        """Returns the ids of at most `most` peers that are fetching a content, chosen and ordered by chance.

        Whoever takes up only the first ones so takes up others than everybody else does.
        """
        peers = self._by_content.get(content_id)
        return peers.some(most, random) if peers else []
