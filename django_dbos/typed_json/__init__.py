"""Typed JSON, the built-in serializer's format: what JSON lacks is ``{"$type": tag, "value": ...}``.

``codec`` is the engine; each other module declares, when it is imported, how its types are stored.
"""

from . import classes, django_objects, plain, refusals
from .codec import NOT_THE_VALUE, TAG, dumps, dumps_many_parts, dumps_parts, loads, parse, register_type
from .errors import last_resort

__all__ = [
    "NOT_THE_VALUE",
    "TAG",
    "classes",
    "django_objects",
    "dumps",
    "dumps_many_parts",
    "dumps_parts",
    "last_resort",
    "loads",
    "parse",
    "plain",
    "refusals",
    "register_type",
]
