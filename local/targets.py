"""A variant of an endpoint that answers, and what its answers mean to a client."""

from __future__ import annotations

import http.client
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, Final, NoReturn

from .connections import Answer, BrokenError, Connections, GoneError, LateError
from .faults import ModelError, ServiceUnavailable, ValidationError
from .multi_model import MultiModel, RefusedLoadError
from .platform import Platform
from .served import Served, containers_of

__all__ = ["REAL_TIME", "Invocation", "Target"]

REAL_TIME: Final = 60.0
"""Seconds that a container has for an answer."""

_TICK: Final = 0.1  # seconds
_SHOWN: Final = 16_384  # characters of a container's refusal
_LATE: Final = (
    "Your invocation timed out while waiting for a response from container {}. Review the latency metrics for each "
    "container in Amazon CloudWatch, resolve the issue, and try again."
)


@dataclass(frozen=True, slots=True)
class Invocation:
    """A request for a prediction.

    Parameters
    ----------
    body
        Its payload.
    headers
        Those that the container gets.
    model
        The archive that is meant, of a multi-model endpoint; empty for none.
    container
        The one that is meant, where they are asked directly; empty for none.
    """

    body: bytes
    headers: Mapping[str, str]
    model: str = ""
    container: str = ""


class Target:
    """The running containers of a variant, as those who ask see them.

    Parameters
    ----------
    platform
        Where they run.
    model
        What describes their model.
    served
        The containers, which answer.
    log
        ARN of the log group.
    variant
        Its name.
    """

    def __init__(self, platform: Platform, model: Mapping[str, Any], served: Served, log: str, variant: str) -> None:
        definitions = containers_of(model)
        self.variant = variant
        self._served = served
        self._log = log
        self._account = platform.account
        self._closing = platform.closing
        self._row = len(definitions) > 1 and not served.direct
        addresses = served.addresses if served.direct else {served.names[0]: served.address}
        self._connections = {name: Connections(*address) for name, address in addresses.items()}
        self._models: MultiModel | None = None
        first = definitions[served.names[0]]
        if first.get("Mode") == "MultiModel":
            self._models = MultiModel(
                platform.s3, first["ModelDataUrl"], served.root, served.seen_root, self._connections[served.names[0]]
            )
        self._users = 0
        self._leaving = False
        self._changed = threading.Condition()

    @contextmanager
    def borrowed(self) -> Iterator[bool]:
        """Keep the containers alive for the block; whether they still answer."""
        with self._changed:
            lent = not self._leaving
            self._users += lent
        try:
            yield lent
        finally:
            if lent:
                with self._changed:
                    self._users -= 1
                    self._changed.notify_all()

    def retire(self, patience: float) -> None:
        """Take no more requests; return when those under way are answered, `patience` is over, or the platform ends.

        It is in seconds.
        """
        deadline = time.monotonic() + patience
        with self._changed:
            self._leaving = True
            while self._users and not self._closing.is_set() and (left := deadline - time.monotonic()) > 0:
                self._changed.wait(min(left, _TICK))
        for connections in self._connections.values():
            connections.close()

    def ask(self, invocation: Invocation, timeout: float = REAL_TIME) -> Answer:
        """The answer to a request.

        Raises
        ------
        Fault
            When the request names what is not there, or the container refuses, fails or is silent.
        """
        with self.opened(invocation, timeout) as response:
            return Answer(response.status, response.headers, response.read())

    @contextmanager
    def opened(self, invocation: Invocation, timeout: float = REAL_TIME) -> Iterator[http.client.HTTPResponse]:
        """The answer to a request, of which the body is still to be read."""
        name, connections = self._container(invocation)
        try:
            with self._response(connections, invocation, timeout) as response:
                if not http.client.OK <= response.status < http.client.MULTIPLE_CHOICES:
                    self._refuse(name, response.status, response.read().decode(errors="replace"))
                yield response
        except RefusedLoadError as error:
            self._refuse(name, error.answer.status, error.answer.body.decode(errors="replace"))
        except GoneError as error:
            raise ServiceUnavailable(f"the container {name} of variant {self.variant} is not there: {error}") from error
        except LateError as error:
            self._fail(name, _LATE.format(name), error)
        except BrokenError as error:
            self._fail(name, str(error), error)

    def _response(
        self, connections: Connections, invocation: Invocation, timeout: float
    ) -> AbstractContextManager[http.client.HTTPResponse]:
        if self._models is not None:
            return self._models.opened(invocation.model, invocation.body, invocation.headers, timeout)
        if invocation.model:
            raise ValidationError("TargetModel is for multi-model endpoints; this one has a model of its own")
        return connections.opened("POST", "/invocations", invocation.body, invocation.headers, timeout=timeout)

    def _container(self, invocation: Invocation) -> tuple[str, Connections]:
        """Whom a request is for."""
        if not self._served.direct:
            if invocation.container:
                raise ValidationError("TargetContainerHostname is for containers in Direct mode; these are none")
            return next(iter(self._connections.items()))
        if found := self._connections.get(invocation.container):
            return invocation.container, found
        known = ", ".join(self._connections)
        raise ValidationError(
            f"TargetContainerHostname {invocation.container or 'is missing: it'} has to be one of {known}"
        )

    def _refuse(self, name: str, status: int, text: str) -> NoReturn:
        """Tell a client of an answer that is no success."""
        text = text[:_SHOWN]
        if not (self._row and text.startswith("Received ")):  # whoever is in front of a row says it itself
            told = f'Received {_kind(status)} error ({status}) from {name} with message "{text}".'
        else:
            told = text
        raise self._error(told, status, text)

    def _fail(self, name: str, text: str, cause: Exception) -> NoReturn:
        """Tell a client of an answer that has not come."""
        raise self._error(f'Received server error (0) from {name} with message "{text}".', 0, text) from cause

    def _error(self, told: str, status: int, text: str) -> ModelError:
        group = self._log.rpartition(":log-group:")[2]
        where = f"See {group} in account {self._account} for more information."
        return ModelError(f"{told} {where}", status=status, text=text, log=self._log)


def _kind(status: int) -> str:
    return "client" if status < http.client.INTERNAL_SERVER_ERROR else "server"
