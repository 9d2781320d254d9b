"""What is stored comes back, what cannot be stored says where it is, and reading a row runs nothing that it names."""

import collections
import dataclasses
import datetime as dt
import enum
import functools
import io
import json
import pathlib
import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any, ClassVar, NamedTuple
from zoneinfo import ZoneInfo

import pydantic
import pytest
from django.contrib.auth.models import AnonymousUser, Group, User
from django.core.exceptions import SynchronousOnlyOperation, ValidationError
from django.core.files.base import ContentFile
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import OperationalError, models
from django.http import FileResponse, HttpRequest, HttpResponse, JsonResponse, StreamingHttpResponse
from django.template.response import SimpleTemplateResponse
from django.test import RequestFactory
from django.utils.functional import SimpleLazyObject, cached_property
from django.utils.safestring import mark_safe
from django.utils.translation import gettext_lazy
from hypothesis import given
from hypothesis import strategies as st

from django_dbos import serialization, typed_json
from django_dbos.exceptions import (
    DeserializationError,
    DuplicateRegistration,
    InvalidOption,
    MaxStepRetriesExceeded,
    RecordedError,
    SerializationError,
)
from django_dbos.serialization import (
    dump_call,
    dump_error,
    dumps,
    get_serializer,
    load_call,
    load_error,
    loads,
    preview,
    register_type,
)


class Colour(enum.Enum):
    RED = "red"
    CRIMSON = "red"
    BLUE = object()


class Level(enum.IntEnum):
    LOW = 1


class Access(enum.Flag):
    READ = enum.auto()
    WRITE = enum.auto()


class Kind(models.TextChoices):
    A = "a", "The first"


class Point(NamedTuple):
    x: Any
    y: Any = 0


@dataclasses.dataclass
class Item:
    name: str
    extra: Any = None
    tags: list[str] = dataclasses.field(default_factory=list)
    loud: ClassVar[list[str]] = []

    def __post_init__(self) -> None:
        self.loud.append(self.name)

    @cached_property
    def upper(self) -> str:
        return self.name.upper()


@dataclasses.dataclass(frozen=True, slots=True)
class Frozen:
    left: Any
    right: Any


@dataclasses.dataclass
class Bag:
    items: Any

    class Nested(enum.Enum):
        ONE = 1


class Model(pydantic.BaseModel):
    at: dt.datetime
    price: Decimal = Decimal(1)
    nick: str = pydantic.Field(default="", alias="nickName")


class Derived(Model):
    more: int


class Outer(pydantic.BaseModel):
    inner: Model
    root: "Names | None" = None


class Names(pydantic.RootModel[list[str]]):
    pass


class Foo:
    pass


class Money:
    def __init__(self, cents: int) -> None:
        self.cents = cents

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Money) and self.cents == other.cents

    def __hash__(self) -> int:
        return self.cents


class Cash(Money):
    pass


class OutOfStock(Exception):
    def __init__(self, item: Any, *, wanted: int) -> None:
        super().__init__(f"{item} is out of stock", item)
        self.wanted = wanted


class Mute(Exception):
    def __init__(self) -> None:
        self.handle = threading.Lock()

    def __str__(self) -> str:
        return f"locked {self.handle}"


class Stubborn(Exception):
    def __new__(cls, *args: Any) -> "Stubborn":
        if sys._getframe(1).f_code.co_name == "_rebuilt":
            raise ValueError("not twice")
        return super().__new__(cls, *args)


class Nasty(Exception):
    def __str__(self) -> str:
        raise ValueError("no words")

    __repr__ = __str__


class Upside:
    """Another serializer: JSON backwards."""

    name = "tests.test_serialization.Upside"

    def dumps(self, value: Any) -> str:
        return json.dumps(value)[::-1]

    def loads(self, text: str) -> Any:
        return json.loads(text[::-1])


upside_instance = Upside()
UPSIDE = Upside.name


@pytest.fixture(autouse=True)
def forget_what_is_registered(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    codec = sys.modules["django_dbos.typed_json.codec"]
    for table in ("_registered", "_registered_names", "_loaders"):
        monkeypatch.setattr(codec, table, dict(getattr(codec, table)))
    monkeypatch.setattr(serialization, "_serializers", {"json": get_serializer("json")})
    yield
    vars(codec)["_dumper_for"].cache_clear()


def there_and_back(value: Any) -> Any:
    text, name = dumps(value)
    assert name == "json"
    assert text.isascii()
    assert "\x00" not in text
    return loads(text, name)


def same(left: Any, right: Any) -> bool:
    """Equal, of equal types all the way down; nan is itself."""
    if type(left) is not type(right):
        return False
    if isinstance(left, float):
        return repr(left) == repr(right)
    if isinstance(left, Decimal):
        return bool(left.as_tuple() == right.as_tuple())
    if isinstance(left, list | tuple):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, dict):
        return same(list(left.items()), list(right.items()))
    if isinstance(left, Frozen):
        return same(left.left, right.left) and same(left.right, right.right)
    if isinstance(left, Bag):
        return same(left.items, right.items)
    if isinstance(left, set | frozenset):
        return {(type(item), repr(item)) for item in left} == {(type(item), repr(item)) for item in right} or (
            left == right
        )
    if isinstance(left, dt.datetime | dt.time):
        return bool(left == right and left.fold == right.fold and left.tzinfo == right.tzinfo)
    return bool(left == right)


def recorded(error: BaseException) -> BaseException:
    return load_error(*dump_error(error))


def raised(error: BaseException) -> BaseException:
    try:
        raise error
    except BaseException as caught:
        return caught


# Round trips

ZONES = st.sampled_from([None, dt.UTC, ZoneInfo("Europe/Berlin"), ZoneInfo("UTC"), dt.timezone(dt.timedelta(hours=-3))])
PIECES = st.sampled_from(["a", "\x00", "\ud83d", "\ude00", "😀", "\\ud", '"$type"'])
SURROGATES = st.lists(PIECES, max_size=6).map("".join)
TEXTS = st.text() | SURROGATES
KEYS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | TEXTS
    | st.just("$type")
    | st.binary()
    | st.dates()
    | st.uuids()
    | st.sampled_from([*Colour, Level.LOW, Kind.A, Access.READ | Access.WRITE, Access(0), Bag.Nested.ONE])
)
LEAVES = (
    KEYS
    | st.floats()
    | st.integers(10**4290, 10**4310)
    | st.integers(-(10**700), -(10**600))
    | st.datetimes(timezones=ZONES)
    | st.times(timezones=ZONES)
    | st.timedeltas()
    | st.decimals()
    | st.sampled_from([pathlib.Path("/tmp/ä"), pathlib.PurePosixPath("x"), pathlib.PureWindowsPath("C:/x")])
)
HASHABLE = st.recursive(
    KEYS,
    lambda inner: st.lists(inner, max_size=3).map(tuple) | st.frozensets(inner, max_size=3),
    max_leaves=5,
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(TEXTS, inner, max_size=3)
        | st.dictionaries(HASHABLE, inner, max_size=3)
        | st.sets(HASHABLE, max_size=3)
        | st.builds(Frozen, inner, inner)
        | st.builds(Bag, inner)
        | st.builds(Point, inner, inner)
    ),
    max_leaves=12,
)


@given(VALUES)
def test_every_value_comes_back_as_it_was(value: Any) -> None:
    assert same(there_and_back(value), value)


@given(st.lists(VALUES, max_size=3).map(tuple), st.dictionaries(TEXTS | st.just("$type"), VALUES, max_size=3))
def test_every_call_comes_back_as_it_was(args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    assert same(load_call(*dump_call(args, kwargs)), (args, kwargs))


@pytest.mark.parametrize("value", [None, True, 7, 1.5, "x", [1, None], {"a": {"b": [1, 2]}}, [], {}])
def test_plain_json_is_stored_as_plain_json(value: Any) -> None:
    assert dumps(value)[0] == json.dumps(value, separators=(",", ":"))


def test_what_json_lacks_is_tagged() -> None:
    assert json.loads(dumps((1, b"x"))[0]) == {"$type": "tuple", "value": [1, {"$type": "bytes", "value": "eA=="}]}
    assert json.loads(dumps({"$type": "x"})[0]) == {"$type": "dict", "value": [["$type", "x"]]}
    assert json.loads(dumps({1: 2})[0]) == {"$type": "dict", "value": [[1, 2]]}


def test_a_big_int_survives_any_limit_of_digits() -> None:
    before = sys.get_int_max_str_digits()
    number = -(7**9000)
    try:
        sys.set_int_max_str_digits(0)
        plain, tagged = dumps([number]), dumps([number, float("nan")])
        sys.set_int_max_str_digits(640)
        assert loads(*plain) == [number]
        assert loads(*tagged)[0] == number
        assert there_and_back({"a": number}) == {"a": number}
    finally:
        sys.set_int_max_str_digits(before)


def test_sets_are_stored_in_one_order() -> None:
    assert json.loads(dumps({3, 1, 20})[0])["value"] == [1, 3, 20]
    mixed = [frozenset({"b", "a"}), 2, "x", None]
    other_way_round = set[Any]()
    other_way_round.update(reversed(mixed))
    assert dumps(set(mixed)) == dumps(other_way_round)


def test_a_time_keeps_its_zone_and_its_fold() -> None:
    twice = dt.datetime(2024, 10, 27, 2, 30, tzinfo=ZoneInfo("Europe/Berlin"), fold=1)
    back = there_and_back(twice)
    assert (back.tzinfo.key, back.fold, back.utcoffset()) == ("Europe/Berlin", 1, dt.timedelta(hours=1))
    assert there_and_back(dt.time(1, tzinfo=ZoneInfo("Europe/Berlin"))).tzinfo.key == "Europe/Berlin"
    assert there_and_back(dt.datetime(2024, 1, 1)).tzinfo is None


def test_text_of_django_becomes_str() -> None:
    for value in (mark_safe("<b>"), gettext_lazy("<b>"), SimpleLazyObject(lambda: "<b>")):
        assert same(there_and_back([value]), ["<b>"])


def test_an_enum_comes_back_by_its_name() -> None:
    assert there_and_back(Colour.BLUE) is Colour.BLUE
    assert json.loads(dumps(Colour.CRIMSON)[0])["value"] == {"class": f"{__name__}:Colour", "name": "RED"}
    with pytest.raises(DeserializationError, match="no member 'GREEN' any more"):
        loads(dumps(Colour.RED)[0].replace("RED", "GREEN"), "json")


def test_a_path_of_the_other_system_comes_back_as_a_pure_path() -> None:
    text = dumps(pathlib.PureWindowsPath("C:/x"))[0].replace("PureWindowsPath", "WindowsPath")
    assert loads(text, "json") == pathlib.PureWindowsPath("C:/x")


# Dataclasses, NamedTuples, pydantic


def test_a_dataclass_is_rebuilt_without_its_init() -> None:
    item = Item("a", extra=Frozen(1, (2,)))
    assert item.upper == "A"
    Item.loud.clear()
    assert there_and_back(item) == item
    assert Item.loud == []


def test_a_dataclass_that_changed_takes_its_defaults_and_drops_what_is_gone() -> None:
    node = json.loads(dumps(Item("a"))[0])
    node["value"]["fields"] = {"name": "b", "gone": 1}
    assert loads(json.dumps(node), "json") == Item("b", None, [])
    node["value"]["fields"] = {"gone": 1}
    with pytest.raises(DeserializationError, match="the field 'name', which was not stored and has no default"):
        loads(json.dumps(node), "json")


def test_a_namedtuple_that_changed_takes_its_defaults() -> None:
    node = json.loads(dumps(Point(1, 2))[0])
    node["value"]["fields"] = {"x": 1}
    assert same(loads(json.dumps(node), "json"), Point(1, 0))
    node["value"]["fields"] = {"y": 1}
    with pytest.raises(DeserializationError, match="the field 'x'"):
        loads(json.dumps(node), "json")


def test_a_pydantic_model_comes_back_with_its_nested_classes_and_what_was_set() -> None:
    inner = Derived(at=dt.datetime(2024, 1, 1, tzinfo=dt.UTC), more=1, nickName="x")
    outer = Outer(inner=inner, root=Names(["a"]))
    back = there_and_back(outer)
    assert back == outer
    assert type(back.inner) is Derived
    assert back.inner.model_fields_set == {"at", "more", "nick"}


def test_an_attribute_that_is_no_field_is_refused() -> None:
    item = Item("a")
    vars(item)["surprise"] = 1
    with pytest.raises(SerializationError, match=r"^value\[0\] is a .*Item> with the attribute 'surprise'"):
        dumps([item])


def test_a_field_without_a_value_is_refused() -> None:
    item = Item("a")
    del item.name
    with pytest.raises(SerializationError, match=r"^value is a .*Item> without a value for its field 'name'"):
        dumps(item)


def test_a_class_that_its_name_does_not_lead_to_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(globals(), "Frozen", Item)
    with pytest.raises(SerializationError, match="does not lead back to this class"):
        dumps(frozen_before(1, 2))


frozen_before = Frozen


def test_the_dates_of_freezegun_are_dates() -> None:
    fake = type("FakeDatetime", (dt.datetime,), {"__module__": "freezegun.api"})
    assert same(there_and_back(fake(2024, 1, 1)), dt.datetime(2024, 1, 1))


# Refusals


def local_class() -> Any:
    @dataclasses.dataclass
    class Local:
        x: int

    return Local(1)


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (Foo(), "pass its id, make it a dataclass, or register_type(Foo, ...)"),
        (collections.OrderedDict(a=1), "dict(...)"),
        (collections.defaultdict(list), "dict(...)"),
        (collections.Counter("a"), "dict(...)"),
        (type("Text", (str,), {})("x"), "str(...)"),
        (type("Number", (int,), {})(1), "int(...)"),
        (type("Items", (list,), {})(), "list(...)"),
        (collections.deque([1]), "list(...)"),
        ({}.keys(), "list(...)"),
        (range(3), "list(...)"),
        (iter([1]), "list(...)"),
        ((x for x in [1]), "list(...)"),
        (io.BytesIO(b"x"), "pass its path, or pass its bytes"),
        (ContentFile(b"x"), "pass its path, or pass its bytes"),
        (threading.Lock(), "lives in this process only"),
        (threading.RLock(), "lives in this process only"),
        (len, "pass its name"),
        (there_and_back, "pass its name"),
        (functools.partial(len), "pass its name"),
        (Foo, "pass its name"),
        (json, "pass its name"),
        (bytearray(b"x"), "bytes(...)"),
        (StreamingHttpResponse([b"x"]), "build an HttpResponse"),
        (SimpleTemplateResponse("x.html"), "call its render() first"),
        (local_class(), "defined inside a function"),
        (User.objects, "use the model's manager inside the workflow"),
        (User.objects.all(), "pass list("),
        (User(username="x"), "is an unsaved auth.User"),
        (object(), "cannot be stored"),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, str) else "",
)
def test_a_refusal_names_the_path_and_the_remedy(value: Any, says: str) -> None:
    with pytest.raises(SerializationError) as refusal:
        dump_call((1, Bag(items=[0, 0, 0, {"x": value}])), {})
    assert str(refusal.value).startswith("args[1].items[3]['x'] is a")
    assert says in str(refusal.value)
    with pytest.raises(SerializationError, match=r"^kwargs\['at'\]\.left\[1\] is a"):
        dump_call((), {"at": Frozen((0, value), None)})


def test_a_refusal_reads_as_designed() -> None:
    with pytest.raises(SerializationError) as refusal:
        dumps({"x": Foo()}, what="result of f()")
    assert str(refusal.value) == (
        "result of f()['x'] is a <class tests.test_serialization.Foo>, which cannot be stored: "
        "pass its id, make it a dataclass, or register_type(Foo, ...)"
    )


def test_keys_and_elements_have_paths_too() -> None:
    with pytest.raises(SerializationError, match=r"^value\.keys\(\)\[1\] is a"):
        dumps({1: 1, Foo(): 2})
    with pytest.raises(SerializationError, match=r"^value\{element\} is a"):
        dumps({Foo()})
    with pytest.raises(SerializationError, match=r"^value\.x\['a'\] is a"):
        dumps(Point({"a": Foo()}))


def test_a_circle_is_refused_with_its_path() -> None:
    circle: list[Any] = [1]
    circle.append({"again": circle})
    with pytest.raises(SerializationError, match=r"^value\[1\]\['again'\] contains itself"):
        dumps(circle)
    item = Item("a")
    item.extra = (item,)
    with pytest.raises(SerializationError, match=r"^args\[0\]\.extra\[0\] contains itself"):
        dump_call((item,), {})


def test_the_same_value_twice_is_no_circle() -> None:
    shared = (1, [2])
    assert there_and_back([shared, shared, {"a": shared}]) == [shared, shared, {"a": shared}]


@pytest.mark.parametrize("wrap", [lambda inner: [inner], lambda inner: {"a": inner}, lambda inner: (inner,)])
def test_what_is_nested_too_deeply_is_refused_when_it_is_stored(wrap: Callable[[Any], Any]) -> None:
    value = functools.reduce(lambda inner, _: wrap(inner), range(100), 1)
    assert there_and_back(value) == value
    with pytest.raises(SerializationError, match="nested more than 100 levels deep"):
        dumps(wrap(value))


def test_an_exhausted_stack_is_a_serialization_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def exhausted(*args: Any) -> Any:
        raise RecursionError

    monkeypatch.setattr("django_dbos.typed_json.codec._is_json", exhausted)
    monkeypatch.setattr("django_dbos.typed_json.codec.Encoder.encode", exhausted)
    with pytest.raises(SerializationError, match=r"^x is nested too deeply"):
        dumps([(1,)], what="x")


# Reading is safe


def tagged(tag: str, **value: Any) -> str:
    return json.dumps({"$type": tag, "value": value})


UNLOADED = "xml.sax.expatreader"
CLASS_TAGS = ("enum", "dataclass", "namedtuple", "pydantic")


@pytest.mark.parametrize("tag", CLASS_TAGS)
def test_reading_imports_no_module(tag: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, UNLOADED, raising=False)
    with pytest.raises(DeserializationError, match=r"is not loaded in this process.*register_type"):
        loads(tagged(tag, **{"class": f"{UNLOADED}:ExpatParser", "name": "x", "fields": {}, "set": []}), "json")
    assert UNLOADED not in sys.modules


@pytest.mark.parametrize("tag", CLASS_TAGS)
@pytest.mark.parametrize("path", ["os:system", "builtins:int", "tests.test_serialization:Foo", "os:path.join", "x", ""])
def test_reading_takes_only_what_the_tag_says(tag: str, path: str) -> None:
    with pytest.raises(DeserializationError):
        loads(tagged(tag, **{"class": path, "name": "x", "fields": {}, "set": []}), "json")


def test_reading_runs_no_module_getattr(monkeypatch: pytest.MonkeyPatch) -> None:
    module = type(sys)("lazy_module")
    asked: list[str] = []
    vars(module)["__getattr__"] = asked.append
    monkeypatch.setitem(sys.modules, "lazy_module", module)
    with pytest.raises(DeserializationError, match="has no such class"):
        loads(tagged("dataclass", **{"class": "lazy_module:Thing", "fields": {}}), "json")
    assert asked == []


def test_reading_an_error_imports_no_module(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, UNLOADED, raising=False)
    text = dump_error(raised(OutOfStock("pen", wanted=1)))[0].replace(__name__ + ":", f"{UNLOADED}:")
    error = load_error(text, "json")
    assert isinstance(error, RecordedError)
    assert error.type_name == f"{UNLOADED}.OutOfStock"
    assert error.arguments == ("pen is out of stock", "pen")
    assert "Traceback" in error.traceback
    assert UNLOADED not in sys.modules


def test_an_error_row_sets_no_attribute_but_the_known_ones() -> None:
    node = json.loads(dump_error(OSError(2, "x"))[0])
    node["value"]["members"] |= {"__class__": "x", "with_traceback": 1}
    error = load_error(json.dumps(node), "json")
    assert type(error) is FileNotFoundError
    assert "with_traceback" not in vars(error)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "nonsense",
        '{"$type":"no such"}',
        '{"$type":"no such","value":1}',
        '{"$type":["a"],"value":1}',
        '{"$type":"uuid","value":1}',
        '{"$type":"dict","value":[[[],1]]}',
        '{"$type":"path","value":["x","y"]}',
        '{"$type":"datetime","value":["2024-01-01T00:00:00","No/Zone",0]}',
    ],
)
def test_a_bad_text_is_a_deserialization_error(text: str) -> None:
    with pytest.raises(DeserializationError):
        loads(text, "json")
    assert isinstance(load_error(text, "json"), RecordedError)
    assert isinstance(preview(text, "json"), str)


def test_no_text_is_none() -> None:
    assert loads(None, "json") is None


def test_inputs_of_another_shape_are_a_deserialization_error() -> None:
    with pytest.raises(DeserializationError, match="not the inputs"):
        load_call("[1]", "json")


# Registered types


def test_a_registered_type_comes_back() -> None:
    register_type(Money, dump=lambda money: (money.cents,), load=lambda stored: Money(*stored))
    assert there_and_back({"a": [Money(5)]}) == {"a": [Money(5)]}
    assert type(there_and_back(Cash(5))) is Money


def test_the_exact_class_goes_before_its_base() -> None:
    register_type(Money, dump=lambda money: money.cents, load=Money)
    register_type(Cash, dump=lambda cash: cash.cents, load=Cash, name="cash")
    assert type(there_and_back(Cash(5))) is Cash
    assert type(there_and_back(Money(5))) is Money
    assert json.loads(dumps(Cash(5))[0]) == {"$type": "cash", "value": 5}


def test_a_type_is_renamed_by_registering_it_again() -> None:
    register_type(Money, dump=lambda money: money.cents, load=Money, name="old")
    old = dumps(Money(5))
    register_type(Money, dump=lambda money: money.cents, load=Money, name="new")
    assert "new" in dumps(Money(5))[0]
    assert loads(*old) == Money(5)


def test_a_registered_type_may_be_a_dataclass_or_a_dict() -> None:
    register_type(
        collections.OrderedDict, dump=lambda it: list(it.items()), load=collections.OrderedDict, name="ordered"
    )
    assert type(there_and_back(collections.OrderedDict(a=1))) is collections.OrderedDict


def test_one_name_for_two_classes_is_refused() -> None:
    register_type(Money, dump=lambda money: money.cents, load=Money, name="money")
    with pytest.raises(DuplicateRegistration, match=r"belongs to <class .*Money>: give .*name="):
        register_type(Foo, dump=repr, load=lambda _: Foo(), name="money")
    with pytest.raises(DuplicateRegistration, match="belongs to django-dbos"):
        register_type(Foo, dump=repr, load=lambda _: Foo(), name="tuple")
    with pytest.raises(DuplicateRegistration, match="stored by django-dbos itself"):
        register_type(bool, dump=repr, load=bool)


def test_a_type_that_is_not_registered_here_says_so() -> None:
    with pytest.raises(DeserializationError, match=r"No type is registered as 'money'.*register_type"):
        loads('{"$type":"money","value":5}', "json")


def test_failing_functions_of_a_registered_type_are_named() -> None:
    register_type(Money, dump=lambda money: money.gone, load=Money, name="money")  # type: ignore[attr-defined]
    with pytest.raises(SerializationError, match=r"^value\[0\] cannot be stored: the dump function of 'money' failed"):
        dumps([Money(5)])
    register_type(Foo, dump=lambda _: 1, load=lambda stored: stored.gone, name="foo")
    with pytest.raises(DeserializationError, match="The load function of 'foo' failed"):
        there_and_back(Foo())
    register_type(Foo, dump=lambda _: {"x": object()}, load=lambda _: Foo(), name="foo")
    with pytest.raises(SerializationError, match=r"^value\['x'\] is a <class object>"):
        dumps(Foo())


# Exceptions


def test_an_error_keeps_class_arguments_state_and_traceback() -> None:
    error = OutOfStock("pen", wanted=3)
    error.add_note("try a pencil")
    vars(error)["lock"] = threading.Lock()
    back = recorded(raised(error))
    assert type(back) is OutOfStock
    assert back.args == ("pen is out of stock", "pen")
    assert back.wanted == 3
    assert back.__notes__ == ["try a pencil"]
    assert not hasattr(back, "lock")
    assert "in raised" in vars(back)["recorded_traceback"]


def test_an_error_keeps_its_cause() -> None:
    try:
        try:
            raise KeyError("inner")
        except KeyError as inner:
            raise ValueError("outer") from inner
    except ValueError as outer:
        back = recorded(outer)
    assert isinstance(back.__cause__, KeyError)
    assert back.__cause__.args == ("inner",)
    assert "direct cause" in vars(back)["recorded_traceback"]


def test_an_error_raised_again_keeps_its_first_traceback() -> None:
    back = raised(recorded(raised(ValueError("x"))))
    text = vars(recorded(back))["recorded_traceback"]
    assert text.count("Traceback") == 2
    assert "Raised again" in text


def undecodable() -> UnicodeDecodeError:
    return UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte")


@pytest.mark.parametrize(
    "error",
    [
        ValueError(),
        ValueError("x", 1, (2, b"3")),
        KeyError("k"),
        FileNotFoundError(2, "No such file", "/tmp/x"),
        OSError(2, "No such file", "/a", None, "/b"),
        TimeoutError("late"),
        undecodable(),
        StopIteration(3),
        SystemExit(3),
        SyntaxError("bad", ("f.py", 1, 2, "text")),
        ImportError("no", name="x", path="/x"),
        User.DoesNotExist("gone"),
    ],
    ids=repr,
)
def test_built_in_errors_come_back_as_they_were(error: BaseException) -> None:
    back = recorded(raised(error))
    assert type(back) is type(error)
    assert (str(back), back.args) == (str(error), error.args)
    for name in ("errno", "filename", "filename2", "name", "path", "value", "code", "object", "lineno"):
        assert getattr(back, name, None) == getattr(error, name, None)


@pytest.mark.parametrize(
    "error",
    [
        ValidationError("bad", code="b", params={"x": 1}),
        ValidationError(gettext_lazy("bad")),
        ValidationError(["a", ValidationError("b", code="c")]),
        ValidationError({"name": ["too long"], "age": [ValidationError("%(n)s", params={"n": 3})]}),
    ],
)
def test_a_validation_error_of_django_comes_back(error: ValidationError) -> None:
    back = recorded(raised(error))
    assert isinstance(back, ValidationError)
    assert back.messages == error.messages
    assert back == error
    assert hasattr(back, "error_dict") == hasattr(error, "error_dict")


def test_a_group_comes_back_with_all_its_errors() -> None:
    group = ExceptionGroup("two", [OutOfStock("pen", wanted=1), ExceptionGroup("deep", [undecodable()])])
    back = recorded(raised(group))
    assert isinstance(back, ExceptionGroup)
    assert isinstance(back.exceptions[0], OutOfStock)
    assert isinstance(back.exceptions[1], ExceptionGroup)
    assert isinstance(back.exceptions[1].exceptions[0], UnicodeDecodeError)


def test_errors_are_values_too() -> None:
    error = MaxStepRetriesExceeded("gave up", errors=[ValueError(1), OutOfStock("pen", wanted=1)])
    back = recorded(error)
    assert isinstance(back, MaxStepRetriesExceeded)
    assert [type(it) for it in back.errors] == [ValueError, OutOfStock]
    assert [type(it) for it in there_and_back((ValueError(1), KeyError()))] == [ValueError, KeyError]


def test_an_argument_that_cannot_be_stored_becomes_its_repr() -> None:
    back = recorded(ValueError("x", Foo, [threading.Lock()]))
    assert type(back) is ValueError
    assert back.args[:2] == ("x", repr(Foo))
    assert "lock" in back.args[2]


def test_a_subclass_of_str_in_an_error_becomes_str() -> None:
    detail = type("ErrorDetail", (str,), {})("no")
    error = ValueError({"name": [detail]})
    vars(error)["detail"] = collections.OrderedDict(name=detail)
    back = recorded(error)
    assert same(back.args, ({"name": ["no"]},))
    assert same(vars(back)["detail"], {"name": "no"})


@pytest.mark.parametrize("error", [Mute(), Stubborn("x", 1), type("Local", (Exception,), {})("x", 1)])
def test_an_error_that_cannot_be_rebuilt_comes_back_recorded(error: BaseException) -> None:
    back = recorded(raised(error))
    assert isinstance(back, RecordedError)
    assert str(back) == str(error)
    assert back.type_name == f"{__name__}.{type(error).__qualname__}"
    assert back.arguments == error.args
    assert "Traceback" in back.traceback
    again = recorded(back)
    assert isinstance(again, RecordedError)
    assert (again.type_name, again.arguments) == (back.type_name, back.arguments)


def test_recording_an_error_never_raises() -> None:
    back = recorded(raised(Nasty(Nasty())))
    assert isinstance(back, RecordedError)
    assert "raised ValueError" in str(back)
    circle = ValueError("x")
    circle.args = ("x", circle)
    vars(circle)["me"] = circle
    circle.__cause__ = circle
    assert type(recorded(circle)) is ValueError
    endless: BaseException = ValueError(0)
    for number in range(1, 300):
        outer = ValueError(number)
        outer.__cause__ = endless
        endless = outer
    assert recorded(endless).args == (299,)
    assert str(recorded(ValueError("\ud83d\ude00 \x00"))) == "\ud83d\ude00 \x00"
    assert recorded(ValueError(float("inf"))).args == (float("inf"),)


def test_a_value_that_is_no_error_comes_back_recorded() -> None:
    assert "No error was recorded" in str(load_error("[1]", "json"))


# Django


@pytest.mark.django_db
def test_a_row_is_loaded_fresh() -> None:
    user = User.objects.create(username="ann")
    stored = dumps({"user": user})
    assert json.loads(stored[0])["user"]["value"] == {"model": "auth.User", "pk": user.pk, "database": "default"}
    User.objects.update(username="bob")
    assert loads(*stored)["user"].username == "bob"


@pytest.mark.django_db
def test_a_row_that_is_gone_says_so() -> None:
    group = Group.objects.create(name="g")
    stored, error = dumps(group), dump_error(OutOfStock(group, wanted=1))
    pk = group.pk
    group.delete()
    with pytest.raises(DeserializationError, match=f"auth.Group {pk} is gone from the database 'default'"):
        loads(*stored)
    assert type(load_error(*error)) is OutOfStock
    with pytest.raises(SerializationError, match=r"is an unsaved auth\.Group"):
        dumps(group)
    with pytest.raises(DeserializationError, match=r"no model 'auth\.Nothing'"):
        loads(tagged("model", model="auth.Nothing", pk=1, database=None), "json")


@pytest.mark.parametrize("problem", [OperationalError("the database is down"), SynchronousOnlyOperation("no")])
def test_an_outage_is_no_bad_row(problem: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def down(*args: Any, **kwargs: Any) -> Any:
        raise problem

    monkeypatch.setattr(models.QuerySet, "get", down)
    text = tagged("model", model="auth.User", pk=1, database="default")
    with pytest.raises(type(problem)):
        loads(text, "json")
    assert isinstance(load_error(text, "json"), RecordedError)
    register_type(Money, dump=down, load=down)
    with pytest.raises(type(problem)):
        dumps(Money(1))
    with pytest.raises(type(problem)):
        loads('{"$type":"tests.test_serialization.Money","value":1}', "json")


@pytest.mark.django_db
def test_a_request_comes_back_as_a_snapshot() -> None:
    user = User.objects.create(username="ann")
    request = RequestFactory().post(
        "/orders/ä?page=2",
        {"a": ["1", "2"], "file": SimpleUploadedFile("x.txt", b"hello")},
        secure=True,
        headers={"Authorization": "secret", "Cookie": "a=secret", "X-Trace": "7"},
    )
    request.user = SimpleLazyObject(lambda: user)  # type: ignore[assignment]
    assert request.user.pk == user.pk
    request.body  # noqa: B018 - a middleware that needs it reads it first
    text, name = dumps(request)
    assert "secret" not in text
    for back in (loads(text, name), there_and_back(loads(text, name))):
        assert type(back) is HttpRequest
        assert (back.method, back.path, back.path_info, back.scheme) == ("POST", "/orders/ä", "/orders/ä", "https")
        assert back.GET.dict() == {"page": "2"}
        assert back.POST.getlist("a") == ["1", "2"]
        assert back.FILES["file"].read() == b"hello"  # type: ignore[union-attr]
        assert back.body == request.body
        assert back.headers["X-Trace"] == back.META["HTTP_X_TRACE"] == "7"
        assert "Cookie" not in back.headers
        assert back.content_type == request.content_type
        assert back.build_absolute_uri() == request.build_absolute_uri()
        assert back.user == user


def test_a_request_without_a_loaded_user_is_anonymous() -> None:
    request = RequestFactory().get("/")
    request.user = SimpleLazyObject(lambda: pytest.fail("must not be loaded"))  # type: ignore[assignment]
    assert isinstance(there_and_back(request).user, AnonymousUser)
    request.user = AnonymousUser()
    assert isinstance(there_and_back(request).user, AnonymousUser)


def test_a_form_that_was_read_already_keeps_its_fields() -> None:
    request = RequestFactory().post("/", {"a": ["1", "2"]})
    assert request.POST["a"] == "2"
    assert there_and_back(request).POST.getlist("a") == ["1", "2"]


def test_a_request_whose_body_is_gone_is_refused() -> None:
    request = RequestFactory().post("/", b"x", content_type="text/plain")
    request.read()
    with pytest.raises(SerializationError, match=r"^args\[0\] is a request whose body cannot be stored"):
        dump_call((request,), {})
    form = RequestFactory().post("/", {"file": SimpleUploadedFile("x.txt", b"hello")})
    assert form.FILES
    with pytest.raises(SerializationError, match="whose body cannot be stored"):
        dumps(form)


def test_a_response_comes_back_as_a_snapshot() -> None:
    response = JsonResponse({"a": 1}, status=201, reason="Made", headers={"X-Trace": "7"})
    response.set_cookie("k", "v; w", max_age=60, httponly=True, samesite="Lax")
    back = there_and_back(response)
    assert type(back) is HttpResponse
    assert (back.status_code, back.reason_phrase, back.content) == (201, "Made", response.content)
    assert dict(back.headers.items()) == dict(response.headers.items())
    assert back.cookies.output() == response.cookies.output()


def test_a_streaming_response_is_refused() -> None:
    with pytest.raises(SerializationError, match="FileResponse>, which cannot be stored: it streams"):
        dumps(FileResponse(io.BytesIO(b"x")))


# Serializers


@pytest.mark.parametrize("path", [UPSIDE, f"{__name__}.upside_instance"])
def test_another_serializer_is_stored_by_its_path(path: str) -> None:
    assert dumps({"a": 1}, serializer=path) == ('}1 :"a"{', path)
    assert loads('}1 :"a"{', path) == {"a": 1}
    assert load_call(*dump_call((1,), {"x": 2}, serializer=path)) == ((1,), {"x": 2})


def test_the_setting_chooses_the_serializer(settings: Any) -> None:
    settings.DBOS = {"SERIALIZER": UPSIDE}
    assert loads("]1[", UPSIDE) == [1]
    assert dumps([1]) == ("]1[", UPSIDE)
    assert dumps((1,), serializer="json")[1] == "json"


def test_a_row_cannot_bring_in_a_serializer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, UNLOADED, raising=False)
    for name in (f"{UNLOADED}.create_parser", "pickle", "django.core.signing", UPSIDE):
        with pytest.raises(DeserializationError, match="is not in use in this process"):
            loads("[1]", name)
        assert isinstance(load_error("[1]", name), RecordedError)
    assert UNLOADED not in sys.modules
    get_serializer(UPSIDE)
    assert loads("]1[", UPSIDE) == [1]


def test_a_wrong_serializer_is_an_invalid_option() -> None:
    for name in ("tests.nowhere.Serializer", "json.nothing", "os.path"):
        with pytest.raises(InvalidOption, match=name):
            dumps(1, serializer=name)


def test_errors_of_another_serializer_are_named() -> None:
    with pytest.raises(SerializationError, match=f"^x cannot be stored by the serializer '{UPSIDE}'"):
        dumps(Foo(), what="x", serializer=UPSIDE)
    with pytest.raises(DeserializationError, match=f"The serializer '{UPSIDE}' cannot read this"):
        loads("{", UPSIDE)


def test_errors_go_through_another_serializer_too() -> None:
    text, name = dump_error(OutOfStock("pen", wanted=3), serializer=UPSIDE)
    assert name == UPSIDE
    assert text.startswith('"')
    back = load_error(text, name)
    assert isinstance(back, OutOfStock)
    assert back.wanted == 3
    broken, _ = dump_error(KeyError(1), serializer="tests.nowhere.Serializer")
    assert isinstance(load_error(broken, "tests.nowhere.Serializer"), KeyError)


# Preview


def test_a_preview_is_readable_and_short() -> None:
    assert preview(None, "json") == ""
    assert preview('{"a":"\\u00e4"}', "json") == '{\n  "a": "ä"\n}'
    assert preview("not json", "x.Y") == "not json"
    assert preview(json.dumps("x" * 100), "json", limit=10) == '"xxxxxxxx…'
    assert len(preview(json.dumps("x" * 10**6), "json", limit=10)) == 10
    assert preview('"\\ud83d"', "json") == '"\\ud83d"'


def test_a_preview_of_an_error_is_its_traceback() -> None:
    assert preview(*dump_error(raised(ValueError("x")))).startswith("Traceback (most recent call last):")


def test_a_preview_loads_nothing() -> None:
    assert "auth.User" in preview(tagged("model", model="auth.User", pk=1, database="default"), "json")


def test_the_tag_is_a_constant_of_the_format() -> None:
    assert typed_json.TAG == "$type"
    assert uuid.UUID(int=1) == loads(f'{{"$type":"uuid","value":"{uuid.UUID(int=1)}"}}', "json")
