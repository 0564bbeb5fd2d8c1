"""JSON documents of the command line: one object on stdout, made from what the daemon answered."""

import json
from typing import TYPE_CHECKING, Any

import click

from core.names import printable
from peer.commands.show import moment

if TYPE_CHECKING:
    from google.protobuf.message import Message

_NANOSECONDS = 1_000_000_000


def fields_of(message: "Message") -> dict[str, Any]:
    """Returns a message as JSON values, under the names of its proto.

    Bytes become hex, times ISO 8601 in UTC, spans seconds (`took` becomes `took_seconds`), enumerations lower-case
    words (`live`), integers stay integers, unset messages and times that no calendar holds become null.
    """
    found: dict[str, Any] = {}
    for field in message.DESCRIPTOR.fields:
        name = field.name
        if field.message_type is not None and field.message_type.full_name == "google.protobuf.Duration":
            name += "_seconds"
        value = getattr(message, field.name)
        if field.is_repeated:
            found[name] = [_value(field, item) for item in value]
        elif field.message_type is not None and not message.HasField(field.name):
            found[name] = None
        else:
            found[name] = _value(field, value)
    return found


def _value(field: Any, value: Any) -> Any:
    if field.message_type is not None:
        return _message(field.message_type.full_name, value)
    if field.enum_type is not None:
        return _word(field, value)
    return value.hex() if isinstance(value, bytes) else value


def _message(kind: str, value: Any) -> Any:
    if kind == "google.protobuf.Timestamp":
        when = moment(value.seconds + value.nanos / _NANOSECONDS)
        return when and when.isoformat(timespec="microseconds").replace("+00:00", "Z")
    if kind == "google.protobuf.Duration":
        return value.seconds + value.nanos / _NANOSECONDS
    return fields_of(value)


def word(message: "Message", name: str) -> str:
    """Returns the lower-case word of the enumeration in field `name`."""
    return _word(message.DESCRIPTOR.fields_by_name[name], getattr(message, name))


def _word(field: Any, number: int) -> str:
    """Returns `live` for SESSION_STATE_LIVE, and the number in digits for one that a newer daemon knows."""
    if number not in field.enum_type.values_by_number:
        return str(number)
    prefix = "".join(f"_{char}" if char.isupper() else char.upper() for char in field.enum_type.name)
    name: str = field.enum_type.values_by_number[number].name
    return name.removeprefix(prefix[1:] + "_").lower()


def dump(document: dict[str, Any]) -> bytes:
    """Returns the document as indented UTF-8 that keeps every script as it is.

    What could steer a terminal, and lone surrogates, which no UTF-8 can hold, become JSON's own escapes: a reader gets
    the very same strings back.
    """
    lines = json.dumps(document, ensure_ascii=False, indent=2).split("\n")
    return "\n".join(line if printable(line) == line else "".join(map(_escaped, line)) for line in lines).encode()


def _escaped(char: str) -> str:
    return char if printable(char) == char else json.dumps(char)[1:-1]


def write(document: dict[str, Any]) -> None:
    """Writes the document to stdout, as UTF-8 whatever the locale."""
    click.echo(dump(document))
