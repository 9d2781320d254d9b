"""The demo for a person: site and worker until Ctrl-C; a worker that dies is replaced."""

import os
import threading
from pathlib import Path
from typing import NoReturn

from .processes import Child, DemoFailed, Processes, say
from .setup import LOGIN, PASSWORD, place_orders

#: Seconds between a worker's death and the start of the next.
GRACE = 1.0
WATCH = 0.2


def run(directory: Path, port: int) -> NoReturn:
    """Start everything, say where it is, and keep a worker alive."""
    with Processes(directory, port) as processes:
        site = processes.start_site()
        worker = processes.start_worker()
        place_orders()
        _greet(processes.address)
        _keep_alive(processes, site, worker)


def _greet(address: str) -> None:
    say()
    say(f"  Shop      {address}")
    say(f"  Console   {address}admin/    login {LOGIN}, password {PASSWORD}")
    say(f"  Database  {os.environ['DATABASE_URL'].rsplit('@', 1)[-1]}")
    say()
    say("Buy something, and press 'Crash the worker' while it ships. Ctrl-C ends the demo.")
    say()


def _keep_alive(processes: Processes, site: Child, worker: Child) -> NoReturn:
    """Start another worker whenever one has died, until Ctrl-C."""
    never = threading.Event()
    while True:
        never.wait(WATCH)
        if not site.alive:
            raise DemoFailed(f"the site has ended ({site.ending})")
        if worker.alive:
            continue
        say(f"Worker {worker.pid} died ({worker.ending}); another one starts in {GRACE:g} s.")
        never.wait(GRACE)
        worker = processes.start_worker()
