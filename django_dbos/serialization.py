"""Everything that is stored goes through here: values, calls and errors, each as (text, name of the serializer).

The built-in serializer's format is the package ``typed_json``.
"""

import json
from collections.abc import Iterable
from contextlib import suppress
from typing import Any, Protocol

from django.utils.module_loading import import_string

from . import typed_json
from .conf import conf
from .exceptions import DeserializationError, InvalidOption, RecordedError, SerializationError
from .typed_json import register_type

__all__ = [
    "DeserializationError",
    "SerializationError",
    "Serializer",
    "dump_call",
    "dump_calls",
    "dump_error",
    "dumps",
    "get_serializer",
    "load_call",
    "load_error",
    "loads",
    "preview",
    "register_serializer",
    "register_type",
]


#: (args, kwargs) of a workflow.
Call = tuple[tuple[Any, ...], dict[str, Any]]


class Serializer(Protocol):
    """Turns values into text and back. Stateless; its dotted path is stored in every row it wrote."""

    name: str

    def dumps(self, value: Any) -> str:
        """Return the value as a text that any database can hold, or raise."""
        ...

    def loads(self, text: str) -> Any:
        """Return the value that dumps() was given, or raise."""
        ...


class _TypedJSON:
    name = "json"
    dumps = staticmethod(typed_json.dumps)
    loads = staticmethod(typed_json.loads)


_serializers: dict[str, Serializer] = {"json": _TypedJSON()}


def get_serializer(name: str) -> Serializer:
    """Return the serializer ``"json"`` or of a dotted path, which may be a class or an instance.

    From then on this process reads rows that name it. For names from the project's code, never for a row's.
    """
    if name not in _serializers:
        try:
            found = import_string(name)
            found = found() if isinstance(found, type) else found
        except Exception as error:
            raise InvalidOption(f"The serializer {name!r} cannot be loaded: {error}") from error
        if not callable(getattr(found, "dumps", None)) or not callable(getattr(found, "loads", None)):
            raise InvalidOption(f"{name!r} is no serializer: it needs dumps(value) and loads(text)")
        _serializers[name] = found
    return _serializers[name]


def register_serializer(serializer: Serializer) -> None:
    """Let a serializer, an object of the project's code, write and read under its name."""
    _serializers[serializer.name] = serializer


def _reader(name: str) -> Serializer:
    if name not in _serializers and name != conf.SERIALIZER:
        raise DeserializationError(
            f"The serializer {name!r} is not in use in this process, and a row cannot bring it in: set it as "
            "DBOS['SERIALIZER'], or name it in a workflow of this process"
        )
    return get_serializer(name)


def dumps(value: Any, *, what: str = "value", serializer: str | None = None) -> tuple[str, str]:
    """Return (text, serializer name). SerializationError names the path of what cannot be stored."""
    name = serializer or conf.SERIALIZER
    if name == "json":
        return typed_json.dumps(value, what), name
    return _dumps_with(name, value, what), name


def _dumps_with(name: str, value: Any, what: str) -> str:
    writer = get_serializer(name)
    try:
        return writer.dumps(value)
    except typed_json.NOT_THE_VALUE:
        raise
    except Exception as error:
        raise SerializationError(f"{what} cannot be stored by the serializer {name!r}: {error}") from error


def loads(text: str | None, name: str) -> Any:
    """Return the stored value, None for no text. DeserializationError if it cannot be read.

    A database error while a model instance is loaded is raised as it is: the row may be fine.
    """
    if text is None:
        return None
    if name == "json":
        return typed_json.loads(text)
    try:
        return _reader(name).loads(text)
    except (DeserializationError, *typed_json.NOT_THE_VALUE):
        raise
    except Exception as error:
        raise DeserializationError(f"The serializer {name!r} cannot read this: {error!r}") from error


def dump_call(args: tuple[Any, ...], kwargs: dict[str, Any], *, serializer: str | None = None) -> tuple[str, str]:
    """Return (text, serializer name) of a workflow's inputs. Paths start with ``args[0]`` or ``kwargs['x']``."""
    name = serializer or conf.SERIALIZER
    call = {"args": list(args), "kwargs": kwargs}
    return (typed_json.dumps_parts(call) if name == "json" else _dumps_with(name, call, "the call")), name


def dump_calls(calls: Iterable[Call], *, serializer: str | None = None) -> tuple[list[str], str]:
    """Return (texts, serializer name) of the inputs of many workflows. Paths start with ``calls[0].args[0]``."""
    name = serializer or conf.SERIALIZER
    many = [{"args": list(args), "kwargs": kwargs} for args, kwargs in calls]
    if name == "json":
        with suppress(SerializationError):
            return typed_json.dumps_many_parts(many), name
    return [_dump_nth(number, call, name) for number, call in enumerate(many)], name


def _dump_nth(number: int, call: dict[str, Any], name: str) -> str:
    try:
        return typed_json.dumps_parts(call) if name == "json" else _dumps_with(name, call, "the call")
    except SerializationError as error:
        raise SerializationError(f"calls[{number}].{error}") from error.__cause__


def load_call(text: str, name: str) -> Call:
    """Return (args, kwargs)."""
    call = loads(text, name)
    try:
        return tuple(call["args"]), dict(call["kwargs"])
    except Exception as error:
        raise DeserializationError(f"These are not the inputs of a workflow: {error!r}") from error


def dump_error(error: BaseException, *, serializer: str | None = None) -> tuple[str, str]:
    """Return (text, serializer name). Never raises: what cannot be stored is left out, or stored as its repr."""
    name = serializer or conf.SERIALIZER
    try:
        text = typed_json.dumps(error)
    except Exception:
        text = typed_json.dumps(typed_json.last_resort(error))
    if name != "json":
        with suppress(Exception):  # another serializer (it may encrypt) wraps the text: any can store one
            text = get_serializer(name).dumps(text)
    return text, name


def load_error(text: str, name: str) -> BaseException:
    """Return the recorded error. Never raises: what cannot be rebuilt comes back as RecordedError."""
    if name != "json":
        with suppress(Exception):
            text = _reader(name).loads(text)
    try:
        error = typed_json.loads(text)
    except Exception as problem:
        return RecordedError(f"The recorded error cannot be read: {problem}")
    return error if isinstance(error, BaseException) else RecordedError(f"No error was recorded, but {error!r}")


def preview(text: str | None, name: str, limit: int = 4096) -> str:
    """Return a readable form for the admin, at most ``limit`` characters long. Never raises, decodes no class."""
    shown = text or ""
    if len(shown) <= 64 * limit:  # more would cost more than the look is worth
        with suppress(Exception):
            shown = _pretty(typed_json.parse(shown))
    shown = shown.encode("utf-8", "backslashreplace").decode()
    return shown if len(shown) <= limit else f"{shown[: limit - 1]}…"


def _pretty(node: Any) -> str:
    if isinstance(node, dict) and node.get(typed_json.TAG) == "exception":
        record = node["value"]
        return str(record["traceback"] or f"{record['class']}: {record['message']}")
    return json.dumps(node, indent=2, ensure_ascii=False)
