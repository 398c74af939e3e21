"""Asynchronous invocations: requests whose payload and answer lie in S3.

What is accepted is in the store until it is answered, so a platform that was killed answers it when it runs again; one
that was under way is asked a second time.
"""

from __future__ import annotations

import base64
import queue
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from functools import partial
from typing import Any, Final

from botocore.exceptions import BotoCoreError, ClientError

from ..errors import ClaryError
from ..logs import emit
from .connections import Answer, header
from .edge import guarded
from .faults import ServiceUnavailable, ValidationError
from .manifests import Location
from .platform import Platform
from .store import Thing, insist
from .targets import Invocation, Target

__all__ = ["AsyncInvocations"]

_KIND: Final = "async-invocation"
_LARGEST: Final = 1 << 30  # bytes of an input object, on SageMaker too
_UNTOLD: Final = "binary/octet-stream"  # the type of an object of which nobody has told it
_AGAIN: Final = 0.2  # seconds
_IDLE: Final = 1.0  # seconds between two looks at whether the platform ends

Lend = Callable[[], AbstractContextManager[Target]]


class AsyncInvocations:
    """Those of one endpoint.

    Parameters
    ----------
    platform
        Whose it is.
    endpoint
        Its name.
    lend
        Gives a variant that answers.
    """

    def __init__(self, platform: Platform, endpoint: str, lend: Lend) -> None:
        self._platform = platform
        self._endpoint = endpoint
        self._lend = lend
        self._waiting: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._workers = 0
        self._lock = threading.Lock()
        self._accepting = threading.Lock()
        self._forgotten = threading.Event()

    def accept(self, request: Mapping[str, Any], at_once: int) -> None:
        """Take on a request.

        Parameters
        ----------
        request
            ``input``, the place in S3, or ``body``; ``headers`` for the container; ``output`` and ``failure``, places
            in S3, the latter perhaps empty; ``timeout`` and ``ttl``, in seconds.
        at_once
            How many may be under way.
        """
        name = uuid.uuid4().hex
        with self._accepting:
            if self._forgotten.is_set():
                raise ValidationError(f"Endpoint {self._endpoint} is being deleted")
            self._platform.store.add(_KIND, name, {**request, "at_once": at_once}, parent=self._endpoint)
        self._enqueue(name, at_once)

    def resume(self) -> None:
        """Take up what an earlier run has accepted and not answered, before anything else is accepted."""
        for thing in self._platform.store.all(_KIND, parent=self._endpoint):
            self._enqueue(thing.name, thing.document["at_once"])

    def forget(self) -> None:
        """Answer nothing any more: the endpoint is deleted."""
        with self._accepting:  # what comes later would be there for the next endpoint of the same name
            self._forgotten.set()
        for thing in self._platform.store.all(_KIND, parent=self._endpoint):
            self._platform.store.remove(_KIND, thing.name)

    def _enqueue(self, name: str, at_once: int) -> None:
        self._waiting.put(name)
        with self._lock:
            if self._workers < at_once:
                self._workers += 1
                threading.Thread(target=self._work, name=f"async {self._endpoint}", daemon=True).start()

    def _is_over(self) -> bool:
        return self._forgotten.is_set() or self._platform.closing.is_set()

    def _work(self) -> None:
        """Answer what is waiting, until the endpoint ends."""
        while not self._is_over():
            try:
                name = self._waiting.get(timeout=_IDLE)
            except queue.Empty:
                continue
            store, closing = self._platform.store, self._platform.closing
            thing = insist(partial(store.get, _KIND, name), closing)
            if thing is not None and self._answer(thing):
                insist(partial(store.remove, _KIND, name), closing)

    def _answer(self, thing: Thing) -> bool:
        """Write the answer, or why there is none; whether that is settled."""
        failure = guarded(f"an answer of {self._endpoint}", lambda: self._failure(thing), lambda why: why)
        if failure is None:
            return True
        if self._is_over():
            return False  # whoever comes next asks again
        self._tell(thing.document["failure"], failure)
        return True

    def _failure(self, thing: Thing) -> str | None:
        """Why there is no answer; None where it is written."""
        try:
            answer = self._asked(thing)
            self._put(thing.document["output"], answer.body, header(answer.headers, "Content-Type") or "")
        except (ClaryError, ClientError, BotoCoreError) as error:
            return str(error)
        return None

    def _tell(self, where: str, failure: str) -> None:
        """Write why there is no answer, if somebody wants to know."""
        emit(f"an asynchronous invocation of {self._endpoint} failed: {failure}")
        if where:
            try:
                self._put(where, failure.encode(), "text/plain")
            except (ClaryError, ClientError, BotoCoreError) as error:
                emit(f"{where} cannot be written: {error}")

    def _asked(self, thing: Thing) -> Answer:
        """The answer, of which there is one as soon as the endpoint is in service, before it is too late."""
        request = thing.document
        invocation = self._invocation(request)
        while True:
            if time.time() > thing.created + request["ttl"]:
                raise ServiceUnavailable(f"it has waited for longer than RequestTTLSeconds, {request['ttl']}")
            try:
                with self._lend() as target:
                    return target.ask(invocation, request["timeout"])
            except ServiceUnavailable:
                if self._is_over():
                    raise
            self._forgotten.wait(_AGAIN)

    def _invocation(self, request: Mapping[str, Any]) -> Invocation:
        """What the container is asked; the SageMaker SDK names the content type on the object in S3 alone."""
        if not request["input"]:
            return Invocation(base64.b64decode(request["body"]), request["headers"])
        at = Location.of(request["input"])
        answer = self._platform.s3.get_object(Bucket=at.bucket, Key=at.key)
        with answer["Body"] as stream:
            if answer["ContentLength"] > _LARGEST:
                raise ValidationError(f"{at} is larger than {_LARGEST >> 30} GiB")
            kind = answer.get("ContentType", _UNTOLD)
            told = {} if kind == _UNTOLD else {"Content-Type": kind}
            return Invocation(stream.read(), {**told, **request["headers"]})

    def _put(self, uri: str, content: bytes, content_type: str) -> None:
        at = Location.of(uri)
        extra = {"ContentType": content_type} if content_type else {}
        self._platform.s3.put_object(Bucket=at.bucket, Key=at.key, Body=content, **extra)
