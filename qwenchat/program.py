"""The one place where the parts meet: settings, folders, store, engine, models.

Parts are made when first asked for, so that `qwenchat --version` pays for none of them.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from qwenchat import config
from qwenchat.config import Settings
from qwenchat.paths import Paths


@dataclass(frozen=True)
class Program:
    """What every command starts from."""

    environ: Mapping[str, str]

    @classmethod
    def here(cls) -> "Program":
        """Return the program in this process's environment."""
        return cls(dict(os.environ))

    @cached_property
    def paths(self) -> Paths:
        """The folders."""
        return Paths.find(self.environ)

    @cached_property
    def settings(self) -> Settings:
        """The settings. Raises WrongUse or FileError."""
        return config.load(self.paths.settings, self.environ)
