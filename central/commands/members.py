"""`relevo-central invite`, `peers`, `revoke`: who gets in, who is in, who is not any more."""

import json
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from central.commands.opened import address_of, network_of
from central.parameters import data_option, span
from core.addresses import MOST_ADDRESSES, split_address
from core.errors import InvalidInput, NotFound
from core.failures import Choose
from core.tables import short_ids, table

if TYPE_CHECKING:
    from central.network.register import Member

_YEAR = 365 * 86_400
# A shorter prefix of an id is more likely a slip than a choice.
SHORTEST_PREFIX = 4


def _dialled(ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> tuple[str, ...]:
    """Returns addresses that can be dialled, at most as many as a token may have."""
    try:
        for value in values:
            if split_address(_address(param, value))[1] == 0:
                raise click.BadParameter(f"{value} has port 0, which nobody can dial", ctx, param)
    except InvalidInput as error:
        raise click.BadParameter(str(error), ctx, param) from error
    if len(values) > MOST_ADDRESSES:
        raise click.BadParameter(f"a token names at most {MOST_ADDRESSES} addresses", ctx, param)
    return values


def _address(param: click.Parameter, value: str) -> str:
    """Returns the `host:port` in a value of `--address` or `--via`. Raises InvalidInput when there is none."""
    if param.name != "via":
        return value
    from core.checks import split_friend  # noqa: PLC0415 - slow to import, and `--help` does without

    return split_friend(value, "via")[1]


@click.command()
@data_option
@click.option(
    "--ttl", type=span(1, _YEAR), default="1h", show_default=True, metavar="SPAN", help="How long it lets peers in."
)
@click.option(
    "--uses", type=click.IntRange(1, 10_000), default=1, show_default=True, metavar="N", help="How many peers may join."
)
@click.option(
    "--address",
    multiple=True,
    metavar="HOST:PORT",
    callback=_dialled,
    help="Where newcomers find central; repeat for others.  [default: found from where central listens]",
)
@click.option(
    "--via",
    multiple=True,
    metavar="HOST:PORT",
    callback=_dialled,
    help="A peer with an entrance (relevo serve --entrance), through which newcomers join that do not reach central, "
    "also as PEER_ID@HOST:PORT; repeat for others.",
)
def invite(data: Path, ttl: float, uses: int, address: tuple[str, ...], via: tuple[str, ...]) -> None:
    """Print a token with which a peer joins: `relevo serve DIR --join TOKEN`.

    The token is a secret: whoever has it gets in, until it is used up or has expired.
    """
    from core.reachable import advertised  # noqa: PLC0415 - only this command looks for routes

    now = time.time()
    with network_of(data) as network:
        listening, port = address_of(network)
        shown = address or advertised(*split_address(listening), ())
        token = network.invite(now, uses=uses, ttl=ttl, addresses=shown, enrolment_port=port, via=via)
    click.echo(token.to_text())
    whom = "one peer" if uses == 1 else f"{uses} peers"
    ways = ", ".join(shown) + (f", or through {', '.join(via)}" if via else "")
    click.echo(f"It lets {whom} in until {_moment(now + ttl)}, by {ways}.", err=True)


@click.command()
@data_option
@click.option("--json", "as_json", is_flag=True, help="Write one JSON document to stdout.")
def peers(data: Path, as_json: bool) -> None:
    """List everybody who has joined, the earliest first.

    `live` is who was logged in when central last knew; `certificate until` is when the last one issued expires.
    """
    with network_of(data) as network:
        members = network.register.members()
        live = _live(network.data)
    if as_json:
        click.echo(json.dumps({"peers": [_fields(member, live) for member in members]}, indent=2, ensure_ascii=False))
        return
    ids = short_ids(member.peer_id for member in members)
    rows = (
        (
            ids[member.peer_id],
            member.name,
            _moment(member.joined),
            _moment(member.certificate_end),
            _state(member, live),
        )
        for member in members
    )
    click.echo("\n".join(table(("ID", "NAME", "JOINED", "CERTIFICATE UNTIL", "STATE"), rows)))


@click.command()
@data_option
@click.argument("peer")
def revoke(data: Path, peer: str) -> None:
    """Shut PEER out for good: its certificates do not count any more, and it gets no other.

    PEER is a name, an id, or at least four characters that begin an id.
    """
    now = time.time()
    with network_of(data) as network:
        member = chosen(network.register.members(), peer)
        network.revoke(member.peer_id, now)
    click.echo(
        f"revoked {member.name} ({member.peer_id}); a central that serves shuts it out within a second", err=True
    )


def chosen(members: Sequence["Member"], wanted: str) -> "Member":
    """Returns the member that `wanted` means: an id, a name that only one has, or the beginning of an id.

    Who is revoked already counts only when nobody else is meant.

    Raises:
        NotFound: nobody is meant.
        Choose: several are.
    """
    # A name never beats an id: anybody can be called like the beginning of another's.
    prefix = len(wanted) >= SHORTEST_PREFIX
    for meant in (
        [member for member in members if member.peer_id == wanted],
        [member for member in members if member.name == wanted or (prefix and member.peer_id.startswith(wanted))],
    ):
        found = [member for member in meant if member.revoked is None] or meant
        if len(found) == 1:
            return found[0]
        if found:
            lines = [f"{member.peer_id}  {member.name}" for member in found]
            raise Choose(f"{wanted} means several peers; give the id of one:", lines)
    raise NotFound(
        f"no peer of this network is called {wanted}, or has an id that begins so (four characters at least)"
    )


def _live(data: Path) -> frozenset[str]:
    """Returns who was logged in when central last knew."""
    from central.store import sqlite_members, sqlite_schema  # noqa: PLC0415 - sqlite3 is slow to import

    if not (data / sqlite_schema.FILE_NAME).exists():
        return frozenset()
    db = sqlite_schema.connect(data, reader=True)
    try:
        return frozenset(peer.peer_id for peer in sqlite_members.live_peers(db))
    finally:
        db.close()


def _state(member: "Member", live: frozenset[str]) -> str:
    if member.revoked is not None:
        return "revoked"
    return "live" if member.peer_id in live else "away"


def _fields(member: "Member", live: frozenset[str]) -> dict[str, Any]:
    return {
        "peer_id": member.peer_id,
        "name": member.name,
        "join_time": _stamp(member.joined),
        "certificate_end": _stamp(member.certificate_end),
        "revoke_time": None if member.revoked is None else _stamp(member.revoked),
        "state": _state(member, live),
    }


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds).astimezone().strftime("%Y-%m-%d %H:%M:%S %Z")


def _stamp(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
