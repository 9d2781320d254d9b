"""The one settings dict, ``DBOS = {...}``: defaults are class attributes, values are read at access time."""

from typing import Any

from django.conf import settings


class Settings:
    """Defaults of ``settings.DBOS``. Durations are seconds."""

    #: Alias of the database that holds the system tables.
    DATABASE: str = "default"
    #: Shown beside every workflow; several projects may share one database.
    APPLICATION_NAME: str = ""
    #: None: any worker may run any workflow. A string pins workflows to workers of the same version.
    APPLICATION_VERSION: str | None = None
    #: Prefix of this machine's executor ids (the host name if None). The id itself is new at each start.
    EXECUTOR_ID: str | None = None
    #: ``"json"`` or the dotted path of a ``Serializer``.
    SERIALIZER: str = "json"
    #: How many workflows one worker process runs at a time (those that wait do not count).
    CONCURRENCY: int = 16
    #: Whether a worker on PostgreSQL commits the checkpoints and outcomes of its workflows together.
    GROUPED_JOURNAL: bool = True
    #: How long a worker or a waiter trusts that nothing changed without being told.
    POLL_INTERVAL: float = 1.0
    #: How often an executor says that it is alive.
    HEARTBEAT_INTERVAL: float = 5.0
    #: After how long a silent executor's workflows go to others.
    HEARTBEAT_TIMEOUT: float = 15.0
    #: How long the rows of executors that ended are kept.
    EXECUTOR_RETENTION: float = 86400.0
    #: How long finished workflows are kept (None: for ever).
    RETENTION: float | None = None
    #: Alias, or connection string, of a direct connection for LISTEN where DATABASE goes through a pooler.
    LISTEN_DSN: str | None = None

    def __init__(self) -> None:
        #: What this process was told at run time, which counts before the settings.
        self.overrides: dict[str, Any] = {}

    def __getattribute__(self, name: str) -> Any:
        if name.isupper():
            if name in self.overrides:
                return self.overrides[name]
            overrides = getattr(settings, "DBOS", None)
            if isinstance(overrides, dict) and name in overrides:  # anything else is dbos.E001
                return overrides[name]
        return super().__getattribute__(name)

    @staticmethod
    def names() -> frozenset[str]:
        """Every key that ``settings.DBOS`` may have."""
        return frozenset(name for name in vars(Settings) if name.isupper())


conf = Settings()
