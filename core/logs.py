"""How log lines are written: nothing in them can steer a terminal or pass for a line of its own."""

import logging
from types import TracebackType

from core.names import printable

_Raised = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]


class PrintableFormatter(logging.Formatter):
    """Escapes what is not printable: messages quote names and errors of other machines."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        """Returns the record as one line."""
        record.message = printable(record.message)
        return super().formatMessage(record)

    def formatException(self, ei: _Raised) -> str:  # noqa: N802 - logging's name
        """Returns a traceback, line by line."""
        return "\n".join(map(printable, super().formatException(ei).split("\n")))
