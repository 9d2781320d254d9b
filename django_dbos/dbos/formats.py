"""How values are stored, in the words of programs: they may bring a serializer of their own."""

import json
from abc import ABC, abstractmethod
from enum import StrEnum
from typing import Any

from .config import PORTABLE


class WorkflowSerializationFormat(StrEnum):
    """Says nothing here: all that is stored is JSON."""

    DEFAULT = "default"
    NATIVE = "native"
    PORTABLE = "portable"


class Serializer(ABC):
    """Turns values into text and back."""

    @abstractmethod
    def serialize(self, data: Any) -> str:
        """The value as a text."""

    @abstractmethod
    def deserialize(self, serialized_data: str) -> Any:
        """The value of a text."""

    @abstractmethod
    def name(self) -> str:
        """Its name, which is stored in every row that it wrote."""


class DBOSPortableJSONSerializer(Serializer):
    """Plain JSON; as the configuration's serializer it stands for ours, which is JSON, too."""

    def serialize(self, data: Any) -> str:
        """The value as a text."""
        return json.dumps(data)

    def deserialize(self, serialized_data: str) -> Any:
        """The value of a text."""
        return json.loads(serialized_data)

    def name(self) -> str:
        """Its name."""
        return PORTABLE
