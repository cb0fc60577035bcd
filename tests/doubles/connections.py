"""The HTTP server under every double: keep-alive on 127.0.0.1, and an end that leaves nothing behind."""

from __future__ import annotations

import socket
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class HttpServer(ThreadingHTTPServer):
    """Serves `exchange` until `stop`, which also ends the connections that clients keep open."""

    daemon_threads = False
    block_on_close = True
    request_queue_size = 128
    """Connections that may wait to be accepted. With socketserver's 5 a client that opens 25 at once waits a second for
    one of them, until TCP tries again; no real server has so few.
    """

    def __init__(self, exchange: type[BaseHTTPRequestHandler]) -> None:
        super().__init__(("127.0.0.1", 0), exchange)
        self._connections: set[socket.socket] = set()
        self._thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05})
        self._thread.start()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    def finish_request(self, request: Any, client_address: Any) -> None:
        """Serve one connection, known while it lasts."""
        self._connections.add(request)
        try:
            super().finish_request(request, client_address)
        finally:
            self._connections.discard(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no error; anything else is."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)

    def stop(self) -> None:
        """End all threads and connections."""
        self.shutdown()
        self._thread.join()
        for connection in list(self._connections):
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue
        self.server_close()
