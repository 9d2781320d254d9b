"""The engine: an encoder that looks each value's type up in a table, a decoder that looks up each tag.

Decoding finds classes among the modules that are loaded already: it imports nothing that a row names.
"""

import functools
import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from decimal import Decimal
from types import NoneType
from typing import Any, NoReturn, TypeVar
from uuid import uuid4

from django.core.exceptions import SynchronousOnlyOperation
from django.db import InterfaceError, OperationalError

from ..exceptions import DeserializationError, DuplicateRegistration, SerializationError

T = TypeVar("T")
Dumper = Callable[["Encoder", Any], Any]
Loader = Callable[[Any], Any]

TAG = "$type"
#: Deeper values are refused when they are stored: reading them might exhaust the stack of another process.
MAX_DEPTH = 100

#: An outage, or a query inside an event loop, says nothing about the value: it reaches the caller as what it is.
NOT_THE_VALUE = (OperationalError, InterfaceError, SynchronousOnlyOperation)

#: Two surrogates that JSON would join into one character.
HALVES = re.compile("[\ud800-\udbff][\udc00-\udfff]")

_JSON = frozenset({NoneType, bool, int, float, str})
_CAREFUL = frozenset({NoneType, bool})  # the numbers and texts that JSON would change are looked for one by one
_STR = frozenset({str})

# Circles are found by the Encoder, and NaN is no JSON.
to_text = json.JSONEncoder(allow_nan=False, check_circular=False, separators=(",", ":")).encode

_dumpers: dict[type, Dumper] = {}
_loaders: dict[str, Loader] = {}
_families: list[tuple[Callable[[type], bool], Dumper]] = []
_refusals: list[tuple[tuple[type, ...], Dumper]] = []
_builtin: set[type] = set()
_registered: dict[type, Dumper] = {}
_registered_names: dict[str, type] = {}


class Refused(Exception):
    """A value cannot be stored; its path is collected on the way out."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.path = ""

    def below(self, part: str) -> None:
        """Prepend the step that leads to it from the container around it."""
        self.path = part + self.path


class Encoder:
    """Turns one value into what ``json`` can write. Plain containers are passed on, not copied."""

    __slots__ = ("_active", "_downcasts", "_plain")

    def __init__(self, plain: frozenset[type] = _JSON) -> None:
        self._plain = plain
        self._active: set[int] = set()
        self._downcasts = False

    def encode(self, value: Any) -> Any:
        """Return the JSON form of the value, or raise Refused."""
        kind = type(value)
        if kind in self._plain:
            return value
        active, key = self._active, id(value)
        if key in active:
            raise Refused("contains itself, so it has no end: break the circle")
        if len(active) >= MAX_DEPTH:
            raise Refused(f"is nested more than {MAX_DEPTH} levels deep: store it flat, or as text")
        active.add(key)
        try:
            dump = _dumpers.get(kind)
            return dump(self, value) if dump is not None else self._dump_other(kind, value)
        finally:
            active.discard(key)

    def _dump_other(self, kind: type, value: Any) -> Any:
        try:
            return _dumper_for(kind)(self, value)
        except Refused:
            base = builtin_base(kind)
            if base is None or not self._downcasts:
                raise
            return self.encode(base(value))

    def is_plain(self, values: Iterable[Any]) -> bool:
        """Say whether JSON can take every one of these as it is."""
        return self._plain.issuperset(map(type, values))

    def takes_keys(self, keys: Iterable[Any]) -> bool:
        """Say whether JSON can take every one of these as a key."""
        return _STR.issuperset(map(type, keys)) and (str in self._plain or not any(map(HALVES.search, keys)))

    def encode_items(self, items: Iterable[Any], part: str = "[{}]") -> list[Any]:
        """Return the list of the encoded items."""
        encoded: list[Any] = []
        plain = self._plain
        try:
            for item in items:  # no comprehension: its length so far is the place of the refused one
                encoded.append(item if type(item) in plain else self.encode(item))  # noqa: PERF401
        except Refused as refused:
            refused.below(part.format(len(encoded)))
            raise
        return encoded

    def encode_values(self, values: dict[Any, Any], part: str = "[{!r}]") -> dict[Any, Any]:
        """Return the dict with its values encoded and its keys as they are."""
        key, encoded, plain = None, {}, self._plain
        try:
            for key, item in values.items():
                encoded[key] = item if type(item) in plain else self.encode(item)
        except Refused as refused:
            refused.below(part.format(key))
            raise
        return encoded

    @contextmanager
    def downcasting(self) -> Iterator[None]:
        """Store subclasses of built-in types as their base, for errors: half a value is better than none."""
        before, self._downcasts = self._downcasts, True
        try:
            yield
        finally:
            self._downcasts = before


def dumps(value: Any, what: str = "value") -> str:
    """Return the value as typed JSON. The paths in a SerializationError start with ``what``."""
    if value is None:
        return "null"
    return _plainly(value) or _written(lambda encoder: encoder.encode(value), what)


def dumps_parts(parts: dict[str, Any]) -> str:
    """Return a dict as typed JSON. The paths in a SerializationError start with its keys."""
    return _plainly(parts) or _written(lambda encoder: encoder.encode_values(parts, part="{}"), "")


def dumps_many_parts(many: Sequence[dict[str, Any]]) -> list[str]:
    """Return many dicts as typed JSON, see dumps_parts(): the plain ones in one go, which is several times as fast."""
    if not many:
        return []
    # One call of the encoder for all; a text that nobody can foresee tells where one ends and the next begins.
    border = uuid4().hex
    plain = _plainly([item for parts in many for item in (border, parts)][1:], MAX_DEPTH)
    return plain[1:-1].split(f',"{border}",') if plain else [dumps_parts(parts) for parts in many]


def _plainly(value: Any, depth: int = MAX_DEPTH - 1) -> str | None:
    """Return the text of what is JSON as it stands, by far the most frequent case; None for the rest."""
    try:
        text = to_text(value) if _is_json(value, depth) else None
    except (ValueError, RecursionError):  # ValueError: nan, inf, or an int with more digits than Python converts
        return None
    return None if text is None or "\\ud" in text else text


def _is_json(value: Any, depth: int) -> bool:
    kind = type(value)
    if kind is dict:
        if TAG in value or not _STR.issuperset(map(type, value)):
            return False
        value = value.values()
    elif kind is not list:
        return kind in _JSON
    if _JSON.issuperset(map(type, value)):
        return True
    if depth == 0:
        return False
    for item in value:  # noqa: SIM110 - a generator would cost half as much again
        if type(item) not in _JSON and not _is_json(item, depth - 1):
            return False
    return True


def _written(encode: Callable[[Encoder], Any], what: str) -> str:
    try:
        try:
            text = to_text(encode(Encoder()))
            if "\\ud" not in text:
                return text
        except ValueError:
            pass  # as in _plainly()
        return to_text(encode(Encoder(_CAREFUL)))
    except Refused as refused:
        raise SerializationError(f"{what}{refused.path} {refused}") from refused.__cause__
    except RecursionError:
        raise SerializationError(f"{what or 'value'} is nested too deeply: store it flat, or as text") from None
    except NOT_THE_VALUE:
        raise
    except Exception as error:
        raise SerializationError(f"{what or 'value'} cannot be stored: {error!r}") from error


def parse(text: str) -> Any:
    """Return the JSON as it was written, its tags untouched."""
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        raise
    except ValueError:  # an int written by a process that may convert more digits than this one
        return json.loads(text, parse_int=lambda digits: int(Decimal(digits)))


def loads(text: str) -> Any:
    """Return the value that was stored, or raise DeserializationError."""
    try:
        value = parse(text)
        return decode(value) if f'"{TAG}"' in text else value
    except (DeserializationError, *NOT_THE_VALUE):
        raise
    except Exception as error:
        raise DeserializationError(f"This cannot be read as typed JSON: {error!r}") from error


def decode(node: Any) -> Any:
    """Return the value of a piece of parsed JSON."""
    kind = type(node)
    if kind is list:
        return node if _JSON.issuperset(map(type, node)) else [decode(item) for item in node]
    if kind is not dict:
        return node
    if TAG in node:
        return _loader(node[TAG])(node["value"])
    return {key: decode(item) for key, item in node.items()}


def _loader(tag: str) -> Loader:
    try:
        return _loaders[tag]
    except KeyError:
        raise DeserializationError(
            f"No type is registered as {tag!r} in this process: import the module that calls register_type() for it "
            "in your workflows module"
        ) from None


def tagged(tag: str, value: Any) -> dict[str, Any]:
    """Return the JSON form of a value that plain JSON cannot express."""
    return {TAG: tag, "value": value}


def described(kind: type) -> str:
    """Return how messages name a class."""
    return f"<class {_full_name(kind)}>"


def _full_name(kind: type) -> str:
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


# Which function stores a type: the exact type, then register_type() along the MRO, then the families.


def stores(*kinds: type, tag: str, load: Loader) -> Callable[[Dumper], Dumper]:
    """Declare how exactly these types are stored; a subclass would come back as its base."""

    def declare(dump: Dumper) -> Dumper:
        _dumpers.update(dict.fromkeys(kinds, dump))
        _builtin.update(kinds)
        _loaders[tag] = load
        return dump

    return declare


def stores_where(holds: Callable[[type], bool], *, tag: str = "", load: Loader = decode) -> Callable[[Dumper], Dumper]:
    """Declare how all types are stored for which ``holds`` is true. Without a tag they become something else."""

    def declare(dump: Dumper) -> Dumper:
        _families.append((holds, dump))
        if tag:
            _loaders[tag] = load
        return dump

    return declare


def stores_family(*bases: type, tag: str = "", load: Loader = decode) -> Callable[[Dumper], Dumper]:
    """Declare how all subclasses of these types are stored."""
    return stores_where(lambda kind: issubclass(kind, bases), tag=tag, load=load)


def refuses(*bases: type, remedy: str) -> None:
    """Declare that subclasses of these types are refused, and what to do instead."""

    def refuse(encoder: Encoder, value: Any) -> NoReturn:
        raise Refused(f"is a {described(type(value))}, which cannot be stored: {remedy}")

    _refusals.append((bases, refuse))


def register_type(cls: type[T], *, dump: Callable[[T], Any], load: Callable[[Any], T], name: str | None = None) -> None:
    """Teach typed JSON a type: ``dump`` returns any storable value, ``load`` takes it back.

    Subclasses are stored as the nearest registered class. Registering a class anew under a second name keeps the
    first one readable. A name that belongs to another class raises DuplicateRegistration.
    """
    if cls in _dumpers or cls in _JSON:
        raise DuplicateRegistration(f"{described(cls)} is stored by django-dbos itself: wrap it in a class of your own")
    name = name or _full_name(cls)
    holder = _registered_names.get(name)
    if name in _loaders and (holder is None or _full_name(holder) != _full_name(cls)):
        owner = described(holder) if holder else "django-dbos"
        raise DuplicateRegistration(
            f"The type name {name!r} belongs to {owner}: give {described(cls)} another, register_type(..., name=...)"
        )
    _registered_names[name] = cls
    _registered[cls] = functools.partial(_dump_registered, name, dump)
    _loaders[name] = functools.partial(_load_registered, name, load)
    _dumper_for.cache_clear()


def _dump_registered(name: str, dump: Callable[[Any], Any], encoder: Encoder, value: Any) -> Any:
    try:
        stored = dump(value)
    except NOT_THE_VALUE:
        raise
    except Exception as error:
        raise Refused(f"cannot be stored: the dump function of {name!r} failed with {error!r}") from error
    return tagged(name, encoder.encode(stored))


def _load_registered(name: str, load: Callable[[Any], Any], node: Any) -> Any:
    stored = decode(node)
    try:
        return load(stored)
    except NOT_THE_VALUE:
        raise
    except Exception as error:
        raise DeserializationError(f"The load function of {name!r} failed with {error!r}") from error


@functools.lru_cache(maxsize=1024)
def _dumper_for(kind: type) -> Dumper:
    for ancestor in kind.__mro__:
        if ancestor in _registered:
            return _registered[ancestor]
    for holds, dump in _families:
        if holds(kind):
            return dump
    base = builtin_base(kind)
    if base is not None:
        # freezegun's dates are the real ones in disguise: a test must not need another code path.
        return _dumpers[base] if kind.__module__ == "freezegun.api" else functools.partial(_refuse_subclass, base)
    return next((refuse for bases, refuse in _refusals if issubclass(kind, bases)), _refuse_object)


def _refuse_subclass(base: type, encoder: Encoder, value: Any) -> NoReturn:
    kind = type(value)
    raise Refused(
        f"is a {described(kind)}, which cannot be stored: it would come back as a plain {base.__name__}; "
        f"pass {base.__name__}(...), or register_type({kind.__name__}, ...)"
    )


def _refuse_object(encoder: Encoder, value: Any) -> NoReturn:
    kind = type(value)
    raise Refused(
        f"is a {described(kind)}, which cannot be stored: "
        f"pass its id, make it a dataclass, or register_type({kind.__name__}, ...)"
    )


def builtin_base(kind: type) -> type | None:
    """Return the type that a subclass of a stored built-in type would come back as."""
    return next((base for base in kind.__mro__ if base in _builtin), None)
