"""An endpoint on this machine that answers as it is told: well, late, in pieces, or not at all."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Behaviour = Callable[[BaseHTTPRequestHandler], None]


def send(handler: BaseHTTPRequestHandler, status: int, body: bytes, length: int | None = None, **headers: str) -> None:
    handler.leave()  # before the first byte: who reads the answer may ask again before this thread goes on
    handler.send_response(status)
    headers = {"Content-Type": "application/json", "Content-Length": str(length or len(body)), **headers}
    for name, value in headers.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.end_headers()
    handler.wfile.write(body)


def completion(text: str | None, finish: str | None = "stop", **message: Any) -> bytes:
    choice = {"index": 0, "finish_reason": finish, "message": {"role": "assistant", "content": text, **message}}
    usage = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
    return json.dumps({"id": "x", "object": "chat.completion", "choices": [choice], "usage": usage}).encode()


def says(text: str | None, finish: str | None = "stop", **message: Any) -> Behaviour:
    return lambda handler: send(handler, 200, completion(text, finish, **message))


def fails(status: int, message: str = "no", code: str | None = None, **headers: str) -> Behaviour:
    body = json.dumps({"error": {"message": message, "code": code}}).encode()
    return lambda handler: send(handler, status, body, **headers)


def raw(body: bytes, **headers: str) -> Behaviour:
    return lambda handler: send(handler, 200, body, **headers)


def late(seconds: float, then: Behaviour) -> Behaviour:
    def behave(handler: BaseHTTPRequestHandler) -> None:
        time.sleep(seconds)
        then(handler)

    return behave


def cut(handler: BaseHTTPRequestHandler) -> None:
    """Promise a whole body, send half of it and hang up."""
    body = completion("a text that never arrives in full")
    send(handler, 200, body[: len(body) // 2], len(body))


class Served:
    """What the endpoint was asked.

    Args:
        decide: Gives the behaviour for a prompt and how often it was asked before.
    """

    def __init__(self, decide: Callable[[str, int], Behaviour]) -> None:
        self.decide = decide
        self.url = ""
        self.bodies: list[dict[str, Any]] = []
        self.keys: list[str] = []
        self.most = 0
        self._inside: set[BaseHTTPRequestHandler] = set()
        self._lock = threading.Lock()

    @property
    def prompts(self) -> list[str]:
        return [body["messages"][0]["content"] for body in self.bodies]

    def handle(self, handler: BaseHTTPRequestHandler) -> None:
        body = json.loads(handler.rfile.read(int(handler.headers["Content-Length"])))
        prompt = body["messages"][0]["content"]
        with self._lock:
            before = self.prompts.count(prompt)
            self.bodies.append(body)
            self.keys.append(handler.headers.get("Authorization", ""))
            self._inside.add(handler)
            self.most = max(self.most, len(self._inside))
        try:
            self.decide(prompt, before)(handler)
        except (BrokenPipeError, ConnectionResetError):
            pass  # who asked has given up
        finally:
            self.leave(handler)

    def leave(self, handler: BaseHTTPRequestHandler) -> None:
        with self._lock:
            self._inside.discard(handler)


@contextmanager
def serving(decide: Callable[[str, int], Behaviour]) -> Iterator[Served]:
    """Serve until the block ends."""
    served = Served(decide)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            served.handle(self)

        def leave(self) -> None:
            served.leave(self)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    served.url = f"http://127.0.0.1:{server.server_port}/v1"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield served
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
