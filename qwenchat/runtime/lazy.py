"""Properties that are made once, on first use, from whichever thread comes first."""

import threading
from collections.abc import Callable
from typing import Any, Generic, Self, TypeVar, overload

Value = TypeVar("Value")


class MadeOnce(Generic[Value]):
    """A property whose value is made when it is first read, by one of the threads that read it at the same time."""

    def __init__(self, make: Callable[[Any], Value]) -> None:
        self._make, self._name = make, make.__name__
        self.__doc__ = make.__doc__

    @overload
    def __get__(self, instance: None, owner: type) -> Self: ...

    @overload
    def __get__(self, instance: object, owner: type) -> Value: ...

    def __get__(self, instance: object | None, owner: type) -> Self | Value:
        if instance is None:
            return self
        made = instance.__dict__
        lock: threading.RLock = made.setdefault(f"{self._name} lock", threading.RLock())
        with lock:
            if self._name not in made:
                made[self._name] = self._make(instance)
            value: Value = made[self._name]
            return value
