"""Configuration: files of settings, what a home remembers, and the words on the command line."""

import json
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from random import Random
from unittest import mock

import click
from click.testing import CliRunner
from click.types import convert_type

from central.__main__ import cli as central_cli
from core.errors import RelevoError
from peer.cli import relevo
from peer.commands import params
from peer.settings import recall
from tests.fuzz.engine import Broken, Target
from tests.fuzz.mutations import mutated_text

_WORDS = [*(f"params {text}" for text in ("10GiB", "1.5 MB", "0", "[::1]:7400", "host:0", "1h", "90s"))]


class ConfigurationTarget(Target):
    """`serve` of both programs up to, not including, serving. The first word says where the rest of an input goes."""

    name = "configuration"

    async def __aenter__(self) -> "ConfigurationTarget":
        self._base = Path(tempfile.mkdtemp(prefix="relevo-fuzz-"))
        (self._base / "shared").mkdir()
        (self._base / "home").mkdir()
        self._patches = [mock.patch("peer.process.run"), mock.patch("central.process.run")]
        for patch in self._patches:
            patch.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        for patch in self._patches:
            patch.stop()
        shutil.rmtree(self._base)

    def seeds(self) -> Sequence[bytes]:
        files = {
            "peer": 'central = ["127.0.0.1:7400"]\nname = "ana"\nlisten = "[::]:0"\nstore-quota = "10GiB"\n',
            "central": 'listen = "127.0.0.1:7400"\nbeat-interval = 2.0\nrelay-cap = 16\ninsecure = true\n',
            "home": json.dumps({"directory": "/", "central": ["127.0.0.1:7400"], "friend": [], "name": "ana"}),
        }
        return [f"{where} {text}".encode() for where, text in files.items()] + [word.encode() for word in _WORDS]

    def mutate(self, data: bytes, other: bytes, random: Random) -> bytes:
        where, _, text = data.partition(b" ")
        return where + b" " + mutated_text(text, other.partition(b" ")[2], random)

    async def run(self, data: bytes) -> None:
        where, _, body = data.partition(b" ")
        run = {b"peer": self._peer, b"central": self._central, b"home": self._home, b"params": self._params}.get(where)
        if run is not None:
            run(body)

    def _peer(self, body: bytes) -> None:
        file = self._file(body)
        shared, home = str(self._base / "shared"), str(self._base / "home")
        self._serve(relevo, "--home", home, "serve", shared, "--config", file)

    def _central(self, body: bytes) -> None:
        self._serve(central_cli, "serve", "--config", self._file(body), "--data", str(self._base / "data"))

    def _file(self, body: bytes) -> str:
        path = self._base / "settings.toml"
        path.write_bytes(body)
        return str(path)

    def _serve(self, command: click.Command, *arguments: str) -> None:
        result = CliRunner().invoke(command, arguments, catch_exceptions=False)
        if "a defect of" in result.output:
            raise Broken(result.output)

    def _home(self, body: bytes) -> None:
        home = self._base / "home"
        (home / "settings.json").write_bytes(body)
        recall(home)
        self._serve(relevo, "--home", str(home), "serve")
        (home / "settings.json").unlink()

    def _params(self, body: bytes) -> None:
        text = body.decode("utf-8", "replace")
        for name in ("address", "listen_address", "host", "size"):
            try:
                convert_type(getattr(params, name)).convert(text, None, None)
            except (click.ClickException, RelevoError):
                continue
