"""Messages by their descriptors: valid ones to begin with, and ones with hostile fields."""

import importlib
import json
import pkgutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from random import Random
from typing import Any

from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

import relevo.v1

_NAMES = Path(__file__).parents[1] / "data" / "hostile_names.txt"
_DEPTH = 4
_EDGES = (0, 1, 2, 127, 128, 999_999_999, 10**9, 2**31 - 1, 2**31, 2**32 - 1, 2**47, 2**47 + 1, 2**63 - 1, 2**64 - 1)


def services() -> dict[str, Any]:
    """Returns the descriptors of every service of this program, by full name, so that a new one is never left out."""
    found = {}
    for module in pkgutil.iter_modules(relevo.v1.__path__):
        if module.name.endswith("_pb2"):
            descriptor = importlib.import_module(f"relevo.v1.{module.name}").DESCRIPTOR
            found.update({service.full_name: service for service in descriptor.services_by_name.values()})
    return found


def hostile_names() -> list[str]:
    """Returns the names that are refused everywhere, as far as a message can hold them."""
    lines = _NAMES.read_text("utf-8").splitlines()
    names = [json.loads(line) for line in lines if line and not line.startswith("#")]
    return [name for name in names if not any("\ud800" <= char <= "\udfff" for char in name)]


def valid(descriptor: Any, values: Mapping[str, Any], depth: int = _DEPTH) -> Message:
    """Returns a message with every field set: to what `values` has for its name, else to something of its type."""
    message = GetMessageClass(descriptor)()
    for field in descriptor.fields:
        if field.message_type:
            if depth:
                inner = valid(field.message_type, values, depth - 1)
                part = getattr(message, field.name)
                part.add().CopyFrom(inner) if field.is_repeated else part.CopyFrom(inner)
            continue
        value = values.get(field.name, _plain(field))
        getattr(message, field.name).append(value) if field.is_repeated else setattr(message, field.name, value)
    return message


def _plain(field: Any) -> Any:
    if field.type == field.TYPE_STRING:
        return "x"
    if field.type == field.TYPE_BYTES:
        return bytes(32)
    return 1


def spoil(message: Message, random: Random) -> None:
    """Makes one field of `message`, or of a message inside of it, hostile."""
    places = list(_places(message, _DEPTH))
    if not places:
        return
    holder, field = random.choice(places)
    if random.random() < 0.1:
        holder.ClearField(field.name)
    elif field.is_repeated:
        _spoil_items(getattr(holder, field.name), field, random)
    elif field.message_type:
        getattr(holder, field.name).SetInParent()
    else:
        setattr(holder, field.name, _hostile(field, getattr(holder, field.name), random))


def _places(message: Message, depth: int) -> Iterator[tuple[Message, Any]]:
    for field in message.DESCRIPTOR.fields:
        yield message, field
        if field.message_type and depth:
            if field.is_repeated:
                for item in list(getattr(message, field.name))[:4]:
                    yield from _places(item, depth - 1)
            elif message.HasField(field.name):
                yield from _places(getattr(message, field.name), depth - 1)


def _spoil_items(items: Any, field: Any, random: Random) -> None:
    count = random.choice((1, 2, 17, 300, 1001))
    if field.message_type:
        like = items[0] if items else None
        for _ in range(count):
            item = items.add()
            if like is not None:
                item.CopyFrom(like)
    elif random.random() < 0.5 and items:
        items.extend([items[0]] * count)
    else:
        items.extend(_hostile(field, items[0] if items else None, random) for _ in range(min(count, 17)))


def _hostile(field: Any, value: Any, random: Random) -> Any:
    if field.type == field.TYPE_STRING:
        return random.choice(_TEXTS)(value or "", random)
    if field.type == field.TYPE_BYTES:
        return random.choice((b"", b"\xff", bytes(31), bytes(33), bytes(100_000), random.randbytes(32)))
    if field.type == field.TYPE_BOOL:
        return not value
    if field.type in {field.TYPE_UINT32, field.TYPE_UINT64}:
        number = random.choice((*_EDGES, (value or 0) + 1))
        return number % (1 << (32 if field.type == field.TYPE_UINT32 else 64))
    number = random.choice((*_EDGES, *(-edge for edge in _EDGES)))
    bits = 64 if field.type == field.TYPE_INT64 else 32
    return (number + (1 << (bits - 1))) % (1 << bits) - (1 << (bits - 1))


_NAMES_ONCE = hostile_names()
_ODD = (
    "",
    "x",
    "\x00",
    "é",
    "e\u0301",
    "\u202e",
    "\x1b[2J",
    "*",
    "[",
    "%",
    "'",
    "a:1",
    "unix:/x:1",
    "[::1]:0",
    "1e400",
)
_TEXTS: tuple[Callable[[str, Random], str], ...] = (
    lambda _, random: random.choice(_NAMES_ONCE),
    lambda _, random: random.choice(_ODD),
    lambda text, random: text + random.choice(_ODD),
    lambda text, _: text * 2,
    lambda text, _: text[:-1],
    lambda text, _: text.upper(),
    lambda text, random: text[: len(text) // 2] + chr(random.randrange(0x20, 0xD800)) + text[len(text) // 2 :],
    lambda _, random: "y" * random.choice((64, 255, 256, 4096, 4097, 70_000)),
)
