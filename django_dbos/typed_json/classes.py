"""Enums, NamedTuples, dataclasses, pydantic models.

An object names its class as ``module:qualname`` and is rebuilt field by field, without its ``__init__``.
"""

import dataclasses
import enum
import sys
from collections.abc import Callable
from typing import Any

from django.db import models

from ..exceptions import DeserializationError
from .codec import Encoder, Refused, builtin_base, decode, described, stores_family, stores_where, tagged


def class_path(kind: type) -> str:
    """Return the name under which a class is found again, or raise Refused."""
    path = f"{kind.__module__}:{kind.__qualname__}"
    if "<locals>" in kind.__qualname__:
        raise Refused(
            f"is a {described(kind)}, which cannot be stored: it is defined inside a function, where it could not be "
            "found again; define it at the top of a module"
        )
    if _lookup(path) is not kind:
        raise Refused(
            f"is a {described(kind)}, which cannot be stored: the name {path!r} does not lead back to this class"
        )
    return path


def find_class(path: str, role: str, holds: Callable[[type], bool]) -> type[Any]:
    """Return the loaded class of that name if it is what the tag says, or raise DeserializationError."""
    found, module = _lookup(path), path.partition(":")[0]
    if found is None and module not in sys.modules:
        raise DeserializationError(
            f"{path!r} cannot be read back: the module {module!r} is not loaded in this process, and reading never "
            "imports one; import it in your workflows module, or use register_type()"
        )
    if found is None:
        raise DeserializationError(f"{path!r} cannot be read back: {module!r} has no such class (renamed or moved?)")
    if not holds(found):
        raise DeserializationError(f"{path!r} cannot be read back: it is not {role}")
    return found


def _lookup(path: str) -> type | None:
    """Walk the plain namespaces only: a getattr() might run a module's or a metaclass's __getattr__."""
    module, _, qualname = path.partition(":")
    found: Any = sys.modules.get(module)
    for part in qualname.split("."):
        try:
            found = (
                object.__getattribute__(found, "__dict__").get(part)
                if not isinstance(found, type)
                else (type.__getattribute__(found, "__dict__").get(part))
            )
        except AttributeError:
            return None
    return found if isinstance(found, type) else None


def _is_enum(kind: type) -> bool:
    return issubclass(kind, enum.Enum)


def _load_enum(node: dict[str, Any]) -> enum.Enum:
    kind: type[enum.Enum] = find_class(node["class"], "an Enum", _is_enum)
    if "value" in node and issubclass(kind, enum.Flag):
        return kind(decode(node["value"]))
    try:
        return kind.__members__[node["name"]]
    except KeyError:
        raise DeserializationError(f"{described(kind)} has no member {node['name']!r} any more") from None


@stores_family(enum.Enum, tag="enum", load=_load_enum)
def _dump_enum(encoder: Encoder, value: enum.Enum) -> Any:
    path = class_path(type(value))
    if isinstance(value, enum.Flag):  # a combination has no member of its own
        return tagged("enum", {"class": path, "value": encoder.encode(int(value.value))})
    return tagged("enum", {"class": path, "name": value.name})


def _is_namedtuple(kind: type) -> bool:
    return issubclass(kind, tuple) and hasattr(kind, "_fields")


def _dump_namedtuple(encoder: Encoder, value: Any) -> Any:
    fields = dict(zip(value._fields, value, strict=True))
    return tagged("namedtuple", {"class": class_path(type(value)), "fields": encoder.encode_values(fields, ".{}")})


def _load_namedtuple(node: dict[str, Any]) -> tuple[Any, ...]:
    kind = find_class(node["class"], "a NamedTuple", _is_namedtuple)
    fields = {**kind._field_defaults, **{key: decode(item) for key, item in node["fields"].items()}}
    return tuple.__new__(kind, [_present(kind, fields, name) for name in kind._fields])


stores_where(_is_namedtuple, tag="namedtuple", load=_load_namedtuple)(_dump_namedtuple)


def _present(kind: type, fields: dict[str, Any], name: str) -> Any:
    if name in fields:
        return fields[name]
    raise DeserializationError(
        f"{described(kind)} has the field {name!r}, which was not stored and has no default: give it one"
    )


def _is_dataclass(kind: type) -> bool:
    # A dataclass that is an error, a model or a dict as well holds more than its fields.
    others = (BaseException, models.Model)
    return dataclasses.is_dataclass(kind) and not issubclass(kind, others) and builtin_base(kind) is None


def _dump_dataclass(encoder: Encoder, value: Any) -> Any:
    kind, path = type(value), class_path(type(value))
    names = [field.name for field in dataclasses.fields(value)]
    for name in vars(value).keys() - names if hasattr(value, "__dict__") else ():
        # What the class itself can compute (a cached property) is no loss.
        if not name.startswith("__") and not hasattr(kind, name):
            raise Refused(f"is a {described(kind)} with the attribute {name!r}, which is no field: make it one")
    for name in names:
        if not hasattr(value, name):
            raise Refused(f"is a {described(kind)} without a value for its field {name!r}")
    fields = encoder.encode_values({name: getattr(value, name) for name in names}, ".{}")
    return tagged("dataclass", {"class": path, "fields": fields})


def _load_dataclass(node: dict[str, Any]) -> Any:
    kind = find_class(node["class"], "a dataclass", _is_dataclass)
    stored = {key: decode(item) for key, item in node["fields"].items()}
    value = object.__new__(kind)
    for field in dataclasses.fields(kind):
        if field.name not in stored and field.default is not dataclasses.MISSING:
            stored[field.name] = field.default
        if field.name not in stored and field.default_factory is not dataclasses.MISSING:
            stored[field.name] = field.default_factory()
        object.__setattr__(value, field.name, _present(kind, stored, field.name))
    return value


stores_where(_is_dataclass, tag="dataclass", load=_load_dataclass)(_dump_dataclass)


def _pydantic_base() -> Any:
    base = getattr(sys.modules.get("pydantic.main"), "BaseModel", None)
    return base if hasattr(base, "model_validate") else None


def _is_pydantic(kind: type) -> bool:
    base = _pydantic_base()
    return base is not None and issubclass(kind, base)


def _dump_pydantic(encoder: Encoder, value: Any) -> Any:
    # Not model_dump(): it cuts a nested model down to its field's declared class.
    node = {"class": class_path(type(value)), "set": sorted(value.model_fields_set)}
    if getattr(value, "__pydantic_root_model__", False):
        return tagged("pydantic", {**node, "root": encoder.encode(value.root)})
    return tagged("pydantic", {**node, "fields": encoder.encode_values(dict(value), ".{}")})


def _load_pydantic(node: dict[str, Any]) -> Any:
    kind = find_class(node["class"], "a pydantic model", _is_pydantic)
    stored = decode(node["root"]) if "root" in node else {key: decode(item) for key, item in node["fields"].items()}
    try:
        value = kind.model_validate(stored, by_alias=True, by_name=True)
    except TypeError:  # pydantic before 2.11 has no by_name
        value = kind.model_validate(stored)
    value.model_fields_set.intersection_update(node["set"])
    return value


stores_where(_is_pydantic, tag="pydantic", load=_load_pydantic)(_dump_pydantic)
