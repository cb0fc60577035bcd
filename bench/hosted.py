"""A double in a process of its own, so that it keeps nobody else's threads from running, and nobody keeps its."""

from __future__ import annotations

import multiprocessing
import pickle
import signal
import threading
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any, Concatenate, Generic, ParamSpec, Protocol, TypeVar

END_SECONDS = 15.0
"""How long the process may take to end before it is killed."""


class Double(Protocol):
    """What can be hosted: a context manager that serves at its `url`."""

    url: str

    def __enter__(self) -> Any: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> object: ...


AnyDouble = TypeVar("AnyDouble", bound=Double)
P = ParamSpec("P")
Answer = TypeVar("Answer")


class Hosted(Generic[AnyDouble]):
    """`make(...)` entered in another process, which has ended afterwards. A context manager.

    `url` is where it serves. What goes to that process and comes back is pickled: functions of a module, plain data.
    Raises what the making of the double raised.
    """

    def __init__(self, make: Callable[P, AnyDouble], *args: P.args, **kwargs: P.kwargs) -> None:
        self._lock = threading.Lock()
        context = multiprocessing.get_context("spawn")  # A fork would copy the locks of threads that it does not have.
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_host, args=(theirs, make, args, kwargs), daemon=True)
        self._process.start()
        theirs.close()
        try:
            self.url: str = self._answer()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Hosted[AnyDouble]:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def ask(self, function: Callable[Concatenate[AnyDouble, P], Answer], *args: P.args, **kwargs: P.kwargs) -> Answer:
        """Call `function(double, ...)` there: a method of its class, or any function of a module.

        Raises what it raised, and EOFError when the process has ended.
        """
        with self._lock:
            self._pipe.send((function, args, kwargs))
            answer: Answer = self._answer()
            return answer

    def close(self) -> None:
        """End the double and its process."""
        self._pipe.close()
        self._process.join(END_SECONDS)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()

    def _answer(self) -> Any:
        answer, error = self._pipe.recv()
        if error is not None:
            raise error
        return answer


def _host(pipe: Connection, make: Callable[..., Double], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """The other process: it ends when the pipe does, whatever has become of its parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        made = make(*args, **kwargs)
    except Exception as error:
        pipe.send((None, _portable(error)))
        return
    with made as double:
        pipe.send((double.url, None))
        while _serve(pipe, double):
            pass


def _serve(pipe: Connection, double: Double) -> bool:
    """Answer one question; False when nobody will ask any more."""
    try:
        function, args, kwargs = pipe.recv()
        pipe.send((function(double, *args, **kwargs), None))
    except EOFError:
        return False
    except Exception as error:
        pipe.send((None, _portable(error)))
    return True


def _portable(error: Exception) -> Exception:
    """The error with where it came from; one that cannot be copied as its text."""
    error.add_note(traceback.format_exc())
    try:
        copy: Exception = pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(repr(error))
    return copy
