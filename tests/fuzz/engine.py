"""The engine: feeds a target with mutated inputs for a while, keeps those that reach new lines, reports what breaks.

docs/decisions/0018-a-fuzzer-of-its-own.md compares it with hypothesis and atheris.
"""

import hashlib
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from types import TracebackType
from typing import Self

import core  # noqa: F401 - before grpc, whose TLS it holds to 1.3
from tests.fuzz.coverage import Lines
from tests.fuzz.mutations import mutated

CORPUS = Path(__file__).parent / "corpus"
# Invariants that take long to look at are looked at after so many inputs.
CHECK_EVERY = 200
_MOST_FINDINGS = 20


class Broken(AssertionError):
    """An input broke something that no input may break."""


class Target:
    """Something that takes bytes from strangers. Used inside of `async with`."""

    name = ""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Closes whatever was opened."""

    def seeds(self) -> Sequence[bytes]:
        """Returns inputs to begin with: valid ones."""
        return (b"",)

    def mutate(self, data: bytes, other: bytes, random: Random) -> bytes:
        """Returns a variation of `data`; may take from `other`."""
        return mutated(data, other, random)

    async def run(self, data: bytes) -> None:
        """Feeds one input. Whatever it raises is a finding."""
        raise NotImplementedError

    async def check(self) -> None:
        """Looks at what must hold after any input; what it raises is a finding."""


@dataclass(frozen=True)
class Finding:
    """An input that broke something, and how."""

    data: bytes
    story: str

    def save(self, folder: Path) -> Path:
        """Writes the input into the corpus, and returns where it is."""
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"found-{hashlib.sha256(self.data).hexdigest()[:16]}"
        path.write_bytes(self.data)
        return path


@dataclass
class Report:
    """What a run did. `findings` has one for each place that broke."""

    executions: int = 0
    corpus: int = 0
    lines: int = 0
    seconds: float = 0.0
    findings: dict[str, Finding] = field(default_factory=dict)


def corpus(target: Target) -> list[Path]:
    """Returns the files of a target's fixed corpus: what was found, and what is worth beginning with."""
    return sorted(path for path in (CORPUS / target.name).glob("*") if path.is_file())


async def fuzz(target: Target, seconds: float, seed: int, most: int | None = None) -> Report:
    """Feeds an open target for `seconds`, or until `most` inputs; the same seed draws the same inputs."""
    return await _Run(target, seed).until(time.monotonic() + seconds, most)


class _Run:
    def __init__(self, target: Target, seed: int) -> None:
        self._target = target
        self._random = Random(seed)
        self._lines = Lines()
        self._pool: list[bytes] = []
        self._report = Report()

    async def until(self, end: float, most: int | None) -> Report:
        began = time.monotonic()
        with self._lines.watching():
            for data in (*self._target.seeds(), *(path.read_bytes() for path in corpus(self._target))):
                await self._feed(data, keep=True)
            while time.monotonic() < end and (most is None or self._report.executions < most):
                last = self._draw()
                await self._feed(last)
                if self._report.executions % CHECK_EVERY == 0:  # one of the last inputs did it; the seed tells which
                    await self._attempt(self._target.check(), last)
                if len(self._report.findings) >= _MOST_FINDINGS:
                    break
            await self._attempt(self._target.check(), self._pool[-1])
        self._report.corpus, self._report.lines = len(self._pool), len(self._lines.reached)
        self._report.seconds = time.monotonic() - began
        return self._report

    def _draw(self) -> bytes:
        # What reached something new lately is worth more than what has been varied for long.
        recent = self._pool[-16:] if self._random.random() < 0.3 else self._pool
        data, other = self._random.choice(recent), self._random.choice(self._pool)
        return self._target.mutate(data, other, self._random)

    async def _feed(self, data: bytes, *, keep: bool = False) -> None:
        before = len(self._lines.reached)
        sound = await self._attempt(self._target.run(data), data)
        self._report.executions += 1
        if keep or (sound and len(self._lines.reached) > before):
            self._pool.append(data)

    async def _attempt(self, work: object, data: bytes) -> bool:
        try:
            await work  # type: ignore[misc]
        except Exception as error:  # noqa: BLE001 - any of them is a finding
            found = Finding(data, "".join(traceback.format_exception(error)))
            self._report.findings.setdefault(_place(error), found)
            return False
        return True


def _place(error: BaseException) -> str:
    """Returns what tells one defect from another: where it broke, and with what."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    words = str(error) if isinstance(error, Broken) else ""
    return f"{type(error).__name__} {last.filename}:{last.lineno} {words[:80]}"
