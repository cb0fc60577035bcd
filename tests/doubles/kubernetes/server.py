"""`KubernetesServer`: the double as tests and demo hold it."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from types import TracebackType

from tests.doubles.kubernetes import access, controller, events, kubelet, operations, routes
from tests.doubles.kubernetes.certificates import Authority
from tests.doubles.kubernetes.defaults import JOB_NAME_LABEL
from tests.doubles.kubernetes.faults import Fault, Faults
from tests.doubles.kubernetes.refusals import Refusal, Row
from tests.doubles.kubernetes.resources import EVENTS, JOBS, NAMESPACES, PODS, Resource
from tests.doubles.kubernetes.routes import Call, Request
from tests.doubles.kubernetes.store import Clock, Store, SystemClock
from tests.doubles.kubernetes.transport import Answer, CutConnection, serve

NODE = "node-1"


class KubernetesServer:
    """A Kubernetes API at `url`, a context manager, with the named `namespaces` in it.

    Clients must trust `ca_pem` and send one of the `tokens`. `clock` is its time. `round_trip_seconds` passes before
    each answer. What calls must get past are `faults`, `forbid`, `set_quota` and `terminate_namespace`.
    """

    def __init__(
        self,
        clock: Clock | None = None,
        round_trip_seconds: float = 0.0,
        namespaces: Iterable[str] = ("default",),
        tokens: Iterable[str] = ("secret-token",),
    ) -> None:
        self.clock: Clock = clock or SystemClock()
        self.round_trip_seconds = round_trip_seconds
        self.faults = Faults()
        self._tokens = access.Tokens(self.clock, tokens)
        self._store = Store(self.clock)
        self._calls: list[Call] = []
        self._closing = threading.Event()
        for name in namespaces:
            labels = {"kubernetes.io/metadata.name": name}
            row = {"metadata": {"name": name, "labels": labels}, "spec": {}, "status": {"phase": "Active"}}
            self._store.add(NAMESPACES, row)
        authority = Authority()
        self.ca_pem = authority.pem
        self._https = serve(self, authority.server_context())
        self.url = self._https.url

    def __enter__(self) -> KubernetesServer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop serving and end every connection."""
        self._closing.set()
        self._https.stop()

    # what the transport asks

    def answer(self, method: str, target: str, headers: Mapping[str, str], content: bytes) -> Answer:
        """Status, body and headers of one call. Raises CutConnection."""
        self._closing.wait(self.round_trip_seconds)
        request = routes.read(method, target, headers, content)
        call = request.call(self.clock.now())
        self._calls.append(call)
        fault = self.faults.take(call)
        answer = self._fault_answer(fault) or self._act(request)
        if fault and fault.then == "cut_after":
            raise CutConnection
        return answer

    def _fault_answer(self, fault: Fault | None) -> Answer | None:
        if fault is None:
            return None
        if fault.then == "cut_before":
            raise CutConnection
        if fault.then == "delay":
            self._closing.wait(fault.seconds)
        return Answer(fault.status, fault.answer, fault.headers) if fault.then == "status" else None

    def _act(self, request: Request) -> Answer:
        try:
            self._tokens.authenticate(request.token)
            with self._store.lock:
                access.authorize(self._store, request)
                return operations.operate(self._store, request)
        except Refusal as refusal:
            return Answer(refusal.code, refusal.body, refusal.headers)

    # who may do what

    def add_token(self, token: str, expires_at: datetime | None = None) -> None:
        """Know one more token, until `expires_at` by the server's clock."""
        self._tokens.add(token, expires_at)

    def remove_token(self, token: str) -> None:
        """Know a token no longer."""
        self._tokens.remove(token)

    def accept_tokens(self, is_known: Callable[[str], bool]) -> None:
        """Ask `is_known` about tokens that were not added: those that clients make themselves."""
        self._tokens.also = is_known

    def forbid(self, verb: str, resource: str, namespace: str | None = None) -> None:
        """Let RBAC refuse a verb on a resource (`pods/log` is one), everywhere without a namespace."""
        self._store.forbidden.add((verb, resource, namespace))

    def allow(self, verb: str, resource: str, namespace: str | None = None) -> None:
        """Take a `forbid` back."""
        self._store.forbidden.discard((verb, resource, namespace))

    def set_quota(self, namespace: str, jobs: int | None = None, pods: int | None = None) -> None:
        """Allow for so many Jobs, and pods that have not ended, in a namespace; None for any number."""
        hard = {JOBS.plural: jobs, PODS.plural: pods}
        with self._store.lock:
            self._store.quotas[namespace] = {name: limit for name, limit in hard.items() if limit is not None}
            controller.settle(self._store)

    def terminate_namespace(self, name: str) -> None:
        """Leave a namespace as one that is being deleted: what is there is there, nothing new can be made."""
        with self._store.lock, self._store.change(NAMESPACES, self._store.get(NAMESPACES, None, name)) as row:
            row["status"]["phase"] = "Terminating"

    def expire_continue_tokens(self) -> None:
        """Forget the earlier states that lists could be gone on with, as when etcd is compacted."""
        with self._store.lock:
            self._store.lists.clear()

    # what becomes of pods; each raises KeyError for a name that is not there

    def start_pod(self, name: str, node: str = NODE) -> None:
        """Let a pod run."""
        self._move(name, lambda store, pod: kubelet.start(store, pod, node))

    def leave_unscheduled(self, name: str, message: str = "0/1 nodes are available: 1 Insufficient cpu.") -> None:
        """Let no node have room for a pod."""
        self._move(name, lambda store, pod: kubelet.leave_unscheduled(store, pod, message))

    def wait_for_image(
        self, name: str, reason: str = "ImagePullBackOff", message: str = "not found", node: str = NODE
    ) -> None:
        """Let a pod wait for an image that cannot be had; once more, and its events count on."""
        self._move(name, lambda store, pod: kubelet.wait_for_image(store, pod, node, reason, message))

    def finish_pod(self, name: str, exit_code: int = 0, reason: str | None = None, message: str = "") -> None:
        """Let a pod's containers exit, after they ran; OOMKilled is exit code 137 with that reason."""
        why = reason or ("Error" if exit_code else "Completed")

        def finish(store: Store, pod: Row) -> None:
            running = pod if pod["status"]["phase"] == "Running" else kubelet.start(store, pod, NODE)
            kubelet.finish(store, running, exit_code, why, message)

        self._move(name, finish)

    def evict_pod(self, name: str, message: str = "The node was low on resource: memory.") -> None:
        """Let the kubelet throw a pod out."""
        self._move(name, lambda store, pod: kubelet.evict(store, kubelet.schedule(store, pod, NODE), message))

    def lose_node(self, node: str = NODE, deleted: bool = False) -> None:
        """Let nothing be heard of a node any more; `deleted`: nor of its pods, which Jobs count as failed."""
        with self._store.lock:
            kubelet.lose_node(self._store, node, deleted)
            controller.settle(self._store)

    def write_log(self, pod_name: str, text: str) -> None:
        """Let a pod have written `text`, after what it wrote before."""
        with self._store.lock:
            uid = self._store.named(PODS, pod_name)["metadata"]["uid"]
            self._store.logs[uid] = self._store.logs.get(uid, "") + text

    def add_event(
        self, name: str, reason: str, message: str, component: str = "kubelet", warning: bool = False
    ) -> None:
        """Tell an event of a pod or Job by its name."""
        with self._store.lock:
            try:
                about = self._store.named(PODS, name)
            except KeyError:
                about = self._store.named(JOBS, name)
            events.tell(self._store, about, reason, message, component, warning)

    def _move(self, name: str, move: Callable[[Store, Row], object]) -> None:
        with self._store.lock:
            move(self._store, self._store.named(PODS, name))
            controller.settle(self._store)

    # what a test looks at: copies

    @property
    def calls(self) -> list[Call]:
        """The calls that reached the server, in order."""
        return list(self._calls)

    def count(self, what: str) -> int:
        """How often something was called (`create jobs`), whatever became of it."""
        return sum(call.what == what for call in self._calls)

    def forget_calls(self) -> None:
        """Begin the list of calls anew."""
        self._calls.clear()

    def jobs(self, namespace: str | None = None) -> list[Row]:
        """The Jobs there are, in the order of their creation."""
        return self._copies(JOBS, lambda job: namespace in (None, job["metadata"]["namespace"]))

    def job(self, name: str) -> Row:
        """A Job by name. Raises KeyError."""
        with self._store.lock:
            controller.settle(self._store)
            return copy.deepcopy(self._store.named(JOBS, name))

    def pods(self, job_name: str | None = None) -> list[Row]:
        """The pods there are, or those of one Job, in the order of their creation."""
        return self._copies(PODS, lambda pod: job_name in (None, pod["metadata"]["labels"].get(JOB_NAME_LABEL)))

    def events(self, about: str | None = None) -> list[Row]:
        """The events there are, or those of one pod or Job by name."""
        return self._copies(EVENTS, lambda event: about in (None, event["involvedObject"]["name"]))

    def _copies(self, resource: Resource, is_meant: Callable[[Row], bool]) -> list[Row]:
        with self._store.lock:
            controller.settle(self._store)
            return copy.deepcopy([row for row in self._store.objects[resource.plural].values() if is_meant(row)])
