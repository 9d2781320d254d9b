"""Exceptions: class, arguments, message, attributes, traceback text and cause, as far as each can be stored."""

import traceback
import types
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

from django.core.exceptions import ValidationError

from ..exceptions import RecordedError
from .classes import find_class
from .codec import Encoder, decode, stores_family, tagged

#: The last characters of a traceback that are kept.
MAX_TRACEBACK = 50_000


def _dump_exception(encoder: Encoder, error: BaseException) -> Any:
    with encoder.downcasting():
        state = {key: item for key, item in vars(error).items() if key not in _derived_state(error)}
        return tagged(
            "exception",
            {
                "class": _error_path(error),
                "message": encoder.encode(_message(error)),
                "args": [node for _, node in _storable(encoder, dict(enumerate(error.args)), or_repr=True)],
                "state": dict(_storable(encoder, state)),
                "members": dict(_storable(encoder, dict(_members(error)))),
                "traceback": encoder.encode(_traceback(error)),
                "cause": next((node for _, node in _storable(encoder, {"": error.__cause__})), None),
            },
        )


def last_resort(error: BaseException) -> RecordedError:
    return RecordedError(_message(error), type_name=_error_path(error).replace(":", "."), traceback=_traceback(error))


def _error_path(error: BaseException) -> str:
    # Not refused where it cannot be found again: it comes back as RecordedError then.
    return f"{type(error).__module__}:{type(error).__qualname__}"


def _storable(encoder: Encoder, values: dict[Any, Any], or_repr: bool = False) -> Iterator[tuple[Any, Any]]:
    for key, value in values.items():
        try:
            yield key, encoder.encode(value)
        except Exception:
            if or_repr:
                yield key, encoder.encode(_safely(repr, value))


def _safely(show: Callable[[Any], str], value: Any) -> str:
    try:
        return str.__str__(show(value))
    except Exception as error:
        return f"<{type(value).__qualname__} (its {show.__name__}() raised {type(error).__name__})>"


def _message(error: BaseException) -> str:
    return _safely(str, error)


def _traceback(error: BaseException) -> str:
    try:
        text = "".join(traceback.format_exception(error))
    except Exception:
        text = f"{_error_path(error)}: {_message(error)}"
    recorded = vars(error).get("recorded_traceback")
    text = f"{recorded}\nRaised again:\n{text}" if recorded else text
    return text if len(text) <= MAX_TRACEBACK else f"…{text[-MAX_TRACEBACK:]}"


def _derived_state(error: BaseException) -> tuple[str, ...]:
    # ValidationError computes its lists from its arguments, and lists itself in them.
    own = ("error_list", "error_dict", "message", "code", "params") if isinstance(error, ValidationError) else ()
    return ("recorded_traceback", *own)


def _members(error: BaseException) -> Iterator[tuple[str, Any]]:
    """Yield what built-in exceptions keep outside ``args`` and ``__dict__``, like OSError.filename."""
    for name in _member_names(type(error)):
        with suppress(AttributeError):
            if (value := getattr(error, name)) is not None:
                yield name, value


def _member_names(kind: type) -> set[str]:
    return {
        name
        for base in kind.__mro__
        if base.__module__ == "builtins"
        for name, member in vars(base).items()
        if isinstance(member, types.MemberDescriptorType | types.GetSetDescriptorType)
        # AttributeError.obj may be anything, and big.
        and not name.startswith("__")
        and name not in ("args", "obj")
    }


def _load_exception(record: dict[str, Any]) -> BaseException:
    message, text = decode(record["message"]), decode(record["traceback"])
    try:
        error = _rebuilt(record)
        str(error)  # what cannot even say what happened must not travel on
    except Exception:
        error = _recorded(record, message, text)
    vars(error)["recorded_traceback"] = text
    cause = record.get("cause") and _decoded_or_raw(record["cause"])
    error.__cause__ = cause if isinstance(cause, BaseException) else None
    return error


def _rebuilt(record: dict[str, Any]) -> BaseException:
    kind = find_class(record["class"], "an exception", lambda it: issubclass(it, BaseException))
    args = [_decoded_or_raw(node) for node in record["args"]]
    error: BaseException = kind(*args) if kind.__module__ == "builtins" else kind.__new__(kind, *args)
    if isinstance(error, ValidationError):
        ValidationError.__init__(error, *args)
    error.args = tuple(args)
    for name in _member_names(kind) & record["members"].keys():
        with suppress(Exception):
            setattr(error, name, decode(record["members"][name]))
    for name, node in record["state"].items():
        with suppress(Exception):
            vars(error)[name] = decode(node)
    return error


def _decoded_or_raw(node: Any) -> Any:
    try:
        return decode(node)
    except Exception:  # the class of the error decides how a workflow goes on; one lost argument must not change it
        return node


def _recorded(record: dict[str, Any], message: str, text: str) -> RecordedError:
    arguments = tuple(_decoded_or_raw(node) for node in record["args"])
    return RecordedError(message, type_name=record["class"].replace(":", "."), arguments=arguments, traceback=text)


stores_family(BaseException, tag="exception", load=_load_exception)(_dump_exception)
