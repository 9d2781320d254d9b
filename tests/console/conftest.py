"""Who looks at the console."""

import pytest
from django.test import Client

from .rows import VERBS, client_with


@pytest.fixture
def viewer() -> Client:
    """May look, and nothing else."""
    return client_with("view_workflow")


@pytest.fixture
def operator() -> Client:
    """May look and use every verb."""
    return client_with("view_workflow", *(f"{verb}_workflow" for verb in VERBS))
