"""The one place where the parts meet: settings, folders, store, engine, models.

Parts are made when first asked for, so that `qwenchat --version` pays for none of them.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from qwenchat import config
from qwenchat.config import Settings
from qwenchat.paths import Paths

if TYPE_CHECKING:
    from qwenchat.sessions.store import Store

_DAY_MS = 86_400_000


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

    @cached_property
    def store(self) -> "Store":
        """The conversations. What was in the trash for longer than the person wants goes now.

        Raises StoreError.
        """
        from qwenchat.chat.identity import unix_ms  # noqa: PLC0415 - most commands need no database
        from qwenchat.sessions.store import Store  # noqa: PLC0415

        store = Store(self.paths.database)
        if days := self.settings.sessions.empty_trash_after_days:
            store.trash.empty(unix_ms() - days * _DAY_MS)
        return store

    def close(self) -> None:
        """Close what was made. May be called twice."""
        if "store" in self.__dict__:
            self.store.close()
