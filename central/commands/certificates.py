"""`relevo-central rotate-ca`, `admin-cert`: another authority, and certificates for operators."""

import itertools
import os
import shlex
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from central.commands.opened import address_of, network_of
from central.parameters import data_option, span
from core.addresses import split_address
from core.errors import AlreadyExists, InvalidInput

if TYPE_CHECKING:
    from core.tls import Material

# It cannot be revoked, and an older authority counts until the last of them has expired.
_LONGEST = 30 * 86_400


@click.command("rotate-ca")
@data_option
def rotate_ca(data: Path) -> None:
    """Have another authority issue certificates from now on.

    Peers hear of it with their next heartbeat and renew by themselves. What the old one has issued counts until it
    expires, so nobody is cut off; its key is destroyed.
    """
    with network_of(data) as network:
        generation = network.authorities.rotate(time.time())
    click.echo(
        f"authority {generation} issues from now on; what older ones have issued counts until it expires", err=True
    )


@click.command("admin-cert")
@data_option
@click.option("--label", default="operator", show_default=True, help="What to call it: a-z, 0-9 and -, at most 63.")
@click.option(
    "--life", type=span(1, _LONGEST), default="24h", show_default=True, metavar="SPAN", help="How long it counts."
)
@click.option(
    "--to",
    "directory",
    type=click.Path(file_okay=False, path_type=Path),
    default=".",
    metavar="DIR",
    help="Where to write the files.  [default: the current directory]",
)
def admin_cert(data: Path, label: str, life: float, directory: Path) -> None:
    """Make a certificate with which an operator looks at central and peers by grpcurl.

    Writes ca.pem, LABEL.pem and LABEL-key.pem, and prints commands to try. It reads everything that members can read,
    and changes nothing. It cannot be revoked: give it a short life.
    """
    from core.certificates import ADMIN_LABEL, central_name  # noqa: PLC0415 - cryptography is slow to import
    from core.identity import Identity  # noqa: PLC0415
    from core.reachable import advertised  # noqa: PLC0415

    if not ADMIN_LABEL.fullmatch(label):
        raise InvalidInput("label", f"{label!r} is not 1 to 63 of a-z, 0-9 and -")
    identity = Identity.generate()
    with network_of(data) as network:
        listening, _ = address_of(network)
        material = network.admin_material(identity, label, time.time(), life)
        name = central_name(network.authorities.network_id())
    paths = _write(directory, label, material)
    address = advertised(*split_address(listening), ())[0]
    for command in ("list", "relevo.v1.CentralDirectory/ListPeers"):
        click.echo(_grpcurl(paths, name, address, command))


def _write(directory: Path, label: str, material: "Material") -> tuple[Path, Path, Path]:
    """Writes the three files and returns their paths; replaces nothing, and leaves none behind when one is in the way.

    Raises:
        AlreadyExists: one is there already; an equal ca.pem may be.
    """
    authorities, chain, key = (directory / name for name in ("ca.pem", f"{label}.pem", f"{label}-key.pem"))
    contents = {key: material.key, chain: material.chain}
    if not (authorities.is_file() and authorities.read_bytes() == material.authorities):
        contents[authorities] = material.authorities
    for path in contents:
        if os.path.lexists(path):
            raise AlreadyExists(f"{path} is there already and stays as it is; give another --label or --to")
    directory.mkdir(parents=True, exist_ok=True)
    for path, content in contents.items():
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as file:
            file.write(content)
    return authorities, chain, key


def _grpcurl(paths: tuple[Path, Path, Path], name: str, address: str, command: str) -> str:
    options = zip(("-cacert", "-cert", "-key"), map(str, paths), strict=True)
    return shlex.join(["grpcurl", *itertools.chain(*options), "-authority", name, address, command])
