"""Which files are offered, and why others are not. Pure."""

import stat

from core.content import MAX_SIZE
from core.names import MAX_PART_BYTES, MAX_PATH_BYTES, normal, path_problem

# What this program keeps beneath a shared directory begins so: files in progress, and copies that are being made.
OWN_BEGIN = ".relevo-"
# Names under which programs keep what is not finished. Hidden names, this program's own among them, are passed over
# anyway.
UNFINISHED_ENDS = (".part", ".partial", ".crdownload", ".download", ".tmp", "~")
UNFINISHED_STARTS = ("~$",)
# Refusal without a reason: hidden and ignored files are what the user meant to keep, and are not listed.
SILENT = ""

TWIN = "another file has the same name in another Unicode form; rename one of them"
LINK = "it is a symbolic link, and links are not followed"
SPECIAL = "it is not a regular file"
TOO_LARGE = "it is larger than 128 TiB"
UNFINISHED = "its name is that of an unfinished or temporary file"
UNDECODABLE = "its name is not valid UTF-8"


def name_refusal(disk: str) -> str | None:
    """Returns why the last part of a path on disk keeps a file or directory from being offered; None when it does not.

    Args:
        disk: relative path as the system gives it (undecodable bytes as lone surrogates). Its parents were asked about
            before.

    Returns:
        A reason in one sentence, SILENT for what is not worth a line (hidden), or None.
    """
    name = disk.rpartition("/")[2]
    if name.startswith("."):
        return SILENT
    lower = name.lower()
    if lower.endswith(UNFINISHED_ENDS) or lower.startswith(UNFINISHED_STARTS):
        return UNFINISHED
    if name.isascii():
        # Most names: what follows could find nothing else, and there may be a million of them.
        if name.isprintable() and "\\" not in name and len(name) <= MAX_PART_BYTES and len(disk) * 4 <= MAX_PATH_BYTES:
            return None
    else:
        try:
            name.encode()
        except UnicodeEncodeError:
            return UNDECODABLE
    problem = path_problem(normal(disk))
    return f"its name cannot travel: {problem}" if problem else None


def kind_refusal(mode: int, size: int) -> str | None:
    """Returns why something that is not a directory is not offered, by its mode and size in bytes; None when it is."""
    if stat.S_ISLNK(mode):
        return LINK
    if not stat.S_ISREG(mode):
        return SPECIAL
    return TOO_LARGE if size > MAX_SIZE else None


def preference(disk: str) -> tuple[bool, str]:
    """Orders names on disk that are one name in NFC: the first is offered, whichever appeared first."""
    return (normal(disk) != disk, disk)


def outermost(scopes: set[str], crowd: int = 256) -> set[str]:
    """Returns scopes that cover the given ones: those within others drop out, and a crowd becomes its directory.

    Args:
        scopes: relative paths; the empty one covers everything.
        crowd: a directory with more scopes right in it than this is looked at whole.
    """
    if len(scopes) > crowd:
        counts: dict[str, int] = {}
        for scope in scopes:
            above = scope.rpartition("/")[0]
            counts[above] = counts.get(above, 0) + 1
        scopes = scopes | {above for above, count in counts.items() if count > crowd}
    if "" in scopes:
        return {""}
    return {scope for scope in scopes if not any(above in scopes for above in ancestors(scope))}


def ancestors(disk: str) -> list[str]:
    """Returns the directories above a relative path, the outermost first, without the root."""
    parts = disk.split("/")
    return ["/".join(parts[:count]) for count in range(1, len(parts))]
