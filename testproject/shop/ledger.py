"""The ledger: how often the code of every step ran, and in which process. It is there to check what is promised."""

import functools
import os
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from django_dbos import workflow_id

from .models import StepRun

P = ParamSpec("P")
R = TypeVar("R")


def counted(function: Callable[P, R]) -> Callable[P, R]:
    """Write a line into the ledger whenever ``function`` starts; inside a transaction it commits with it, or not."""

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        StepRun.objects.create(workflow_id=workflow_id() or "", name=function.__name__, pid=os.getpid())
        return function(*args, **kwargs)

    return call
