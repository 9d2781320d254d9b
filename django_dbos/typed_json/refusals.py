"""What is refused with advice of its own; anything unknown gets the general one."""

import functools
import types
from collections import deque
from collections.abc import AsyncIterator, Coroutine, Iterator, KeysView, ValuesView
from concurrent.futures import Future
from io import IOBase
from threading import Lock, RLock

from .codec import refuses

refuses(IOBase, remedy="save it and pass its path, or pass its bytes")
refuses(type(Lock()), type(RLock()), Future, remedy="it lives in this process only; create it where it is used")
refuses(type, remedy="pass its name")
refuses(types.ModuleType, remedy="pass its name")
refuses(
    types.FunctionType,
    types.BuiltinFunctionType,
    types.MethodType,
    functools.partial,
    remedy="pass its name, or call it in a step and pass the result",
)
refuses(Coroutine, remedy="await it and pass the result")
refuses(Iterator, AsyncIterator, range, deque, KeysView, ValuesView, remedy="pass list(...) of it")
refuses(bytearray, memoryview, remedy="pass bytes(...) of it")
