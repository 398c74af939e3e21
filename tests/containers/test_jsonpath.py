"""The filters of batch transform: what a path selects, and which are refused."""

from __future__ import annotations

from typing import Any

import pytest

from clary.containers.jsonpath import JsonPath
from clary.errors import DataError, UsageError

ROW = [10, 20, 30, 40, 50]
OBJECT: dict[str, Any] = {"id": 7, "x": {"a": [1, 2, 3], "b b": None}, "rows": [{"v": 1}, {"v": 2}]}


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("$", ROW),
        ("$[1]", 20),
        ("$[-1]", 50),
        ("$[ 0 ]", 10),
        ("$[0,-1]", [10, 50]),
        ("$[4,0,0]", [50, 10, 10]),
        ("$[1:3]", [20, 30]),
        ("$[:2]", [10, 20]),
        ("$[3:]", [40, 50]),
        ("$[-2:]", [40, 50]),
        ("$[:-4]", [10]),
        ("$[0,3:]", [10, 40, 50]),
        ("$[9:]", []),
        ("$[*]", ROW),
        ("$.*", ROW),
    ],
)
def test_places_of_an_array(path: str, found: Any) -> None:
    """One place gives its element, all else a list; places count from the end where they are negative."""
    assert JsonPath(path)(ROW) == found


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("$.id", 7),
        ("$['id']", 7),
        ('$["id"]', 7),
        ("$.['id']", 7),
        ("$.x.a[1]", 2),
        ("$.x.a[1:]", [2, 3]),
        ("$.x['b b']", None),
        ("$['id','x']", {"id": 7, "x": OBJECT["x"]}),
        ("$.x['a', 'b b']", OBJECT["x"]),
        ("$.rows[*].v", [1, 2]),
        ("$.rows[0,1].v", [1, 2]),
        ("$.rows[1:].v", [2]),
        ("$.*", list(OBJECT.values())),
    ],
)
def test_fields_of_an_object(path: str, found: Any) -> None:
    """One name gives its value, several an object with them; behind a list the path goes on with each element."""
    assert JsonPath(path)(OBJECT) == found


@pytest.mark.parametrize(
    ("path", "value", "sentence"),
    [
        ("$.y", OBJECT, "$.y: there is no field 'y'"),
        ("$['id','y']", OBJECT, "there is no field 'y'"),
        ("$.rows[*].w", OBJECT, "there is no field 'w'"),
        ("$[5]", ROW, "$[5]: there is no element 5 in an array of 5"),
        ("$[0,-6]", ROW, "there is no element -6 in an array of 5"),
        ("$.id", ROW, "the field 'id' is asked of an array, not of an object"),
        ("$[0]", OBJECT, "an element is asked of an object, not of an array"),
        ("$.id.*", OBJECT, "* is asked of a plain value, not of an array or object"),
    ],
)
def test_what_is_not_there_is_an_error(path: str, value: Any, sentence: str) -> None:
    """A record without the field is not passed over in silence."""
    with pytest.raises(DataError) as caught:
        JsonPath(path)(value)
    assert sentence in str(caught.value)


@pytest.mark.parametrize(
    ("path", "sentence"),
    [
        ("", "does not begin with $"),
        ("id", "does not begin with $"),
        ("$..id", "is not understood from '..id' on: it takes $, .name"),
        ("$.", "is not understood from '.' on"),
        ("$id", "is not understood from 'id' on"),
        ("$[?(@.a)]", "neither a number, nor a slice"),
        ("$[]", "neither a number, nor a slice"),
        ("$[1:4:2]", "neither a number, nor a slice"),
        ("$[a]", "nor quoted"),
        ("$['a',1]", "write names as ['a'] or ['a','b']"),
        ("$['a',]", "write names as ['a'] or ['a','b']"),
        ("$['a' 'b']", "write names as ['a'] or ['a','b']"),
        ("$[0", "is not understood from '[0' on"),
        ("$.length()", "is not understood from '()' on"),
        ("$." + "a" * 62, "has 64 characters: at most 63 are allowed"),
    ],
)
def test_what_is_not_supported_is_refused(path: str, sentence: str) -> None:
    """The message says what is not understood and what would be."""
    with pytest.raises(UsageError) as caught:
        JsonPath(path)
    assert sentence in str(caught.value)


def test_sixty_three_characters_are_allowed() -> None:
    """As many as CreateTransformJob takes."""
    assert JsonPath("$." + "a" * 61)({"a" * 61: 1}) == 1


@pytest.mark.parametrize(("path", "sentence"), [("$.a", "have no names"), ("$[0][1]", "has no parts")])
def test_columns_of_csv_have_places_only(path: str, sentence: str) -> None:
    """A row of CSV is a flat array."""
    with pytest.raises(UsageError) as caught:
        JsonPath(path).check_for_rows()
    assert sentence in str(caught.value)
