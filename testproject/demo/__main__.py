"""The command line of the demo. The settings read the environment, so that comes first and Django second."""

import argparse
import os
import signal
import sys
import tempfile
from pathlib import Path

from testproject.database import from_url

from .processes import DemoFailed, free_port, say

FIRST_PORT = 8000


def main() -> int:
    """Prepare an environment of its own, and run the demo in it; the exit code."""
    arguments = _arguments()
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    try:
        with tempfile.TemporaryDirectory(prefix="django-dbos-demo-", ignore_cleanup_errors=True) as directory:
            port = arguments.port or free_port(FIRST_PORT)
            _prepare_environment(Path(directory), port)
            return _run(Path(directory), port, once=arguments.once)
    except DemoFailed as error:
        say(f"The demo failed: {error}")
        return 1
    except KeyboardInterrupt:
        say("Stopped.")
        return 130 if arguments.once else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m testproject.demo", description="The shop and its worker.")
    parser.add_argument("--once", action="store_true", help="without a person: kill the worker half way, and report")
    parser.add_argument("--port", type=int, help="of the site (default: the first free one from 8000 on)")
    return parser.parse_args()


def _prepare_environment(directory: Path, port: int) -> None:
    """What the settings of this process and of its children say: a new database, unless one is given."""
    url = os.environ.get("DATABASE_URL") or f"sqlite:///{directory / 'demo.sqlite3'}"
    try:
        in_memory = from_url(url)["NAME"] == ":memory:"
    except ValueError as error:
        raise DemoFailed(str(error)) from None
    if in_memory:
        raise DemoFailed("site and worker share the database, so it cannot be in memory: give DATABASE_URL a file")
    os.environ["DATABASE_URL"] = url
    os.environ["SHOP_PAYMENT_URL"] = f"http://127.0.0.1:{port}/payments/"
    os.environ["DJANGO_SETTINGS_MODULE"] = "testproject.settings"
    os.environ["PYTHONUNBUFFERED"] = "1"


def _run(directory: Path, port: int, *, once: bool) -> int:
    import django

    django.setup()
    # Imported here: these need the models.
    from . import once as job
    from . import session
    from .setup import prepare

    prepare()
    return job.run(directory, port) if once else session.run(directory, port)


if __name__ == "__main__":
    sys.exit(main())
