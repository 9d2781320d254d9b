"""Classes whose methods are workflows."""

import logging
from functools import partial
from typing import Any, TypeVar

from .. import classes
from ..registry import class_registry
from .lifecycle import life

logger = logging.getLogger("django_dbos")

C = TypeVar("C", bound=type)


def dbos_class(class_name: Any = None) -> Any:
    """Register a class, so that any process finds it for its workflows; bare, called, or called with a name."""

    def decorate(cls: C) -> C:
        name = cls.__qualname__ if class_name is None or class_name is cls else class_name
        known = class_registry.find(name, "")
        if known is not None and known is not cls:
            logger.warning("The class %r is registered again: the name now means the later class", name)
            class_registry.forget(known)
        life.on_forget(partial(class_registry.forget, cls))
        registered: C = classes.dbos_class(class_name=name)(cls)
        return registered

    return decorate(class_name) if isinstance(class_name, type) else decorate


class DBOSConfiguredInstance(classes.ConfiguredInstance):
    """Base of classes whose instances have workflows: an instance is found again by its class and its name."""

    def __init__(self, config_name: str) -> None:
        self.config_name = config_name
        super().__init__(config_name)
