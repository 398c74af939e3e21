"""Twenty thousand bad bodies: no server fails, dies, hangs or grows, and each goes on to answer good ones.

CLARY_FUZZ_SEED chooses others. The figures are printed.
"""

from __future__ import annotations

import http.client
import io
import json
import os
import random
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from clary.recordio.batch import CSR, Array, Batch
from clary.recordio.writer import write_batch

from ..boosters import ROWS, libsvm, present, trained
from ..job import csv, recordio
from .conftest import CENTRES, Server, Start

SEED = int(os.environ.get("CLARY_FUZZ_SEED", "0"))
MUTATED = 8_000
"""Mutated bodies for each of the two servers."""
BATCHES, BATCH = 60, 40
"""Of made-up bodies, for each of the two."""
THREADS = 3
GROWTH = 64
"""MiB that a server may grow by, once it has seen every format."""
HANG = 30.0

TYPES = {
    "csv": "text/csv",
    "json": "application/json",
    "jsonlines": "application/jsonlines",
    "libsvm": "text/libsvm",
    "parquet": "application/x-parquet",
    "recordio": "application/x-recordio-protobuf",
}
Request = tuple[bytes, dict[str, str]]
POINTS = np.array([[6, 8], [0, 0.5], [-3, 1e-5]], np.float32)
TOKENS = (
    *(
        b"nan",
        b"inf",
        b"-",
        b"1e999",
        b"1e-999",
        b"99999999999",
        b"-1",
        b"0x1",
        b"\x00",
        b"\xff",
        b'"',
        b"'",
        b",",
        b";",
    ),
    *(b"[", b"]", b"{", b"}", b":", b"\n", b"\r\n", b" ", b"#", b"null", b"true", b"1:1", b"qid:1", b"4294967295:1"),
    *(b'{"features":', b'"keys":', b'"shape":[999999999]', b"\n\x08\x02\xce", b"\x0a\xd7\x23\xce", b"PAR1"),
)


@dataclass
class Target:
    """A server, what it takes, and what it has answered."""

    server: Server
    good: dict[str, bytes]
    right: dict[str, bytes] = field(default_factory=dict)
    statuses: Counter[int] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)

    @property
    def worker(self) -> int:
        """The process that answers."""
        pid = self.server.process.pid
        [child] = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return int(child)

    @property
    def memory(self) -> int:
        """MiB that it takes."""
        return int(Path(f"/proc/{self.worker}/status").read_text().partition("VmRSS:")[2].split()[0]) >> 10

    def post(self, requests: Iterable[Request]) -> None:
        """Send requests over one connection, and a good one now and then."""
        with closing(http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=HANG)) as connection:
            for i, (body, headers) in enumerate(requests):
                connection.request("POST", "/invocations", body, headers)
                response = connection.getresponse()
                text = response.read()
                self.statuses[response.status] += 1
                if response.status >= 500:
                    self.failures.append(f"{response.status} {text[:200]!r} for {headers} {body[:300]!r}")
                if i % 100 == 0:
                    self.check(connection)

    def check(self, connection: http.client.HTTPConnection) -> None:
        """A good request of each format is answered right."""
        for name, body in self.good.items():
            connection.request("POST", "/invocations", body, {"Content-Type": TYPES[name], "Accept": "text/csv"})
            response = connection.getresponse()
            answer = response.read()
            assert (response.status, answer) == (200, self.right.setdefault(name, answer)), name

    def hold(self, work: Callable[[], None]) -> None:
        """Do some work, after which the server is what it was before."""
        with closing(http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=HANG)) as connection:
            self.check(connection)
        worker, memory, began = self.worker, self.memory, time.monotonic()
        self.statuses.clear()
        work()
        grown, took = self.memory - memory, time.monotonic() - began
        count = sum(self.statuses.values())
        print(f"seed {SEED}: {count} bodies in {took:.0f} s, {grown:+} MiB from {memory}, {dict(self.statuses)}")
        assert not self.failures, "\n".join(self.failures[:5])
        assert self.worker == worker
        assert "Traceback" not in self.server.text
        assert grown <= GROWTH
        with closing(http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=HANG)) as connection:
            self.check(connection)


@pytest.fixture(scope="module", params=["kmeans", "xgboost"])
def target(request: pytest.FixtureRequest, start: Start, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    """A server of one worker, which ends well."""
    base = tmp_path_factory.mktemp("ml")
    (base / "model").mkdir()
    if request.param == "kmeans":
        (base / "model/model_algo-1").write_bytes(CENTRES.to_bytes())
        points = [{"features": row} for row in POINTS.tolist()]
        good = {
            "csv": csv(POINTS),
            "json": json.dumps({"instances": points}).encode(),
            "jsonlines": "\n".join(map(json.dumps, points)).encode(),
            "recordio": recordio(POINTS),
        }
    else:
        (base / "model/xgboost-model").write_bytes(trained())
        rows = ROWS[:6]
        good = {
            "csv": csv(rows).replace(b"nan", b""),
            "libsvm": libsvm(rows),
            "recordio": recordio(present(rows)),
            "parquet": parquet(rows),
        }
    running = Target(start(SAGEMAKER_BASE_DIR=base), good)
    with ThreadPoolExecutor(THREADS) as pool:  # each thread of the server meets every format
        list(pool.map(lambda i: running.post(islice(mutations(good, random_of(-i)), 300)), range(1, THREADS + 1)))
    yield running
    assert running.server.end() == 0


def parquet(rows: Array) -> bytes:
    """Rows as Parquet."""
    import pyarrow
    import pyarrow.parquet

    stream = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table({f"c{i}": column for i, column in enumerate(rows.T)}), stream)
    return stream.getvalue()


def random_of(number: int) -> random.Random:
    """A source of chance that is the same again for the same seed."""
    return random.Random(f"{SEED}/{number}")  # noqa: S311  # no secret


def mutations(good: dict[str, bytes], rng: random.Random) -> Iterator[Request]:
    """Good bodies with some bytes changed, under headers that may be odd."""
    names = list(good)
    while True:
        name = rng.choice(names)
        body = good[name]
        for _ in range(rng.choice((1, 1, 2, 4, 16))):
            body = mutated(body, rng)
        yield body, odd_headers(name, rng)


def mutated(body: bytes, rng: random.Random) -> bytes:
    """A body with one change."""
    first, last = sorted(rng.choices(range(len(body) + 1), k=2))
    kind = rng.randrange(7)
    if kind == 0:
        return body[:first] + rng.randbytes(1) + body[first + 1 :]
    if kind == 1:
        return body[:first] + rng.choice(TOKENS) + body[first:]
    if kind == 2:
        return body[:first] + rng.choice(TOKENS) + body[last:]
    if kind == 3:
        return body[:first] + body[last:]
    if kind == 4:
        return (body[:last] + body[first:])[:20_000]
    if kind == 5:
        return (
            body[:first] + bytes(byte ^ (1 << rng.randrange(8)) for byte in body[first : first + 4]) + body[first + 4 :]
        )
    return body[: rng.choice((first, last))]


def odd_headers(name: str, rng: random.Random) -> dict[str, str]:
    """Headers of a request, mostly those that belong to the format."""
    headers = {"Content-Type": TYPES[name]}
    if rng.random() < 0.2:
        more = (
            "",
            ";label_size=1",
            "; label_size=x",
            ";delimiter=|",
            ";first_index=1",
            ";" * 50,
            ';a="',
            ";label_size=99",
        )
        headers["Content-Type"] = rng.choice((*TYPES.values(), "", "x", "text/", "image/png")) + rng.choice(more)
    if rng.random() < 0.3:
        accepts = (*TYPES.values(), "", "*/*", "text/*", "a/b;q=x", "text/csv;q=0", ",,;", "é", "x" * 3000)
        headers["Accept"] = rng.choice(accepts)
    if rng.random() < 0.05:
        headers["Content-Encoding"] = rng.choice(("gzip", "identity", "br, x", ""))
    if rng.random() < 0.05:
        headers["X-Amzn-SageMaker-Custom-Attributes"] = "é" * rng.randrange(1000)
    return headers


def test_mutated_bodies(target: Target) -> None:
    """Bodies that are nearly good ones are answered or refused."""
    share = MUTATED // THREADS + 1

    def work() -> None:
        with ThreadPoolExecutor(THREADS) as pool:
            for done in [
                pool.submit(target.post, islice(mutations(target.good, random_of(i)), share)) for i in range(THREADS)
            ]:
                done.result()

    target.hold(work)
    assert sum(target.statuses.values()) >= MUTATED


NUMBERS = st.one_of(
    st.floats(width=32),
    st.integers(-(10**25), 10**25),
    st.sampled_from(["nan", "1e400", "-0", "1_0", "٣", "", " ", "x"]),
)
LEAVES = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8))
KEYS = st.sampled_from(["instances", "features", "data", "values", "keys", "shape", "configuration", "x"])
DOCUMENTS = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4), max_leaves=12
)
INSTANCES = st.fixed_dictionaries(
    {},
    optional={"features": DOCUMENTS | st.lists(st.floats(), max_size=4), "data": DOCUMENTS, "configuration": DOCUMENTS},
)
INDICES = st.integers(-3, 9) | st.integers(-(2**70), 2**70)
PAIRS = st.lists(st.tuples(INDICES, NUMBERS), max_size=5)


def lines(rows: Sequence[Sequence[object]], mark: str) -> bytes:
    """Rows of cells as text."""
    return "\n".join(mark.join(map(str, row)) for row in rows).encode("utf-8", "surrogatepass")


def pairs(rows: Sequence[Sequence[tuple[int, object]]]) -> bytes:
    """Rows as libsvm."""
    return "\n".join(" ".join(f"{i}:{value}" for i, value in row) for row in rows).encode()


def records(rows: Sequence[Sequence[float]]) -> bytes:
    """Rows as records, of which some may be sparse and each of another width."""
    stream = io.BytesIO()
    for number, row in enumerate(rows):
        features = np.array([row], np.float32)
        write_batch(stream, Batch(CSR.from_dense(features) if number % 2 else features))
    return stream.getvalue()


FLOATS = st.lists(st.lists(st.floats(width=32), min_size=1, max_size=6), max_size=4)
MADE: dict[str, st.SearchStrategy[bytes]] = {
    "csv": st.builds(lines, st.lists(st.lists(NUMBERS, max_size=6), max_size=4), st.sampled_from(",;\t| ")),
    "json": st.builds(
        json.dumps, DOCUMENTS | st.fixed_dictionaries({"instances": st.lists(INSTANCES, max_size=3)})
    ).map(str.encode),
    "jsonlines": st.lists(INSTANCES | DOCUMENTS, max_size=3).map(
        lambda rows: "\n".join(map(json.dumps, rows)).encode()
    ),
    "libsvm": st.builds(pairs, st.lists(PAIRS, max_size=4)),
    "recordio": st.builds(records, FLOATS),
    "parquet": st.binary(max_size=60).map(lambda inner: b"PAR1" + inner + b"PAR1"),
}
"""Bodies that a format's reader has to look at closely, by its name."""


def test_made_up_bodies(target: Target) -> None:
    """Bodies of the right form with any content, or of any bytes, are answered or refused."""
    requests = st.sampled_from([*target.good]).flatmap(
        lambda name: st.tuples(
            st.one_of(MADE[name], MADE[name], MADE[name], st.binary(max_size=80)),
            st.randoms(use_true_random=False).map(lambda rng: odd_headers(name, rng)),
        )
    )

    @seed(SEED)
    @settings(
        max_examples=BATCHES,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
    @given(st.lists(requests, min_size=BATCH, max_size=BATCH))
    def post(batch: list[Request]) -> None:
        target.post(batch)

    target.hold(post)
    assert sum(target.statuses.values()) >= BATCHES * BATCH
