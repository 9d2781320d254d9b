"""Versions: which code a workflow belongs to. By default to none: any worker that knows the function may run it.

With ``APPLICATION_VERSION`` workflows carry the version of the process that starts them, and only workers of that
version run them. What no live worker serves is found by :func:`unserved_versions`.
"""

import hashlib
import inspect
import logging
from collections.abc import Coroutine
from functools import partial
from textwrap import dedent
from types import CodeType
from typing import Any

from asgiref.sync import markcoroutinefunction
from django.apps import apps

from .bridge import adrive, drive
from .conf import conf
from .exceptions import InvalidOption
from .models import ApplicationVersion
from .operations import committed_call, recorded_call
from .registry import TEMPORARY, WorkflowDefinition, workflow_registry
from .sysdb import versions
from .validation import short_text

logger = logging.getLogger("django_dbos")

#: The setting that asks for a hash of the registered workflows' source.
AUTO = "auto"
_LENGTH = 32
_fixed: list[str] = []


def application_version() -> str:
    """The version of this process, "" if it has none. What "auto" stands for is fixed when it is first asked for."""
    version: object = conf.APPLICATION_VERSION
    if version is None:
        return ""
    if version == AUTO:
        return _fixed[0] if _fixed else fix_application_version()
    try:
        return short_text("APPLICATION_VERSION", version)
    except InvalidOption as error:
        raise InvalidOption(f'{error} None stands for no version, "auto" for a hash of the source.') from None


def fix_application_version() -> str:
    """The version of this process; what "auto" stands for is found out anew, for the functions known by now."""
    if conf.APPLICATION_VERSION != AUTO:
        return application_version()
    version = source_hash()
    if apps.ready:  # before, not all of them are known
        _fixed[:] = [version]
    return version


def source_hash() -> str:
    """A hash of the source of every registered workflow: the same code gives the same one, wherever it runs."""
    digest = hashlib.sha256()
    for name in workflow_registry.names():
        definition = workflow_registry.find(name)
        if definition is not None and not _is_ours(definition):
            digest.update(repr((name, _source(definition.function))).encode("utf-8", "surrogatepass"))
    return digest.hexdigest()[:_LENGTH]


def _is_ours(definition: WorkflowDefinition) -> bool:
    """Whether the package made it, for a step that was started alone, say: some processes do, others do not."""
    module = getattr(definition.function, "__module__", None) or ""
    return definition.name.startswith(TEMPORARY) or module.split(".")[0] == __package__


def _source(function: Any) -> str:
    function = inspect.unwrap(function)
    if not (inspect.isroutine(function) or inspect.isclass(function)):
        function = type(function)
    try:
        return dedent(inspect.getsource(function))
    except (OSError, TypeError):  # typed into a shell, or shipped without its source
        return _compiled(getattr(function, "__code__", None))


def _compiled(code: CodeType | None) -> str:
    if code is None:
        return ""
    constants = [_compiled(each) if isinstance(each, CodeType) else _constant(each) for each in code.co_consts]
    return repr((code.co_code.hex(), constants, code.co_names, code.co_varnames))


def _constant(value: object) -> str:
    # The order of a set differs from process to process.
    return repr(sorted(map(repr, value))) if isinstance(value, frozenset) else repr(value)


def register_application_version(version: str) -> None:
    """Write down that a worker of this version starts; a new version is the latest from now on."""
    if not version:
        return
    versions.register(version)
    latest = versions.latest()
    if latest is not None and latest.name != version:
        logger.warning(
            "This worker is of version %s, the latest is %s: it takes what is of its own version, and what is of none "
            "only if no other worker wants it. set_latest_application_version() makes it the latest",
            version,
            latest.name,
        )


def list_application_versions() -> list[ApplicationVersion]:
    """Every version that a worker has had here, the latest first."""
    return drive(recorded_call("DBOS.listApplicationVersions", versions.listed))


@markcoroutinefunction
def alist_application_versions() -> Coroutine[Any, Any, list[ApplicationVersion]]:
    """See list_application_versions()."""
    return adrive(recorded_call("DBOS.listApplicationVersions", versions.listed))


def get_latest_application_version() -> ApplicationVersion | None:
    """The version that was made latest last; None if no worker ever had one."""
    return drive(recorded_call("DBOS.getLatestApplicationVersion", versions.latest))


@markcoroutinefunction
def aget_latest_application_version() -> Coroutine[Any, Any, ApplicationVersion | None]:
    """See get_latest_application_version()."""
    return adrive(recorded_call("DBOS.getLatestApplicationVersion", versions.latest))


def set_latest_application_version(name: str) -> None:
    """Make a version the latest: its workers come first for workflows that have none. Raises UnknownVersion."""
    drive(committed_call("DBOS.setLatestApplicationVersion", _make_latest(name)))


@markcoroutinefunction
def aset_latest_application_version(name: str) -> Coroutine[Any, Any, None]:
    """See set_latest_application_version()."""
    return adrive(committed_call("DBOS.setLatestApplicationVersion", _make_latest(name)))


def _make_latest(name: str) -> partial[None]:
    return partial(versions.make_latest, short_text("A version", name))


def unserved_versions() -> dict[str, int]:
    """How many workflows wait for each version that no live worker serves.

    ``{}``: all are served. "" stands for workflows of no version, which wait only if no worker is alive at all.
    """
    return drive(recorded_call("DBOS.unservedVersions", versions.unserved))


@markcoroutinefunction
def aunserved_versions() -> Coroutine[Any, Any, dict[str, int]]:
    """See unserved_versions()."""
    return adrive(recorded_call("DBOS.unservedVersions", versions.unserved))
