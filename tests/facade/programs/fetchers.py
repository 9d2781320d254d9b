"""Workflows as methods: of a configured instance, of a class, and static ones."""

from django_dbos.dbos import DBOS, DBOSConfiguredInstance, Queue

DBOS(config={"name": "fetchers"})

queue = Queue("fetchers")


@DBOS.dbos_class()
class Fetcher(DBOSConfiguredInstance):
    prefix = "https://"

    def __init__(self, host: str) -> None:
        self.host = host
        super().__init__(config_name=host)

    @DBOS.workflow()
    def fetch(self, path: str) -> str:
        return self.get(path)

    @DBOS.step()
    def get(self, path: str) -> str:
        return f"{self.prefix}{self.host}/{path}"

    @classmethod
    @DBOS.workflow()
    def scheme(cls, text: str) -> str:
        return cls.prefix + text

    @staticmethod
    @DBOS.workflow()
    def double(number: int) -> int:
        return number * 2

    @DBOS.workflow()
    @staticmethod
    def triple(number: int) -> int:
        return number * 3


example = Fetcher("example.com")
mirror = Fetcher("mirror.example.com")
