"""Validation of a workflow's arguments: before they are stored, and again before a claimed body gets them."""

import inspect
import typing
from collections.abc import Callable
from enum import Enum
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Final, Literal

from .exceptions import InvalidArguments, InvalidOption
from .registry import ArgumentsValidator, WorkflowDefinition, innermost


class ByTypeHints(Enum):
    """Asks for pydantic's validation by a function's type hints."""

    PYDANTIC = "pydantic"


#: ``workflow(validate_args=pydantic_args_validator)`` is the same as ``validate_args=True``.
pydantic_args_validator: Final = ByTypeHints.PYDANTIC

ValidateArgs = ArgumentsValidator | Literal[True] | ByTypeHints


Arguments = tuple[tuple[Any, ...], dict[str, Any]]


class PydanticArguments:
    """Checks and converts arguments by the type hints of a function."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = innermost(function)
        self._check: Callable[..., Arguments] | None = None

    def __call__(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Arguments:
        """What the function gets in place of (args, kwargs); raises InvalidArguments."""
        return self.of_method((), args, kwargs)

    def of_method(self, receiver: tuple[Any, ...], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Arguments:
        """The same for a method, whose own first argument is ``receiver`` and not in ``args``."""
        if self._check is None:  # not before: a hint may name what its module defines later
            self._check = _checked(self._function)
        try:
            all_args, all_kwargs = self._check(*receiver, *args, **kwargs)
        except ValueError as error:
            raise InvalidArguments(
                f"{self._function.__qualname__}() does not take these arguments: {_told(error, self._function)}"
            ) from error
        # Without the defaults: a later default shall hold for what was stored before it.
        return all_args[len(receiver) :][: len(args)], {name: all_kwargs[name] for name in kwargs}


def _told(error: Any, function: Callable[..., Any]) -> str:
    """What pydantic says, parameter by parameter, and without the values: they may be nobody's business."""
    if not hasattr(error, "errors"):
        return str(error)
    names = list(inspect.signature(function).parameters)
    return "; ".join(f"{_place(each['loc'], names)}: {each['msg']}" for each in error.errors())


def _place(location: tuple[int | str, ...], names: list[str]) -> str:
    first, *rest = location
    if isinstance(first, int):  # a positional argument; more of them than parameters are its surplus
        first = names[first] if first < len(names) else f"argument {first + 1}"
    return ".".join(map(str, [first, *rest]))


def make_pydantic_args_validator(function: Callable[..., Any]) -> ArgumentsValidator:
    """A ``validate_args`` that checks and converts arguments by the type hints of ``function``."""
    if find_spec("pydantic") is None:
        raise InvalidOption("Validation by type hints needs pydantic: pip install pydantic.")
    return PydanticArguments(function)


def _checked(function: Callable[..., Any]) -> Callable[..., Arguments]:
    """A function with the signature of ``function`` that gives its arguments back, as pydantic converted them."""

    def call(*args: Any, **kwargs: Any) -> Arguments:
        return args, kwargs

    signature, hints = inspect.signature(function), typing.get_type_hints(function, include_extras=True)
    hints.pop("return", None)
    parameters = [each.replace(annotation=hints.get(each.name, each.empty)) for each in signature.parameters.values()]
    call.__name__, call.__qualname__, call.__module__ = function.__name__, function.__qualname__, function.__module__
    call.__annotations__ = hints
    call.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    check: Any = import_module("pydantic").validate_call(config={"arbitrary_types_allowed": True})(call)
    return check  # type: ignore[no-any-return]


def validator_for(wanted: ValidateArgs | None, function: Callable[..., Any]) -> ArgumentsValidator | None:
    """The validator that ``validate_args=`` asks for."""
    if not wanted:
        return None
    if wanted is True or isinstance(wanted, ByTypeHints):
        return make_pydantic_args_validator(function)
    if not callable(wanted):
        raise InvalidOption(f"validate_args is True, or a function (args, kwargs) -> (args, kwargs), not {wanted!r}.")
    return wanted


def validated(definition: WorkflowDefinition, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Arguments:
    """What the body gets in place of (args, kwargs); raises what its validator raises."""
    validate = definition.validate_args
    if validate is None:
        return args, kwargs
    if isinstance(validate, PydanticArguments):
        return validate.of_method(() if definition.receiver is None else (definition.receiver,), args, kwargs)
    result: Any = validate(args, kwargs)
    if not (isinstance(result, tuple | list) and len(result) == 2 and isinstance(result[1], dict)):
        raise InvalidOption(f"validate_args of {definition.name} returns (args, kwargs), not {result!r:.300}.")
    return tuple(result[0]), result[1]
