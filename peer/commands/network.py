"""`relevo peers`, `relevo neighbour`: who else is there."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from peer.commands import document, show
from peer.commands.common import daemon_of, json_option, route_line, say

if TYPE_CHECKING:
    from relevo.v1.central_directory_pb2 import PeerListing


@click.command()
@json_option
@click.pass_obj
def peers(home: Path, as_json: bool) -> None:
    """List the live peers, the most recently joined first.

    STATE is `suspect` for one that central has heard nothing of for some seconds, and `only by others` for one that
    does not reach central, but others: its files are there all the same. It is `via NAME` for one whose
    calls to central the peer NAME carries.
    """
    with daemon_of(home) as daemon:
        listed = list(daemon.peers())
    if as_json:
        document.write({"peers": [document.fields_of(listing) for listing in listed]})
    else:
        say(peer_table(listed, time.time()))


def peer_table(listed: Sequence["PeerListing"], now: float) -> list[str]:
    """Returns the lines that list peers; `now` is in seconds since 1970."""
    from relevo.v1 import central_directory_pb2 as pb2  # noqa: PLC0415 - protobuf is slow to import

    ids = show.short_ids(listing.peer.peer_id for listing in listed)
    names = {listing.peer.peer_id: listing.peer.name for listing in listed}
    states = {pb2.PEER_STATE_SUSPECT: "suspect", pb2.PEER_STATE_REACHED: "only by others"}

    def neighbour(peer_id: str) -> str:
        return names.get(peer_id, peer_id[: show.SHORTEST_ID]) or "-"

    def state(listing: "PeerListing") -> str:
        carrier = neighbour(listing.carrier_peer_id) if listing.carrier_peer_id else "another"
        return states.get(listing.state, f"via {carrier}" if listing.carried else "live")

    return show.table(
        ("ID", "NAME", "ADDRESS", "STATE", ">FILES", ">FREE", ">JOINED", "PRIMARY", "BACKUP"),
        (
            (
                ids[listing.peer.peer_id],
                listing.peer.name,
                listing.peer.addresses[0] if listing.peer.addresses else "-",
                state(listing),
                f"{listing.file_count:,}",
                show.size(listing.free_bytes),
                show.age(listing.login_time.seconds, now),
                neighbour(listing.primary_peer_id),
                neighbour(listing.backup_peer_id),
            )
            for listing in listed
        ),
    )


@click.command()
@json_option
@click.pass_obj
def neighbour(home: Path, as_json: bool) -> None:
    """Show the peers that carry this one's requests.

    The last line says which way the answer itself came, and how long it took.
    """
    with daemon_of(home) as daemon:
        answer = daemon.neighbours()
    if as_json:
        document.write({**document.fields_of(answer.neighbours), "route": document.fields_of(answer.route)})
        return
    found = answer.neighbours
    roles = [(role, getattr(found, role)) for role in ("primary", "backup") if found.HasField(role)]
    ids = show.short_ids(peer.peer_id for _, peer in roles)
    rows = [(role, peer.name, ids[peer.peer_id], " ".join(peer.addresses) or "-") for role, peer in roles]
    if rows:
        say(show.table(("ROLE", "NAME", "ID", "ADDRESSES"), rows))
    else:
        say(["no neighbour: this peer is alone, and asks central itself"])
    say([f"asked {route_line(answer.route)}"])
