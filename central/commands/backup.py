"""`relevo-central backup`: all that a central needs to go on elsewhere, in one file."""

from pathlib import Path

import click

from central.parameters import data_option


@click.command()
@data_option
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
def backup(data: Path, file: Path) -> None:
    r"""Write a copy of the data directory to FILE, a tar archive, while central serves or not.

    It holds the keys of the network: whoever has it can let anybody in. To restore it, unpack it into an empty
    directory and start central on that:

    \b
      mkdir -m 700 DIR && tar -xpf FILE -C DIR && relevo-central serve --data DIR
    """
    from central.backup import back_up  # noqa: PLC0415 - cryptography is slow to import

    back_up(data, file)
    click.echo(f"{file} holds the network's keys: keep it where only you can read it", err=True)
