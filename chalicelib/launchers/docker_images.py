"""Images of a Docker daemon, pulled once for all who wait for them."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from typing import Any

from chalicelib.errors import LaunchDeferred, LaunchRejected, shorten
from chalicelib.launchers.docker_answers import REFUSALS, answers
from chalicelib.launchers.rulings import Ruling, by_text


class Images:
    """Those of one daemon, for all threads."""

    def __init__(self) -> None:
        self._pulls: dict[str, Future[None]] = {}
        self._lock = threading.Lock()

    def pull(self, client: Any, image: str, seconds: float) -> None:
        """Pull an image. Raises LaunchDeferred when that takes longer, and goes on; LaunchError when it fails."""
        with self._lock:
            is_new = image not in self._pulls
            pull = self._pulls.setdefault(image, Future())
        if is_new:
            threading.Thread(target=self._fetch, args=(client, image, pull), daemon=True).start()
        try:
            pull.result(max(0.0, seconds))
        except TimeoutError:
            raise LaunchDeferred(f"Image {image} is still being pulled") from None

    def _fetch(self, client: Any, image: str, pull: Future[None]) -> None:
        try:
            with answers(f"Pulling {image}"):
                for line in client.pull(image, stream=True, decode=True):
                    if "error" in line:
                        ruling = by_text(REFUSALS, line["error"]) or Ruling(LaunchRejected)
                        raise ruling.say(f"Pulling {image}", shorten(line["error"]))
            pull.set_result(None)
        except Exception as error:
            pull.set_exception(error)  # whoever waits for the image hears of it
        finally:
            del self._pulls[image]
