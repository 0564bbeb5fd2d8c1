"""Build hook: compiles the protos, so that `pip install .` has stubs without any step before it."""

import subprocess
import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class StubsHook(BuildHookInterface[Any]):
    """Runs the recipe of protos/protoc.args, the same that `make protos` runs."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compiles into generated/ before files are collected."""
        Path(self.root, "generated").mkdir(exist_ok=True)
        subprocess.run([sys.executable, "-m", "grpc_tools.protoc", "@protos/protoc.args"], cwd=self.root, check=True)
