"""Where a configuration is from, so that it can be read again."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from buildgrid_scheduler.config.load import ReadConfig, read_config
from buildgrid_scheduler.config.model import Config


@dataclass(frozen=True, slots=True)
class ConfigSource:
    """A file, or none, and what the command line says instead."""

    path: Path | None = None
    overrides: Mapping[str, Any] = field(default_factory=dict)

    def load(self) -> Config:
        """Raises ConfigError."""
        return self.read().config

    def read(self) -> ReadConfig:
        """As `load`, with the lines of the fields."""
        return read_config(self.path, self.overrides)

    def digest(self) -> str:
        """The SHA-256 of the file's content, in hex: says whether it has changed, and to which of two.

        "none" without a file, "unreadable" for one that is not there or may not be read.
        """
        if self.path is None:
            return "none"
        try:
            return hashlib.sha256(self.path.read_bytes()).hexdigest()
        except OSError:
            return "unreadable"
