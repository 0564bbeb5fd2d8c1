"""Reads small files whole, many in one go, and gives out nothing but the bytes of their content ids. Blocks."""

import os
from collections.abc import Iterable

from core.errors import Corrupt, RelevoError
from core.manifest import manifest_of
from peer.disk import rooted
from peer.disk.rooted import Stamp
from peer.library.holdings import Place


def read_whole(places: Iterable[tuple[bytes, Place]]) -> list[bytes | OSError | RelevoError]:
    """Returns for each content id and place the bytes of the file, or why they cannot be had."""
    found: list[bytes | OSError | RelevoError] = []
    for content_id, place in places:
        try:
            found.append(_read(content_id, place))
        except (OSError, RelevoError) as error:
            found.append(error)
    return found


def _read(content_id: bytes, place: Place) -> bytes:
    descriptor = rooted.open_file(place.root, place.disk)
    try:
        if Stamp.of(os.fstat(descriptor)) != place.stamp:
            raise Corrupt("the file is not the one that was hashed")
        data = os.pread(descriptor, place.stamp.size, 0)
    finally:
        os.close(descriptor)
    # A small file is hashed in less time than its manifest is looked up.
    if manifest_of(data).content_id != content_id:
        raise Corrupt("the file has other bytes than when it was hashed")
    return data
