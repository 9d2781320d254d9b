"""``DBOS``: the package under the names that programs written for DBOS Transact for Python know."""

import logging
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, TypeVar

from django.core.management import call_command

from .. import context, versions
from ..conf import conf
from ..roles import default_required_roles
from . import classes, decorators, names, roles
from .calls import CALLS, current_roles, current_step
from .config import DBOSConfig
from .decorators import Decorator
from .error import DBOSException
from .lifecycle import empty_tables, life, off_the_loop

F = TypeVar("F", bound=Callable[..., Any])


class _Property:
    """A value that is asked for anew each time, on the class as well as on its instance."""

    def __init__(self, getter: Callable[[], Any]) -> None:
        self._getter = getter
        self.__doc__ = getter.__doc__

    def __get__(self, instance: object, owner: type) -> Any:
        return self._getter()


class _Names(type):
    """Says of a name that does not exist which do."""

    def __getattr__(cls, name: str) -> Any:
        raise AttributeError(_no_such(name))


def _no_such(name: str) -> str:
    plain = name.removesuffix("_async")
    if plain in names.TO_COME:
        return f"DBOS.{name} is not there yet: see docs/dbos.md."
    if plain == "sql_session":
        return "There is no DBOS.sql_session: the body of a transaction uses the ORM."
    there = sorted(known for known in vars(DBOS) if not known.startswith("_") and not known.endswith("_async"))
    return f"There is no DBOS.{name}. There are: {', '.join(there)}; most have an _async twin."


class DBOS(metaclass=_Names):
    """One worker in this process, and all that can be asked of the package, under names that programs know.

    ``DBOS(config=...)`` is optional: what it does not say, the project's settings say.
    """

    _instance: ClassVar["DBOS | None"] = None

    def __new__(cls, *, config: DBOSConfig | None = None, **ignored: Any) -> "DBOS":
        """The one instance; a second one is the first."""
        if cls._instance is None:
            life.configure(config)
            cls._instance = super().__new__(cls)
        return cls._instance

    def __init__(self, *, config: DBOSConfig | None = None, **ignored: Any) -> None:
        """See __new__()."""

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(_no_such(name))

    # ---- life

    @staticmethod
    def launch() -> None:
        """Start a worker in this process: it runs what is started here, and takes its share of the queues."""
        life.launch()

    @classmethod
    def destroy(cls, *, destroy_registry: bool = False, workflow_completion_timeout_sec: float = 0) -> None:
        """Stop the worker of this process; what it has not finished goes on in its next life, or elsewhere.

        ``workflow_completion_timeout_sec``: how long what runs may take to end by itself. ``destroy_registry``: also
        forget every function, class, instance and queue that was declared through this facade.
        """
        life.destroy(forget=destroy_registry, patience=workflow_completion_timeout_sec)
        cls._instance = None

    @staticmethod
    def migrate(system_database_url: str | None = None, **ignored: Any) -> None:
        """Make the tables: ``manage.py migrate`` for the package alone."""
        off_the_loop(lambda: call_command("migrate", "dbos", database=conf.DATABASE, verbosity=0))

    @staticmethod
    def reset_system_database(**ignored: Any) -> None:
        """For tests: delete every row of the package's tables; before launch."""
        if life.executor_id is not None:
            raise DBOSException("reset_system_database() has to be called before launch().")
        off_the_loop(empty_tables)

    @staticmethod
    def listen_queues(queues: Sequence[Any]) -> None:
        """Serve these queues only; before launch."""
        life.listen(queues)

    # ---- declarations

    workflow: ClassVar[Decorator] = staticmethod(decorators.workflow)
    step: ClassVar[Decorator] = staticmethod(decorators.step)
    transaction: ClassVar[Decorator] = staticmethod(decorators.transaction)
    scheduled = staticmethod(decorators.scheduled)
    dbos_class = staticmethod(classes.dbos_class)
    required_roles = staticmethod(roles.required_roles)
    default_required_roles = staticmethod(default_required_roles)

    @staticmethod
    def register_instance(instance: object) -> None:
        """Nothing is left to do: a DBOSConfiguredInstance is registered by its making."""

    @staticmethod
    def alert_handler(function: F) -> F:
        """Nothing calls it: alerts come from a control plane that does not exist here."""
        return function

    # ---- where the running code is

    workflow_id = _Property(context.workflow_id)
    step_id = _Property(context.step_id)
    step_status = _Property(current_step)
    authenticated_user = _Property(context.authenticated_user)
    authenticated_roles = _Property(current_roles)
    assumed_role = _Property(context.assumed_role)
    logger = _Property(lambda: logging.getLogger("django_dbos"))
    executor_id = _Property(lambda: life.executor_id or conf.EXECUTOR_ID or "local")
    application_version = _Property(versions.application_version)


for _name, _function in CALLS.items():
    setattr(DBOS, _name, staticmethod(_function))
