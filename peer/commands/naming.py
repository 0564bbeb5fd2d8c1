"""What the names mean that a user types: one file, everything beneath a directory, or what a pattern finds."""

from collections.abc import Callable, Iterable, Sequence

import click

from core.errors import InvalidInput, NotFound, RelevoError, Unreachable
from core.failures import Choose, Failure
from core.names import check_path, normal
from peer.commands import show
from peer.commands.client import Daemon
from peer.sets.selections import Selection, is_pattern
from relevo.v1.content_pb2 import CatalogueFile


def understood(
    daemon: Daemon, names: Sequence[str], failed: Callable[[Failure], None]
) -> tuple[list[CatalogueFile], list[Selection]]:
    """Returns the files, and the sets of files, that `names` mean; `failed` is told of those that mean nothing.

    Raises:
        Unreachable: nobody can be asked.
    """
    files: list[CatalogueFile] = []
    selections: dict[Selection, None] = {}
    for name in names:
        try:
            meant = meaning(daemon, normal(name))
        except Unreachable:
            raise
        except (RelevoError, click.ClickException) as failure:
            failed(failure)
            continue
        if isinstance(meant, Selection):
            selections[meant] = None
        else:
            files.append(meant)
    return files, list(selections)


def meaning(daemon: Daemon, name: str) -> CatalogueFile | Selection:
    """Returns what `name`, in NFC, means: a file of that name before a pattern, and that before a directory.

    Raises:
        NotFound: nothing has that name.
        Choose: several files have it, with different bytes.
        InvalidInput: it names a directory that cannot be.
        Unreachable: nobody can be asked.
    """
    if name.endswith("/"):
        return Selection(directory=check_path(name.rstrip("/"), "NAME"))
    candidates = list(daemon.candidates(name))
    if candidates:
        return chosen(name, candidates)
    if is_pattern(name):
        return Selection(pattern=name)
    if _is_directory(daemon, name):
        return Selection(directory=name)
    return chosen(name, [])


def _is_directory(daemon: Daemon, name: str) -> bool:
    try:
        return daemon.has_files_beneath(check_path(name))
    except InvalidInput:
        return False


def resolve(daemon: Daemon, name: str, command: str = "get") -> CatalogueFile:
    """Returns the one file that `name` means: a path, a last part, or at least four digits of a content id.

    `command` is what to use with another name when there are several.

    Raises:
        NotFound: there is none.
        Choose: there are several, with different bytes.
        Unreachable: nobody can be asked.
    """
    return chosen(name, daemon.candidates(normal(name)), command)


def chosen(name: str, candidates: Iterable[CatalogueFile], command: str = "get") -> CatalogueFile:
    """Returns the one of `candidates` that `name` means; the same bytes under several paths are one file.

    Raises:
        NotFound: there is none.
        Choose: there are several, with different bytes.
    """
    found = list(candidates)
    if not found:
        raise NotFound(f"no live peer offers {name!r}; `relevo ls` shows what there is")
    contents = {file.content_id.hex() for file in found}
    if len(contents) == 1:
        return found[0]
    ids = show.short_ids(contents)
    rows = [
        (ids[file.content_id.hex()], show.size(file.size_bytes), show.count(file.holder_count, "holder"), file.path)
        for file in found
    ]
    raise Choose(
        f"{name!r} is the name of {len(contents)} different files; choose one by its id, "
        f"such as `relevo {command} {rows[0][0]}`",
        show.table(("ID", ">SIZE", "HELD BY", "PATH"), rows)[1:],
    )
