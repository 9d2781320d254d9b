"""Numbers, texts, containers, dates and paths."""

import base64
import pathlib
from collections.abc import Iterable
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from django.utils.functional import LazyObject, Promise, empty
from django.utils.safestring import SafeString

from .codec import HALVES, TAG, Dumper, Encoder, Loader, Refused, decode, stores, stores_family, tagged, to_text

_INT_BITS = 2000  # about 600 digits: Python may be told to convert no more than 640


# Numbers and text


@stores(int, tag="int", load=lambda node: int(node, 16))
def _dump_int(encoder: Encoder, value: int) -> Any:
    # Hexadecimal: Python's limit of digits holds for decimals only.
    return value if value.bit_length() <= _INT_BITS else tagged("int", hex(value))


@stores(float, tag="float", load=float)
def _dump_float(encoder: Encoder, value: float) -> Any:
    return value if value - value == 0 else tagged("float", repr(value))


@stores(str, tag="str", load=lambda node: base64.b64decode(node).decode("utf-8", "surrogatepass"))
def _dump_str(encoder: Encoder, value: str) -> Any:
    if not HALVES.search(value):
        return value
    return tagged("str", base64.b64encode(value.encode("utf-8", "surrogatepass")).decode())


@stores_family(SafeString, Promise)
def _dump_text(encoder: Encoder, value: Any) -> Any:
    return encoder.encode(str.__str__(str(value)))


@stores_family(LazyObject)
def _dump_lazy(encoder: Encoder, value: Any) -> Any:
    if value._wrapped is empty:
        value._setup()
    return encoder.encode(value._wrapped)


@stores(bytes, tag="bytes", load=base64.b64decode)
def _dump_bytes(encoder: Encoder, value: bytes) -> Any:
    return tagged("bytes", base64.b64encode(value).decode())


@stores(Decimal, tag="decimal", load=Decimal)
def _dump_decimal(encoder: Encoder, value: Decimal) -> Any:
    return tagged("decimal", str(value))


@stores(UUID, tag="uuid", load=UUID)
def _dump_uuid(encoder: Encoder, value: UUID) -> Any:
    return tagged("uuid", str(value))


# Containers


@stores(list, tag="list", load=decode)
def _dump_list(encoder: Encoder, value: list[Any]) -> Any:
    return value if encoder.is_plain(value) else encoder.encode_items(value)


@stores(tuple, tag="tuple", load=lambda node: tuple(decode(node)))
def _dump_tuple(encoder: Encoder, value: tuple[Any, ...]) -> Any:
    return tagged("tuple", encoder.encode_items(value))


@stores(dict, tag="dict", load=lambda node: {decode(key): decode(item) for key, item in node})
def _dump_dict(encoder: Encoder, value: dict[Any, Any]) -> Any:
    if TAG not in value and encoder.takes_keys(value):
        return value if encoder.is_plain(value.values()) else encoder.encode_values(value)
    keys = encoder.encode_items(value, ".keys()[{}]")
    return tagged("dict", [list(pair) for pair in zip(keys, encoder.encode_values(value).values(), strict=True)])


def _dump_set(tag: str) -> Dumper:
    def dump(encoder: Encoder, value: Iterable[Any]) -> Any:
        items = encoder.encode_items(value, "{{element}}")
        numbers = all(type(item) is int for item in items)
        return tagged(tag, sorted(items) if numbers else sorted(items, key=to_text))

    return dump


stores(set, tag="set", load=lambda node: set(decode(node)))(_dump_set("set"))
stores(frozenset, tag="frozenset", load=lambda node: frozenset(decode(node)))(_dump_set("frozenset"))


# Dates and times. Naive ones stay naive: a project with USE_TZ = False has no others.


def _dump_moment(encoder: Encoder, value: datetime | time) -> Any:
    tag = "datetime" if isinstance(value, datetime) else "time"
    zone = value.tzinfo.key if isinstance(value.tzinfo, ZoneInfo) else None
    if zone is None and value.tzinfo is not None and value.utcoffset() is None:
        raise Refused(f"is a {tag} in {value.tzinfo!r}, which cannot be stored: use a zoneinfo.ZoneInfo")
    if zone is None and not value.fold:
        return tagged(tag, value.isoformat())
    return tagged(tag, [(value.replace(tzinfo=None) if zone else value).isoformat(), zone, value.fold])


def _load_moment(kind: type[datetime] | type[time]) -> Loader:
    def load(node: Any) -> Any:
        if isinstance(node, str):
            return kind.fromisoformat(node)
        text, zone, fold = node
        moment = kind.fromisoformat(text)
        return moment.replace(tzinfo=ZoneInfo(zone) if zone else moment.tzinfo, fold=fold)

    return load


stores(datetime, tag="datetime", load=_load_moment(datetime))(_dump_moment)
stores(time, tag="time", load=_load_moment(time))(_dump_moment)


@stores(date, tag="date", load=date.fromisoformat)
def _dump_date(encoder: Encoder, value: date) -> Any:
    return tagged("date", value.isoformat())


@stores(timedelta, tag="timedelta", load=lambda node: timedelta(*node))
def _dump_timedelta(encoder: Encoder, value: timedelta) -> Any:
    return tagged("timedelta", [value.days, value.seconds, value.microseconds])


_PATHS = (pathlib.PosixPath, pathlib.WindowsPath, pathlib.PurePosixPath, pathlib.PureWindowsPath)


def _load_path(node: list[Any]) -> pathlib.PurePath:
    flavour, text = node[0], decode(node[1])
    kind = next(kind for kind in _PATHS if kind.__name__ == flavour)
    try:
        return kind(text)
    except NotImplementedError:  # the other operating system's path: only its name can be looked at here
        return pathlib.PureWindowsPath(text) if "Windows" in flavour else pathlib.PurePosixPath(text)


@stores(*_PATHS, tag="path", load=_load_path)
def _dump_path(encoder: Encoder, value: pathlib.PurePath) -> Any:
    return tagged("path", [type(value).__name__, encoder.encode(str(value))])
