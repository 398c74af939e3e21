"""What filters send, and what joins write."""

from __future__ import annotations

from typing import Any

import pytest

from clary.containers.joining import Processing
from clary.containers.splitting import Piece
from clary.containers.transform_job import TransformJob
from clary.errors import DataError, UsageError

CSV: dict[str, Any] = {"content_type": "text/csv", "accept": "text/csv"}
JSON: dict[str, Any] = {"content_type": "application/json", "accept": "application/json"}
LINES: dict[str, Any] = {"content_type": "application/jsonlines", "accept": "application/jsonlines"}
BY_LINE: dict[str, Any] = {"split_type": "Line", "assemble_with": "Line"}


def sent(record: bytes, input_filter: str, number: int = 3, **more: Any) -> bytes:
    """What is sent of a record."""
    prepare = Processing(TransformJob(input_filter=input_filter, **more)).prepare
    assert prepare is not None
    return prepare((number, record))


def written(answer: bytes, *given: bytes, **more: Any) -> bytes:
    """What is written for the answer to some records."""
    piece = Piece(1, len(given), len(given), b"".join(given), given)
    return Processing(TransformJob(**more)).finish(piece, answer)


@pytest.mark.parametrize(
    ("path", "body"),
    [("$[1:]", b'"x, y",3\n'), ("$[0]", b"1\n"), ("$[-1,0]", b"3,1\n"), ("$[*]", b'1,"x, y",3\n')],
)
def test_columns_of_csv_are_chosen(path: str, body: bytes) -> None:
    """A comma between quotes divides nothing, and fields stay as they are written."""
    assert sent(b'1,"x, y",3\r\n', path, **CSV, **BY_LINE) == body


def test_rows_of_a_whole_file_are_filtered_one_by_one() -> None:
    """Without a split all lines are one record, and yet rows."""
    assert sent(b"1,2\n\n3,4", "$[1]", 0, **CSV) == b"2\n4\n"
    assert sent(b'{"a":1}\n{"a":2}\n', "$.a", 0, **LINES) == b"1\n2\n"
    assert sent(b'{"a":\n{"b": [1]}}\n', "$.a", 0, **JSON) == b'{"b":[1]}'


def test_fields_of_json_are_chosen() -> None:
    """Text stays text, not escapes."""
    assert sent('{"id":1,"t":"é","x":[1,2.50]}'.encode(), "$['t','x']", **LINES, **BY_LINE) == (
        '{"t":"é","x":[1,2.50]}\n'.encode()
    )


@pytest.mark.parametrize(
    ("record", "path", "more", "sentence"),
    [
        (b"1,2\n", "$[2]", CSV, "line 3: InputFilter $[2]: there is no element 2 in an array of 2"),
        (b'{"a":1}\n', "$.b", LINES, "line 3: InputFilter $.b: there is no field 'b'"),
        (b'{"a":\n', "$.a", LINES, "line 3: the record is no JSON: "),
        (b"[" * 100_000, "$.a", LINES, "line 3: the record is no JSON: "),
    ],
)
def test_a_record_without_what_the_filter_asks_for_is_named(
    record: bytes, path: str, more: dict[str, Any], sentence: str
) -> None:
    """By its line."""
    with pytest.raises(DataError) as caught:
        sent(record, path, **more, **BY_LINE)
    assert str(caught.value).startswith(sentence)


def test_a_prediction_is_appended_to_its_row() -> None:
    """The row is the one of the file, not what a filter left of it."""
    found = written(b"0.5,1\n0.7,0\n", b"id1,2,3\r\n", b"id2,4,5", join_source="Input", **CSV, **BY_LINE)
    assert found == b"id1,2,3,0.5,1\nid2,4,5,0.7,0\n"


def test_a_prediction_is_a_key_of_its_object() -> None:
    """What is no object becomes a part of one."""
    more = {"join_source": "Input", **LINES, **BY_LINE}
    assert written(b'{"score":1}\n2\n', b'{"id":"a"}\n', b"[1,2]\n", **more) == (
        b'{"id":"a","SageMakerOutput":{"score":1}}\n{"SageMakerInput":[1,2],"SageMakerOutput":2}\n'
    )


def test_a_json_document_is_joined_as_one() -> None:
    """Line breaks in it do not matter."""
    found = written(b'{\n"p": [1]}', b'{"instances":\n[3]}', join_source="Input", **JSON)
    assert found == b'{"instances":[3],"SageMakerOutput":{"p":[1]}}'


def test_json_documents_that_share_a_request_are_lines() -> None:
    """Their answers are, too."""
    found = written(b"1\n2\n", b'{"a":1}\n', b'{"a":2}\n', join_source="Input", **JSON, **BY_LINE)
    assert found == b'{"a":1,"SageMakerOutput":1}\n{"a":2,"SageMakerOutput":2}\n'


def test_rows_of_a_whole_file_are_joined_one_by_one() -> None:
    """Without a split, too."""
    assert written(b"5\n6\n", b"1,2\n3,4\n", join_source="Input", **CSV) == b"1,2,5\n3,4,6\n"


def test_the_output_filter_sees_the_joined_row() -> None:
    """So an id comes through that the model never saw."""
    more = {"join_source": "Input", **BY_LINE}
    assert written(b"0.5\n", b"id1,2,3\n", output_filter="$[0,-1]", **more, **CSV) == b"id1,0.5\n"
    path = "$['id','SageMakerOutput']"
    assert (
        written(b"2\n", b'{"id":1,"x":5}\n', output_filter=path, **more, **LINES) == b'{"id":1,"SageMakerOutput":2}\n'
    )


def test_the_output_filter_works_without_a_join() -> None:
    """On the answer alone."""
    assert written(b"1,0.5\n0,0.7\n", b"1\n", b"2\n", output_filter="$[1]", **CSV, **BY_LINE) == b"0.5\n0.7\n"
    assert written(b'{"predictions":[{"score":1}]}', b"x", output_filter="$.predictions[*].score", **JSON) == b"[1]"


@pytest.mark.parametrize(
    ("answer", "more", "sentence"),
    [
        (b"1\n", {}, "2 records were sent and 1 came back"),
        (b"1\n2\n3\n", {}, "2 records were sent and 3 came back"),
        (b"1\n2\n", {"output_filter": "$[0,7]"}, "OutputFilter $[0,7]: there is no element 7 in an array of 3"),
    ],
)
def test_an_answer_that_cannot_be_joined_is_an_error(answer: bytes, more: dict[str, Any], sentence: str) -> None:
    """It says both numbers, or what is missing."""
    with pytest.raises(DataError) as caught:
        written(answer, b"1,2\n", b"3,4\n", join_source="Input", **more, **CSV, **BY_LINE)
    assert sentence in str(caught.value)


def test_an_answer_that_is_no_json_is_an_error() -> None:
    """It cannot be a value of anything."""
    with pytest.raises(DataError, match="the answer is no JSON"):
        written(b"nan?\n", b"{}\n", join_source="Input", **LINES, **BY_LINE)


def test_answers_are_assembled() -> None:
    """None leaves them as they are; Line ends each with one newline, also an empty one."""
    assert written(b"1\n2", b"x") == b"1\n2"
    assert written(b"1\n2", b"x", assemble_with="Line") == b"1\n2\n"
    assert written(b"1\n2\n", b"x", assemble_with="Line") == b"1\n2\n"
    assert written(b"", b"x", assemble_with="Line") == b"\n"


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        (
            {"input_filter": "$[0]"},
            "need as ContentType text/csv, application/json or application/jsonlines: got none",
        ),
        ({"output_filter": "$[0]"}, "need as Accept text/csv"),
        ({"input_filter": "$[0]", "content_type": "image/png"}, "got image/png"),
        ({"input_filter": "$.a", "content_type": "text/csv"}, "the columns of CSV have no names"),
        ({"input_filter": "$[0]", "split_type": "RecordIO", **CSV}, "RecordIO cannot be filtered or joined"),
        ({"join_source": "Input", "content_type": "text/csv"}, "an Accept that is the same: got text/csv and none"),
        ({"join_source": "Input", **CSV, "accept": "application/json"}, "got text/csv and application/json"),
        ({"join_source": "Input", "split_type": "Line", **CSV}, "needs AssembleWith Line"),
    ],
)
def test_settings_have_to_fit_together(more: dict[str, Any], sentence: str) -> None:
    """It is found out before anything is asked."""
    with pytest.raises(UsageError) as caught:
        Processing(TransformJob(**more))
    assert sentence in str(caught.value)


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        ({"max_payload_in_mb": 101}, "MaxPayloadInMB 101 is not allowed: it takes 0 to 100"),
        ({"max_payload_in_mb": 6, "max_concurrent_transforms": 17}, "is 102 MB: at most 100 MB"),
        ({"invocations_max_retries": 4}, "InvocationsMaxRetries 4 is not allowed: it takes 0 to 3"),
        ({"invocations_timeout_in_seconds": 3601}, "InvocationsTimeoutInSeconds 3601"),
        ({"split_type": "Lines"}, "SplitType 'Lines' is not allowed: write None or Line or RecordIO or TFRecord"),
        ({"environment": {f"A{i}": "" for i in range(17)}}, "17 variables: at most 16"),
        ({"environment": {"A-B": ""}}, "'A-B' is no name of a variable"),
        ({"environment": {"A": "x" * 10241}}, "A has 10241 characters: at most 10240"),
    ],
)
def test_settings_have_the_limits_of_the_api(more: dict[str, Any], sentence: str) -> None:
    """They are called as the API calls them."""
    with pytest.raises(UsageError) as caught:
        TransformJob(**more)
    assert sentence in str(caught.value)


def test_what_is_asked_comes_before_what_the_container_offers() -> None:
    """And that before the defaults; a number of requests that nobody asked for is lowered to fit."""
    offered = {"MaxConcurrentTransforms": 8, "BatchStrategy": "SINGLE_RECORD", "MaxPayloadInMB": 4}
    nothing = TransformJob().completed({})
    by_container = TransformJob().completed(offered)
    asked = TransformJob(max_payload_in_mb=30, batch_strategy="MultiRecord").completed(offered)

    def told(job: TransformJob) -> tuple[object, ...]:
        return job.max_concurrent_transforms, job.batch_strategy, job.max_payload_in_mb

    assert told(nothing) == (1, "MultiRecord", 6)
    assert told(by_container) == (8, "SingleRecord", 4)
    assert told(asked) == (3, "MultiRecord", 30)
    assert told(TransformJob().completed({"BatchStrategy": "MultiRecord"})) == (1, "MultiRecord", 6)


@pytest.mark.parametrize("offered", [{"BatchStrategy": "Some"}, {"MaxPayloadInMB": "x"}, {"MaxPayloadInMB": 1000}])
def test_what_a_container_offers_is_checked(offered: dict[str, Any]) -> None:
    """It is the container's fault, and the message says so."""
    with pytest.raises(UsageError, match="the container's /execution-parameters cannot be used"):
        TransformJob().completed(offered)


def test_a_container_is_told_of_the_job() -> None:
    """SAGEMAKER_BATCH always, the rest where it was asked for."""
    assert TransformJob(environment={"A": "b"}).variables == {"A": "b", "SAGEMAKER_BATCH": "true"}
    job = TransformJob(batch_strategy="SingleRecord", max_payload_in_mb=0, max_concurrent_transforms=2)
    assert job.variables == {
        "SAGEMAKER_BATCH": "true",
        "SAGEMAKER_MAX_PAYLOAD_IN_MB": "0",
        "SAGEMAKER_BATCH_STRATEGY": "SINGLE_RECORD",
        "SAGEMAKER_MAX_CONCURRENT_TRANSFORMS": "2",
    }


def test_numbers_stay_as_they_are() -> None:
    """A number that no float holds passes through a join digit by digit, and what is none is refused."""
    record = b'{"id":12345678901234567890.10,"n":1e400}'
    answer = b'{"score": 0.1000}\n'
    expected = b'{"id":12345678901234567890.10,"n":1e400,"SageMakerOutput":{"score":0.1000}}\n'
    assert written(answer, record, **LINES, **BY_LINE, join_source="Input") == expected
    with pytest.raises(DataError, match="NaN is no number there"):
        written(answer, b'{"x": NaN}', **LINES, **BY_LINE, join_source="Input")
