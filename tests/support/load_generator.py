"""A bounded load of POST /predict on keep-alive connections, from threads of the test's own process."""

import http.client
import json
from collections.abc import Callable, Mapping
from threading import Condition, Event, Thread
from typing import Any

_WAIT_S = 120.0


class Load:
    """Each of `clients` sends one request after the other until `stop`, or until it has sent `most`.

    The result of `body` is sent as JSON, or as it is if it is bytes; answers likewise.
    `replies` holds (status, body, what was sent) of every answer, in the order of arrival; status 0
    means that the connection broke, with the error as the body.
    """

    def __init__(
        self,
        address: str,
        path: str,
        body: Callable[[int], Any],
        clients: int = 8,
        most: int = 100_000,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self.replies: list[tuple[int, Any, Any]] = []
        self._changed = Condition()
        self._stop = Event()
        self._address, self._path, self._body, self._most = address, path, body, most
        self._headers = dict(headers or {})
        self._threads = [Thread(target=self._run, args=(number,), daemon=True) for number in range(clients)]

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> list[tuple[int, Any, Any]]:
        self._stop.set()
        for thread in self._threads:
            thread.join(_WAIT_S)
        return self.replies

    def wait_answers(self, count: int) -> None:
        """Until this many more have been answered."""
        self.wait_total(len(self.replies) + count)

    def wait_total(self, goal: int) -> None:
        """Until this many have been answered since the start."""
        with self._changed:
            if not self._changed.wait_for(lambda: len(self.replies) >= goal, _WAIT_S):
                raise AssertionError(f"only {len(self.replies)} of {goal} answers came; the last: {self.replies[-3:]}")

    def failures(self) -> list[tuple[int, Any, Any]]:
        return [reply for reply in self.replies if reply[0] != 200]

    def _run(self, number: int) -> None:
        connection = http.client.HTTPConnection(self._address, timeout=_WAIT_S)
        for turn in range(self._most):
            if self._stop.is_set():
                break
            sent = self._body(number * 1000 + turn % 1000)
            try:
                content = sent if isinstance(sent, bytes) else json.dumps(sent)
                connection.request("POST", self._path, content, self._headers)
                answer = connection.getresponse()
                raw = answer.read()
                is_json = answer.headers.get_content_type() == "application/json"
                reply = (answer.status, json.loads(raw) if is_json else raw, sent)
            except (OSError, http.client.HTTPException) as error:
                reply = (0, repr(error), sent)
                connection.close()
            with self._changed:
                self.replies.append(reply)
                self._changed.notify_all()
        connection.close()
