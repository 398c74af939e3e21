"""What is known survives, is found again, and changes as a whole."""

import base64
import threading
from pathlib import Path

import pytest

from clary.local.faults import ValidationException
from clary.local.store import Listing, Metric, Store, TakenError

KIND = "training-job"
FAR = base64.urlsafe_b64encode(b"%d" % 10**30).decode()


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """An empty one."""
    return Store(tmp_path / "db")


def test_things_survive(tmp_path: Path) -> None:
    """Another store on the same file knows what the first has kept."""
    first = Store(tmp_path / "db")
    first.add(KIND, "a", {"x": [1, {"y": None}]}, status="InProgress", parent="p")
    first.add_metrics(KIND, "a", [Metric("loss", 1.0, 0.5)])
    first.tag("arn", {"k": "v"})
    first.close()
    second = Store(tmp_path / "db")
    thing = second.get(KIND, "a")
    assert thing is not None
    assert (thing.document, thing.status, thing.parent) == ({"x": [1, {"y": None}]}, "InProgress", "p")
    assert second.metrics(KIND, "a") == [Metric("loss", 1.0, 0.5)]
    assert second.tags("arn") == {"k": "v"}


def test_names_are_taken_once(store: Store) -> None:
    """A name is one of its kind, and free again when it is removed, with no metric left."""
    store.add(KIND, "a", {})
    store.add("model", "a", {})
    with pytest.raises(TakenError):
        store.add(KIND, "a", {})
    store.add_metrics(KIND, "a", [Metric("loss", 1.0, 0.5)])
    assert store.remove(KIND, "a")
    assert not store.remove(KIND, "a")
    store.add(KIND, "a", {})
    assert store.metrics(KIND, "a") == []


def test_one_of_many_takes_a_name(store: Store) -> None:
    """Of eight that ask for a name at once, one gets it."""
    got: list[int] = []

    def take(number: int) -> None:
        try:
            store.add(KIND, "a", {"by": number})
            got.append(number)
        except TakenError:
            pass

    threads = [threading.Thread(target=take, args=[number]) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(got) == 1


def test_changes(store: Store) -> None:
    """A change counts at the end of the block, with the status; one that fails counts for nothing."""
    store.add(KIND, "a", {"Status": "InProgress", "n": [1]})
    with store.changing(KIND, "a", "Status") as document:
        assert document is not None
        document["Status"] = "Completed"
        document["n"].append(2)
    with pytest.raises(ZeroDivisionError), store.changing(KIND, "a") as document:
        assert document is not None
        document["n"].append(3 / 0)
    thing = store.get(KIND, "a")
    assert thing is not None
    assert (thing.status, thing.document["n"]) == ("Completed", [1, 2])
    assert thing.modified > thing.created
    with store.changing(KIND, "nobody") as document:
        assert document is None


def test_no_change_is_lost(store: Store) -> None:
    """Changes of several threads at once all count."""
    store.add(KIND, "a", {"n": 0})

    def add() -> None:
        for _ in range(20):
            with store.changing(KIND, "a") as document:
                assert document is not None
                document["n"] += 1

    threads = [threading.Thread(target=add) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    thing = store.get(KIND, "a")
    assert thing is not None and thing.document["n"] == 80


def test_a_document_is_a_copy(store: Store) -> None:
    """What a reader does to a document changes nothing."""
    store.add(KIND, "a", {"n": [1]})
    thing = store.get(KIND, "a")
    assert thing is not None
    thing.document["n"].append(2)
    again = store.get(KIND, "a")
    assert again is not None and again.document == {"n": [1]}


def test_pages(store: Store) -> None:
    """Pages follow each other without a gap, newest first unless asked otherwise."""
    for number in range(25):
        store.add(KIND, f"job-{number:02}", {}, status="Completed" if number % 2 else "Failed")
    names: list[str] = []
    token: str | None = None
    while True:
        request = {"MaxResults": 7} if token is None else {"MaxResults": 7, "NextToken": token}
        things, token = store.page(KIND, Listing(request))
        names += [thing.name for thing in things]
        if token is None:
            break
    assert names == [f"job-{number:02}" for number in reversed(range(25))]
    assert len(store.page(KIND, Listing({}))[0]) == 10
    things, _ = store.page(KIND, Listing({"SortBy": "Name", "SortOrder": "Ascending", "MaxResults": 2}))
    assert [thing.name for thing in things] == ["job-00", "job-01"]
    things, _ = store.page(KIND, Listing({"StatusEquals": "Failed", "NameContains": "job-1", "MaxResults": 100}))
    assert [thing.name for thing in things] == ["job-18", "job-16", "job-14", "job-12", "job-10"]


def test_what_is_contained_is_no_pattern(store: Store) -> None:
    """A percent sign in NameContains is one."""
    store.add(KIND, "a", {})
    assert store.page(KIND, Listing({"NameContains": "%"}))[0] == []


def test_times(store: Store) -> None:
    """CreationTimeAfter and its kin are limits."""
    thing = store.add(KIND, "a", {})
    after = store.page(KIND, Listing({"CreationTimeAfter": thing.created - 1, "CreationTimeBefore": thing.created + 1}))
    assert len(after[0]) == 1
    assert store.page(KIND, Listing({"CreationTimeAfter": thing.created + 1}))[0] == []
    assert store.page(KIND, Listing({"LastModifiedTimeBefore": thing.modified - 1}))[0] == []


@pytest.mark.parametrize("token", ["?", "YWJj", base64.urlsafe_b64encode(b"-5").decode(), FAR])
def test_tokens_of_others(store: Store, token: str) -> None:
    """A NextToken that is none of ours is refused."""
    with pytest.raises(ValidationException, match="NextToken"):
        store.page(KIND, Listing({"NextToken": token}))


def test_tags(store: Store) -> None:
    """Tags are added, replaced and removed, one or all."""
    store.tag("arn", {"a": "1", "b": "2"})
    store.tag("arn", {"b": "3", "c": "4"})
    store.untag("arn", ["a"])
    assert store.tags("arn") == {"b": "3", "c": "4"}
    store.untag("arn")
    assert store.tags("arn") == {}


def test_a_status(store: Store) -> None:
    """It is known without the document; there is none of what is not there."""
    store.add(KIND, "a", {}, status="InProgress")
    assert (store.status(KIND, "a"), store.status(KIND, "b")) == ("InProgress", None)


def test_awaiting_a_change(store: Store) -> None:
    """Whoever waits goes on when a status changes or a thing goes, and is told when nothing does in time."""
    store.add(KIND, "a", {"Status": "InProgress"}, status="InProgress")
    assert not store.await_change(KIND, "a", {"InProgress"}, 0.05)
    found: list[bool] = []

    def wait(statuses: set[str | None]) -> threading.Thread:
        told = threading.Thread(target=lambda: found.append(store.await_change(KIND, "a", statuses, 30)), daemon=True)
        told.start()
        return told

    first = wait({"InProgress"})
    with store.changing(KIND, "a", "Status") as document:
        assert document is not None
        document["Status"] = "Stopping"
    first.join(20)
    second = wait({"Stopping"})
    store.remove(KIND, "a")
    second.join(20)
    assert found == [True, True]
