"""The suite's settings, for workers whose rhythm is the default one: waiting costs what it costs in production."""

from tests.settings import *  # noqa: F403

DBOS = dict[str, object]()
