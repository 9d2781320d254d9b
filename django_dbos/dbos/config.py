"""The configuration that ``DBOS(config=...)`` is given, in terms of the settings dict ``DBOS = {...}``."""

import logging
import os
from collections.abc import Callable, Mapping
from typing import Any, TypedDict
from urllib.parse import urlsplit

from ..serialization import register_serializer
from ..sysdb import vendor
from .error import DBOSInitializationError

logger = logging.getLogger("django_dbos")


class DBOSConfig(TypedDict, total=False):
    """What programs say at ``DBOS(config=...)``; see docs/dbos.md for what becomes of each."""

    name: str
    system_database_url: str | None
    application_database_url: str | None
    database_url: str | None
    dbos_system_schema: str | None
    sys_db_pool_size: int | None
    db_engine_kwargs: dict[str, Any] | None
    system_database_engine: Any
    use_listen_notify: bool | None
    run_migrations: bool | None
    application_version: str | None
    executor_id: str | None
    serializer: Any
    max_executor_threads: int | None
    notification_listener_polling_interval_sec: float | None
    scheduler_polling_interval_sec: float | None
    log_level: str | None
    console_log_level: str | None
    otlp_log_level: str | None
    enable_patching: bool | None
    enable_otlp: bool | None
    run_admin_server: bool | None
    admin_port: int | None
    conductor_key: str | None
    conductor_url: str | None


#: What the project's DATABASES, LOGGING and workers say here, so that it has no effect in a config.
_ELSEWHERE = frozenset(
    {
        *("system_database_url", "application_database_url", "database_url", "dbos_system_schema"),
        *("sys_db_pool_size", "sys_db_polling_concurrency", "db_engine_kwargs", "system_database_engine"),
        *("app_db_pool_size", "sys_db_idle_transaction_timeout_sec", "observability_query_timeout_sec"),
        *("use_listen_notify", "run_migrations", "enable_patching", "notification_coalesce_sec"),
        *("scheduler_polling_interval_sec", "kafka_queue_polling_interval_sec"),
        *("console_log_level", "otlp_log_level", "enable_otlp", "otlp_traces_endpoints", "otlp_logs_endpoints"),
        *("otlp_attributes", "otel_attribute_format", "run_admin_server", "admin_port"),
        *("conductor_key", "conductor_url", "conductor_executor_metadata", "conductor_metadata_only_mode"),
        *("language", "database", "runtimeConfig", "telemetry", "env"),
    }
)


#: The name of the serializer whose text other languages can read; ours is JSON anyway.
PORTABLE = "portable_json"


class _Adapted:
    """A program's serializer (serialize, deserialize, name) as one of ours."""

    def __init__(self, theirs: Any) -> None:
        self.name = str(theirs.name())
        self.dumps = theirs.serialize
        self.loads = theirs.deserialize


def _name(value: Any) -> Any:
    if not isinstance(value, str) or not value:
        raise DBOSInitializationError(f"name is the application's name, a text, not {value!r}.")
    return value


def _serializer(value: Any) -> Any:
    """Our settings name a serializer; one that is given as an object is known by its own name from now on."""
    if isinstance(value, str):
        return value
    adapted = _Adapted(value)
    if adapted.name == PORTABLE:
        return "json"
    register_serializer(adapted)
    return adapted.name


def _as_it_is(value: Any) -> Any:
    return value


#: Their key -> (our setting, how a value is translated).
_SETTINGS: Mapping[str, tuple[str, Callable[[Any], Any]]] = {
    "name": ("APPLICATION_NAME", _name),
    "application_version": ("APPLICATION_VERSION", _as_it_is),
    "executor_id": ("EXECUTOR_ID", _as_it_is),
    "serializer": ("SERIALIZER", _serializer),
    "max_executor_threads": ("CONCURRENCY", _as_it_is),
    "notification_listener_polling_interval_sec": ("POLL_INTERVAL", _as_it_is),
}

#: Environment variable -> our setting; it wins over the config.
_ENVIRONMENT: Mapping[str, str] = {"DBOS__APPVERSION": "APPLICATION_VERSION", "DBOS__VMID": "EXECUTOR_ID"}


def warn_of_other_database(url: Any) -> None:
    """Say so if a URL names another database than the one that the package uses."""
    if not isinstance(url, str) or not url:
        return
    mine, theirs = str(vendor.connection().settings_dict["NAME"]), urlsplit(url).path.lstrip("/")
    if theirs and theirs.rsplit("/", 1)[-1] != mine.rsplit("/", 1)[-1]:
        logger.warning("The database %r is not used: the tables are in DATABASES[%r]", theirs, vendor.alias())


def settings_of(config: Mapping[str, Any] | None) -> dict[str, Any]:
    """The settings that a config and the environment stand for; raises DBOSInitializationError for what is no key."""
    config = {key: value for key, value in (config or {}).items() if value is not None}
    unknown = sorted(config.keys() - _SETTINGS.keys() - _ELSEWHERE - {"log_level"})
    if unknown:
        raise DBOSInitializationError(f"There is no configuration key {', '.join(unknown)}; see docs/dbos.md.")
    warn_of_other_database(config.get("system_database_url"))
    if "log_level" in config:
        logger.setLevel(config["log_level"])
    settings = {name: translate(config[key]) for key, (name, translate) in _SETTINGS.items() if key in config}
    settings.update({name: os.environ[key] for key, name in _ENVIRONMENT.items() if os.environ.get(key)})
    return settings
