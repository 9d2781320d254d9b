"""What this process knows: functions by the name under which they are recorded, classes and instances by theirs."""

import inspect
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from .exceptions import DuplicateRegistration, InvalidOption, UnknownWorkflow

#: (args, kwargs) -> what the body gets in their place; raises for what it must not get.
ArgumentsValidator = Callable[[tuple[Any, ...], dict[str, Any]], tuple[tuple[Any, ...], dict[str, Any]]]

#: What comes before a step's name in the name of the workflow that is made for it when it is started alone.
TEMPORARY = "<temp>."
# Under this attribute a decorated function carries its definition.
_ATTRIBUTE = "dbos_workflow"
#: Under this attribute a registered class carries its name.
CLASS_NAME = "dbos_class_name"


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkflowDefinition:
    """A function that has been declared a workflow."""

    name: str
    function: Callable[..., Any]
    is_async: bool
    max_recovery_attempts: int | None = 100
    serializer: str | None = None
    validate_args: ArgumentsValidator | None = None
    #: What a method was looked up on (``shop.order``): an instance or a class.
    receiver: Any = None

    def called_on(self, args: tuple[Any, ...]) -> tuple[Any, ...]:
        """The arguments with what a method is called on."""
        return args if self.receiver is None else (self.receiver, *args)


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

    def forget(self, name: str) -> None:
        """Unlearn a definition, if there is one of that name."""
        with self._lock:
            self._definitions.pop(name, None)

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


class WorkflowRegistry(Registry[WorkflowDefinition]):
    """Workflows, those among them that are made for steps; each of these is found under its step's name, too."""

    def find(self, name: str) -> WorkflowDefinition | None:
        """See Registry.find()."""
        return self._definitions.get(name) or self._definitions.get(TEMPORARY + name)

    def claimable_names(self) -> list[str]:
        """Every name under which a row may ask for a function of this process, sorted."""
        names = self.names()
        return sorted({*names, *(name.removeprefix(TEMPORARY) for name in names)})


workflow_registry = WorkflowRegistry("workflow")
step_registry: Registry[StepDefinition] = Registry("step")


class ClassRegistry:
    """The classes whose methods are workflows, and their instances, by the names that rows give them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._classes: dict[str, type] = {}
        self._instances: dict[tuple[str, str], Any] = {}

    def register(self, name: str, cls: type) -> None:
        """Add a class. The same class seen again (a reloaded module) replaces its former self."""
        with self._lock:
            known = self._classes.get(name)
            if known is not None and _origin(known) != _origin(cls):
                raise DuplicateRegistration(
                    f"The class name {name!r} belongs to {'.'.join(_origin(known))}; give {'.'.join(_origin(cls))} "
                    "another one: @dbos_class(class_name=...)."
                )
            self._classes[name] = cls

    def register_instance(self, name: str, instance: Any) -> None:
        """Add an instance under its class and name; a second one of that name is refused."""
        key = (self.name_of(type(instance)), name)
        with self._lock:
            known = self._instances.get(key, instance)
            if known is not instance and type(known) is type(instance):
                raise DuplicateRegistration(
                    f"There is an instance {name!r} of {key[0]} already: its workflows would not know to which of the "
                    "two they belong. Create it once and import it."
                )
            self._instances[key] = instance

    def forget(self, cls: type) -> None:
        """Unlearn a class and its instances, if it is known."""
        with self._lock:
            name = vars(cls).get(CLASS_NAME, "")
            if self._classes.get(name) is cls:
                del self._classes[name]
            for key in [key for key, instance in self._instances.items() if type(instance) is cls]:
                del self._instances[key]

    def name_of(self, cls: type) -> str:
        """The name of a class; raises InvalidOption if it was not registered."""
        name = vars(cls).get(CLASS_NAME, "")
        if self._classes.get(name) is not cls:
            raise InvalidOption(f"{cls.__qualname__} has workflows as methods: decorate it with @dbos_class.")
        return str(name)

    def find(self, class_name: str, instance_name: str) -> Any:
        """The class, or the instance if one is named; None: this process does not know it."""
        if instance_name:
            return self._instances.get((class_name, instance_name))
        return self._classes.get(class_name)

    def receivers(self) -> list[tuple[str, str]]:
        """Every (class, instance) that a row may name here, classes alone with an empty instance; sorted."""
        with self._lock:
            return sorted([*((name, "") for name in self._classes), *self._instances])

    def owner_of(self, function: Callable[..., Any]) -> tuple[type | None, Any]:
        """The registered class that defines this function, and how (a staticmethod, ...); (None, None) if none does."""
        function = innermost(function)
        with self._lock:
            classes = list(self._classes.values()) if "." in function.__qualname__ else []
        for cls in classes:
            attribute = vars(cls).get(function.__name__)
            if attribute is not None and innermost(attribute) is function:
                return cls, attribute
        return None, None


class_registry = ClassRegistry()


def innermost(function: Any) -> Any:
    """The function itself, without its decorators."""
    return inspect.unwrap(function) if hasattr(function, "__wrapped__") else function


def attach_definition(function: Callable[..., Any], definition: WorkflowDefinition) -> None:
    """Let a decorated function carry its definition."""
    setattr(function, _ATTRIBUTE, definition)


def attached_definition(function: Any) -> WorkflowDefinition | None:
    """The definition that a decorated function carries, also inside staticmethod and classmethod."""
    definition = getattr(getattr(function, "__func__", function), _ATTRIBUTE, None)
    return definition if isinstance(definition, WorkflowDefinition) else None
