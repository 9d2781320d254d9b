"""Workflows as methods: of a class, or of an instance that every process creates under the same name.

A row says (class, instance); whoever claims it has registered the one and created the other. Neither is stored among
the inputs.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar, overload

from django.db.models import Model

from .exceptions import InvalidOption, UnknownWorkflow
from .registry import CLASS_NAME, WorkflowDefinition, class_registry, innermost
from .validation import short_text

C = TypeVar("C", bound=type)

#: Under this attribute a guard carries the function that it guards.
UNGUARDED = "dbos_unguarded"


@overload
def dbos_class(cls: C, /) -> C: ...


@overload
def dbos_class(*, class_name: str | None = ...) -> Callable[[C], C]: ...


def dbos_class(cls: Any = None, /, *, class_name: str | None = None) -> Any:
    """Register a class, so that any process finds it for its workflows; ``class_name`` overrides ``__qualname__``."""

    def decorate(cls: C) -> C:
        name = short_text("A class's name", cls.__qualname__ if class_name is None else class_name)
        class_registry.register(name, cls)
        setattr(cls, CLASS_NAME, name)
        return cls

    if cls is not None and not isinstance(cls, type):
        raise InvalidOption(f"@dbos_class is for classes, not {cls!r}; a name is given as class_name={cls!r}.")
    return decorate if cls is None else decorate(cls)


class ConfiguredInstance:
    """Base of classes whose instances have workflows: an instance is found again by its class and its name.

    Each process creates the same instances under the same names, before it works.
    """

    def __init__(self, instance_name: str) -> None:
        self.instance_name = short_text("An instance's name", instance_name)
        class_registry.register_instance(self.instance_name, self)


def outside_in(decorate: Callable[[Any], Any], body: Any) -> Any:
    """Decorate the function inside a staticmethod or classmethod, so that a decorator may stand above these."""
    if isinstance(body, staticmethod | classmethod):
        return type(body)(outside_in(decorate, body.__func__))
    # What required_roles() has put around a plain function asks for what the decorated one asks for by itself.
    unguarded = getattr(body, UNGUARDED, None)
    return decorate(body if unguarded is None or unguarded is not body.__wrapped__ else unguarded)


def bound(definition: WorkflowDefinition, args: tuple[Any, ...]) -> tuple[WorkflowDefinition, tuple[Any, ...]]:
    """(definition with its receiver, arguments without it): the form in which a call becomes a row.

    An instance that is no ConfiguredInstance (a model's, say) is an argument like any other.
    """
    if definition.receiver is not None:
        args = (definition.receiver, *args)
    if args and is_method_of(args[0], definition.function):
        return replace(definition, receiver=args[0]), args[1:]
    return (definition if definition.receiver is None else replace(definition, receiver=None)), args


def is_method_of(receiver: Any, function: Callable[..., Any]) -> bool:
    """Whether ``receiver`` is what the method ``function`` was called on: its configured instance, or its class."""
    if isinstance(receiver, type):
        return defines(receiver, function, classmethod)
    if not isinstance(receiver, ConfiguredInstance) and CLASS_NAME not in vars(type(receiver)):
        return False
    if not defines(type(receiver), function, object) or isinstance(receiver, Model):
        return False
    if not isinstance(receiver, ConfiguredInstance):
        raise InvalidOption(
            f"{function.__qualname__}() is a method of an instance: derive {type(receiver).__qualname__} from "
            "ConfiguredInstance, so that other processes find the same one, or make it a class method."
        )
    return True


def defines(cls: type, function: Callable[..., Any], kind: type) -> bool:
    """Whether ``function`` is a method of ``cls``, its own or inherited, of this kind (no static one is)."""
    wanted = innermost(function)
    for base in cls.__mro__:
        attribute = vars(base).get(wanted.__name__)
        if attribute is not None and innermost(attribute) is wanted:
            return isinstance(attribute, kind) and not isinstance(attribute, staticmethod)
    return False


def names_of(receiver: Any) -> tuple[str, str]:
    """(class, instance) as they stand in a row; empty for a function, and for a static method."""
    if receiver is None:
        return "", ""
    if isinstance(receiver, type):
        return class_registry.name_of(receiver), ""
    return class_registry.name_of(type(receiver)), _instance_name(receiver)


def _instance_name(instance: ConfiguredInstance) -> str:
    name = vars(instance).get("instance_name")
    if name is None:
        raise InvalidOption(f"{type(instance).__qualname__}.__init__() has to call super().__init__(instance_name).")
    return str(name)


def receiver_of(definition: WorkflowDefinition, class_name: str, instance_name: str) -> Any:
    """What a row's method is to be called on; None for a function.

    Raises UnknownWorkflow if this process does not know it, InvalidOption if nobody can.
    """
    if not class_name:
        return _receiver_unsaid(definition)
    receiver = class_registry.find(class_name, instance_name)
    if receiver is None:
        what = f"instance {instance_name!r} of the class" if instance_name else "class"
        raise UnknownWorkflow(f"There is no {what} {class_name!r} in this process, of which {definition.name} is run.")
    if not is_method_of(receiver, definition.function):
        raise InvalidOption(
            f"{definition.name} is no method of the class {class_name!r}, or of its instances and none is named."
        )
    return receiver


def _receiver_unsaid(definition: WorkflowDefinition) -> Any:
    """A row that was made by name, or by a schedule, may leave the class of a class method out."""
    owner, attribute = class_registry.owner_of(definition.function)
    if owner is None or isinstance(attribute, staticmethod):
        return None
    if isinstance(attribute, classmethod):
        return owner
    if issubclass(owner, ConfiguredInstance):
        raise InvalidOption(f"{definition.name} is a method of an instance, and the row does not say of which.")
    return None
