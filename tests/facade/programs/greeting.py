"""The first program of every guide: a workflow of two steps."""

from django_dbos.dbos import DBOS, DBOSConfig

config: DBOSConfig = {"name": "greeting-service"}
DBOS(config=config)

log: list[str] = []


@DBOS.step()
def look_up(name: str) -> str:
    log.append(f"looked up {name}")
    return name.title()


@DBOS.step()
def write_card(name: str) -> str:
    log.append(f"wrote to {name}")
    return f"Dear {name},"


@DBOS.workflow()
def greet(name: str) -> str:
    return write_card(look_up(name))


def main() -> str:
    DBOS.launch()
    return greet("ada")
