"""Values that the command line understands: sizes, addresses, hosts. Each reader is a click type."""

import ipaddress
import re

import click

from core.addresses import join_address, split_address
from core.errors import InvalidInput

_SIZE = re.compile(r"(?P<number>\d+(?:\.\d+)?)\s*(?P<unit>(?:[kmgt]i?)?b?)", re.IGNORECASE)
# What a message can carry as a number of bytes, and more than there is anywhere.
_MOST = (1 << 63) - 1
# Bytes a second; pieces of blocks have no fewer bytes.
_LEAST_RATE = 1024
_POWERS = {"k": 1, "m": 2, "g": 3, "t": 4}


def size(text: str | int) -> int:
    """Returns bytes for `10GiB`, `1.5 TiB`, `500MB` or `4096`: GiB and G count by 1,024, GB by 1,000.

    Raises:
        click.BadParameter: it is none of these, or 8 EiB and more.
    """
    match = _SIZE.fullmatch(str(text).strip())
    if match is None:
        raise click.BadParameter(f"{text!r} is not a size such as 10GiB, 500MB or 4096")
    unit = match["unit"].lower()
    base = 1000 if unit.endswith("b") and "i" not in unit else 1024
    scale: int = base ** _POWERS.get(unit[:1], 0)
    number = match["number"]
    try:
        found = int(float(number) * scale) if "." in number else int(number) * scale
    except (ValueError, OverflowError):  # thousands of digits
        found = _MOST + 1
    if found > _MOST:
        raise click.BadParameter("that is more than any disk holds")
    return found


def rate(text: str | int) -> int:
    """Returns bytes a second for `2MiB/s`, `500k` or `1.5 MB/s`; 0 for `none` and 0, which stand for no limit.

    Raises:
        click.BadParameter: it is none of these, or less than 1 KiB a second, which cannot be kept.
    """
    plain = str(text).strip().lower()
    if plain in {"", "none", "0"}:
        return 0
    try:
        found = size(plain.removesuffix("/s").strip())
    except click.BadParameter as error:
        raise click.BadParameter(f"{text!r} is not a rate such as 2MiB/s, 500k or none") from error
    if found < _LEAST_RATE:
        raise click.BadParameter(f"{text!r} is too slow: a limit is at least 1KiB/s, and `none` is no limit")
    return found


def address(text: str) -> str:
    """Returns `HOST:PORT` of something to call, as it was written; an IPv6 host stands in brackets.

    Raises:
        click.BadParameter: it is not of that form, or has port 0.
    """
    if _port(text) == 0:
        raise click.BadParameter(f"{text!r} needs the port that is listened on")
    return text


def friend(text: str) -> str:
    """Returns `PEER_ID@HOST:PORT`, or `HOST:PORT`, of a peer to call, as it was written.

    Raises:
        click.BadParameter: it is neither, or the id is none.
    """
    from core.identity import PEER_ID  # noqa: PLC0415 - slow to import, and `--help` does without

    peer_id, at, where = text.rpartition("@")
    address(where)
    if at and not PEER_ID.fullmatch(peer_id):
        raise click.BadParameter(f"{peer_id!r} is not a peer id: `relevo status` there shows its 52 characters")
    return text


def listen_address(text: str) -> str:
    """Returns `HOST:PORT` to listen on; with port 0 the system chooses one.

    Raises:
        click.BadParameter: it is not of that form.
    """
    _port(text)
    return text


def entrance(text: str) -> str:
    """Returns the `HOST:PORT` in `HOST` or `HOST:PORT`; without a port that is 0; empty stays empty.

    Raises:
        click.BadParameter: it is neither.
    """
    try:
        bare = host(text)
    except click.BadParameter:
        return listen_address(text)
    return bare and join_address(bare, 0)


def _port(text: str) -> int:
    try:
        return split_address(text)[1]
    except InvalidInput as error:
        raise click.BadParameter(str(error).removeprefix("address: ")) from error


def host(text: str) -> str:
    """Returns a host name or IP address, an IPv6 address without its brackets; empty stays empty.

    Raises:
        click.BadParameter: it is neither, or carries a port.
    """
    bare = text.removeprefix("[").removesuffix("]")
    try:
        if ":" in bare:
            ipaddress.IPv6Address(bare)
        return bare and split_address(join_address(bare, 0))[0]
    except (InvalidInput, ValueError) as error:
        raise click.BadParameter(f"{text!r} is not a host name or IP address (the port is added by itself)") from error
