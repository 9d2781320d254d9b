"""The functions this process knows, by the name under which they are recorded."""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from .exceptions import DuplicateRegistration, UnknownWorkflow


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkflowDefinition:
    """A function that has been declared a workflow."""

    name: str
    function: Callable[..., Any]
    is_async: bool
    max_recovery_attempts: int | None
    serializer: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class StepDefinition:
    """A function that has been declared a step or a transaction."""

    name: str
    function: Callable[..., Any]
    is_async: bool


_D = TypeVar("_D", WorkflowDefinition, StepDefinition)


def _origin(function: Callable[..., Any]) -> tuple[str, str]:
    return function.__module__, function.__qualname__


class Registry(Generic[_D]):
    """Definitions by name; two different functions under one name are refused."""

    def __init__(self, noun: str) -> None:
        self._noun = noun
        self._lock = threading.Lock()
        self._definitions: dict[str, _D] = {}

    def register(self, definition: _D) -> None:
        """Add a definition. The same function seen again (a reloaded module) replaces its former self."""
        with self._lock:
            known = self._definitions.get(definition.name)
            if known is not None and _origin(known.function) != _origin(definition.function):
                raise DuplicateRegistration(
                    f"The {self._noun} name {definition.name!r} belongs to {'.'.join(_origin(known.function))}; "
                    f"give {'.'.join(_origin(definition.function))} another one: @{self._noun}(name=...)."
                )
            self._definitions[definition.name] = definition

    def find(self, name: str) -> _D | None:
        """The definition of that name, if this process knows it."""
        return self._definitions.get(name)

    def names(self) -> list[str]:
        """Every name that this process knows, sorted."""
        return sorted(self._definitions)

    def get(self, name: str) -> _D:
        """The definition of that name; raises UnknownWorkflow."""
        definition = self.find(name)
        if definition is None:
            raise UnknownWorkflow(
                f"No {self._noun} named {name!r} is registered in this process: import the module that defines it, "
                "for example from a workflows.py in an installed application."
            )
        return definition


workflow_registry: Registry[WorkflowDefinition] = Registry("workflow")
step_registry: Registry[StepDefinition] = Registry("step")
