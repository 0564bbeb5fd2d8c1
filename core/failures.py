"""How the command lines fail: one line on stderr that says what happened and what to do, and an exit code.

0 ok · 1 failure · 2 wrong usage · 3 not found · 5 try again later · 7 refused · 130 stopped by the user.
"""

import logging
import os
import sys
from typing import Any, NoReturn

import click

from core.errors import RelevoError
from core.names import printable

log = logging.getLogger("relevo")

STOPPED = 130


class Choose(click.ClickException):
    """A name that stands for several files. The message is followed by the lines that list them."""

    exit_code = 7

    def __init__(self, message: str, candidates: list[str]) -> None:
        super().__init__(message)
        self.candidates = candidates


class Stopped(click.ClickException):
    """The user stopped it with Ctrl-C; the message says what remains."""

    exit_code = STOPPED


Failure = RelevoError | click.ClickException


def tell(failure: Failure, program: str = "relevo") -> None:
    """Writes the failure of `program` to stderr: one line, in which nothing can steer a terminal."""
    message = failure.format_message() if isinstance(failure, click.ClickException) else str(failure)
    if isinstance(failure, click.UsageError) and failure.ctx is not None:
        message = f"{message.rstrip('.')} (see `{failure.ctx.command_path} --help`)"
    click.echo(f"{program}: {printable(message)}", err=True)
    for line in failure.candidates if isinstance(failure, Choose) else ():
        click.echo(f"  {line}", err=True)


class PoliteGroup(click.Group):
    """A group of commands that never ends in a traceback. Its name is the program's."""

    def main(self, *args: Any, **options: Any) -> NoReturn:
        """Runs the command line and exits, with the code of the failure if there is one.

        A reader that goes away, as in `relevo ls | head -1`, ends it silently: click sees to that.
        """
        program = self.name or "relevo"
        for stream in (sys.stdout, sys.stderr):
            if hasattr(stream, "reconfigure"):  # a locale that lacks a character shows its escape
                stream.reconfigure(errors="backslashreplace")
        try:
            code = super().main(*args, **{**options, "standalone_mode": False})
        except click.exceptions.NoArgsIsHelpError as error:
            error.show()
            sys.exit(error.exit_code)
        except (RelevoError, click.ClickException) as failure:
            tell(failure, program)
            sys.exit(failure.exit_code)
        except (click.Abort, KeyboardInterrupt):
            tell(Stopped("stopped"), program)
            sys.exit(STOPPED)
        except OSError as error:
            tell(click.ClickException(_reason(error)), program)
            sys.exit(1)
        except Exception as error:
            if logging.getLogger().handlers:  # a daemon's log; a command's user has no use for it
                log.exception("a defect of relevo")
            defect = f"a defect of {program} ({type(error).__name__}: {error}); please report it"
            tell(click.ClickException(defect), program)
            sys.exit(1)
        sys.exit(code if isinstance(code, int) else 0)


def _reason(error: OSError) -> str:
    """Returns `cannot use FILE: Permission denied` for an operating system's error."""
    what = f"cannot use {os.fsdecode(error.filename)}: " if isinstance(error.filename, str | bytes) else ""
    return f"{what}{error.strerror or error}"
