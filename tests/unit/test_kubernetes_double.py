"""The Kubernetes double over plain HTTPS: what it must get right for the launcher's tests to mean anything."""

from __future__ import annotations

import http.client
import json
import ssl
from collections.abc import Iterator, Mapping
from datetime import timedelta
from typing import Any, NamedTuple
from urllib.parse import urlencode, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as some

from tests.doubles.clock import TurnedClock
from tests.doubles.kubernetes import KubernetesServer
from tests.doubles.kubernetes.selectors import read_labels

JOBS = "/apis/batch/v1/namespaces/default/jobs"
PODS = "/api/v1/namespaces/default/pods"
EVENTS = "/api/v1/namespaces/default/events"


class Reply(NamedTuple):
    status: int
    body: Any
    headers: Mapping[str, str]


class Client:
    """One connection to a server."""

    def __init__(self, server: KubernetesServer, token: str | None = "secret-token") -> None:
        context = ssl.create_default_context(cadata=server.ca_pem)
        self.connection = http.client.HTTPSConnection(urlsplit(server.url).netloc, context=context, timeout=10)
        self.headers = {"authorization": f"Bearer {token}"} if token else {}

    def ask(self, method: str, path: str, body: Any = None, kind: str = "application/json", **query: Any) -> Reply:
        target = f"{path}?{urlencode(query)}" if query else path
        content = body if isinstance(body, str | None) else json.dumps(body)
        self.connection.request(method, target, content, {"content-type": kind, **self.headers})
        response = self.connection.getresponse()
        text = response.read().decode()
        is_json = response.getheader("content-type") == "application/json"
        return Reply(response.status, json.loads(text) if is_json else text, dict(response.getheaders()))

    def names(self, path: str, **query: Any) -> list[str]:
        return [item["metadata"]["name"] for item in self.ask("GET", path, **query).body["items"]]


def job_named(name: str, spec: Mapping[str, Any] | None = None, **metadata: Any) -> dict[str, Any]:
    pod = {"restartPolicy": "Never", "containers": [{"name": "flow", "image": "flows:1"}]}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, **metadata},
        "spec": {"template": {"spec": pod}, **(spec or {})},
    }


@pytest.fixture
def clock() -> TurnedClock:
    return TurnedClock()


@pytest.fixture
def server(clock: TurnedClock) -> Iterator[KubernetesServer]:
    with KubernetesServer(clock=clock, namespaces=("default", "other")) as server:
        yield server


@pytest.fixture
def client(server: KubernetesServer) -> Iterator[Client]:
    client = Client(server)
    yield client
    client.connection.close()


def create(client: Client, name: str = "run", spec: Mapping[str, Any] | None = None, **metadata: Any) -> Any:
    reply = client.ask("POST", JOBS, job_named(name, spec, **metadata))
    assert reply.status == 201, reply.body
    return reply.body


def pod_of(server: KubernetesServer, job_name: str = "run") -> str:
    """The name of the newest pod of a Job."""
    name: str = server.pods(job_name)[-1]["metadata"]["name"]
    return name


def conditions(server: KubernetesServer, job_name: str = "run") -> list[tuple[str, str]]:
    return [(row["type"], row["reason"]) for row in server.job(job_name)["status"].get("conditions", [])]


def refusal(reply: Reply) -> tuple[int, str, str]:
    assert (reply.body["kind"], reply.body["status"], reply.body["code"]) == ("Status", "Failure", reply.status)
    return reply.status, reply.body["reason"], reply.body["message"]


# who may do what


@pytest.mark.parametrize("token", [None, "another"])
def test_a_request_without_a_known_token_is_unauthorized(server: KubernetesServer, token: str | None) -> None:
    stranger = Client(server, token)
    assert refusal(stranger.ask("GET", JOBS)) == (401, "Unauthorized", "Unauthorized")
    stranger.connection.close()
    assert [call.token for call in server.calls] == [token]


def test_a_token_is_known_until_it_expires_or_is_removed(server: KubernetesServer, clock: TurnedClock) -> None:
    server.add_token("brief", clock.now() + timedelta(minutes=15))
    brief = Client(server, "brief")
    statuses = [brief.ask("GET", JOBS).status]
    clock.turn(15 * 60)
    statuses.append(brief.ask("GET", JOBS).status)
    server.add_token("brief")
    statuses.append(brief.ask("GET", JOBS).status)
    server.remove_token("brief")
    statuses.append(brief.ask("GET", JOBS).status)
    brief.connection.close()
    assert statuses == [200, 401, 200, 401]


def test_tokens_that_clients_make_themselves_are_asked_about(server: KubernetesServer) -> None:
    server.accept_tokens(lambda token: token.startswith("k8s-aws-v1."))
    made = Client(server, "k8s-aws-v1.aHR0cHM")
    assert made.ask("GET", JOBS).status == 200
    made.connection.close()


def test_a_client_that_does_not_know_the_authority_does_not_connect(server: KubernetesServer) -> None:
    connection = http.client.HTTPSConnection(urlsplit(server.url).netloc, timeout=10)
    with pytest.raises(ssl.SSLCertVerificationError):
        connection.request("GET", "/version")
    connection.close()
    assert server.calls == []


def test_what_rbac_forbids_is_refused_and_a_review_says_so(server: KubernetesServer, client: Client) -> None:
    server.forbid("create", "jobs", "default")
    assert refusal(client.ask("POST", JOBS, job_named("run"))) == (
        403,
        "Forbidden",
        'jobs.batch is forbidden: User "system:serviceaccount:prefect:agent" cannot create resource "jobs" '
        'in API group "batch" in the namespace "default"',
    )

    def may_create(namespace: str) -> bool:
        attributes = {"verb": "create", "group": "batch", "resource": "jobs", "namespace": namespace}
        body = {"spec": {"resourceAttributes": attributes}}
        reply = client.ask("POST", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", body)
        return bool(reply.body["status"]["allowed"])

    assert (may_create("default"), may_create("other")) == (False, True)
    server.allow("create", "jobs", "default")
    assert may_create("default")
    create(client)


# creating Jobs


def test_a_job_gets_its_defaults_and_a_pod_of_its_own(server: KubernetesServer, client: Client) -> None:
    job = create(client, labels={"a": "1"})
    uid, spec = job["metadata"]["uid"], job["spec"]
    assert job["metadata"]["creationTimestamp"] == "2026-11-20T12:00:00Z"
    assert (spec["backoffLimit"], spec["completions"], spec["parallelism"]) == (6, 1, 1)
    assert spec["selector"] == {"matchLabels": {"batch.kubernetes.io/controller-uid": uid}}
    assert spec["template"]["spec"]["terminationGracePeriodSeconds"] == 30
    assert spec["template"]["spec"]["containers"][0]["imagePullPolicy"] == "IfNotPresent"

    (pod,) = client.ask("GET", PODS, labelSelector="job-name=run").body["items"]
    assert pod["metadata"]["name"].startswith("run-") and len(pod["metadata"]["name"]) == len("run-") + 5
    assert pod["metadata"]["labels"] == {
        "batch.kubernetes.io/controller-uid": uid,
        "batch.kubernetes.io/job-name": "run",
        "controller-uid": uid,
        "job-name": "run",
    }
    assert pod["metadata"]["ownerReferences"][0]["uid"] == uid
    assert pod["status"]["phase"] == "Pending"
    assert client.ask("GET", f"{JOBS}/run").body["status"]["active"] == 1


@pytest.mark.parametrize(
    ("image", "policy"),
    [
        ("flows", "Always"),
        ("flows:latest", "Always"),
        ("flows:1", "IfNotPresent"),
        ("host:5000/flows", "Always"),
        ("host:5000/flows@sha256:1", "IfNotPresent"),
    ],
)
def test_images_are_pulled_by_their_tags(client: Client, image: str, policy: str) -> None:
    job = job_named("run")
    job["spec"]["template"]["spec"]["containers"][0]["image"] = image
    stored = client.ask("POST", JOBS, job).body
    assert stored["spec"]["template"]["spec"]["containers"][0]["imagePullPolicy"] == policy


def test_a_generated_name_is_new_each_time_and_never_too_long(client: Client) -> None:
    bodies = [client.ask("POST", JOBS, job_named("", generateName="x" * 63)).body for _ in range(2)]
    names = [body["metadata"]["name"] for body in bodies]
    assert names[0] != names[1]
    assert [len(name) for name in names] == [63, 63]


def test_a_name_is_taken_once_in_a_namespace(server: KubernetesServer, client: Client) -> None:
    create(client)
    again = client.ask("POST", JOBS, job_named("run"))
    assert refusal(again) == (409, "AlreadyExists", 'jobs.batch "run" already exists')
    assert again.body["details"] == {"name": "run", "group": "batch", "kind": "jobs"}
    assert client.ask("POST", JOBS.replace("default", "other"), job_named("run")).status == 201
    assert len(server.jobs()) == 2 and len(server.jobs("other")) == 1


def test_a_dry_run_leaves_nothing(server: KubernetesServer, client: Client) -> None:
    assert client.ask("POST", JOBS, job_named("run"), dryRun="All").status == 201
    assert server.jobs() == [] and server.pods() == []


@pytest.mark.parametrize(
    ("change", "field", "message"),
    [
        ({"name": "Run_1"}, "metadata.name", "a lowercase RFC 1123 subdomain must consist of"),
        ({"name": "x" * 64}, "spec.template.labels", "must be no more than 63 bytes"),
        ({"name": ""}, "metadata.name", "Required value: name or generateName is required"),
        ({"labels": {"a": "x" * 64}}, "metadata.labels", "must be no more than 63 bytes"),
        ({"labels": {"a": "not good"}}, "metadata.labels", "a valid label must be an empty string or consist of"),
        ({"labels": {"not good": "a"}}, "metadata.labels", "name part must consist of alphanumeric characters"),
        ({"annotations": {"a": "x" * 262145}}, "metadata.annotations", "Too long: may not be more than 262144 bytes"),
    ],
)
def test_metadata_that_is_not_valid_is_refused_with_its_field(
    client: Client, change: dict[str, Any], field: str, message: str
) -> None:
    job = job_named("run")
    job["metadata"] |= change
    reply = client.ask("POST", JOBS, job)
    assert refusal(reply)[:2] == (422, "Invalid")
    causes = [row["message"] for row in reply.body["details"]["causes"] if row["field"] == field]
    assert causes and message in causes[0]
    assert f"{field}: {causes[0]}" in reply.body["message"]


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        ({"containers": []}, ("containers", "FieldValueRequired", "Required value")),
        ({"containers": [{"image": "a"}]}, ("containers[0].name", "FieldValueRequired", "Required value")),
        ({"containers": [{"name": "a"}]}, ("containers[0].image", "FieldValueRequired", "Required value")),
        (
            {"containers": [{"name": "a", "image": "a"}] * 2},
            ("containers[1].name", "FieldValueDuplicate", 'Duplicate value: "a"'),
        ),
        (
            {"containers": [{"name": "a", "image": "a", "env": [{"value": "1"}]}]},
            ("containers[0].env[0].name", "FieldValueRequired", "Required value"),
        ),
        (
            {"restartPolicy": "Always"},
            ("restartPolicy", "FieldValueRequired", 'Required value: valid values: "OnFailure", "Never"'),
        ),
        (
            {"restartPolicy": None},
            ("restartPolicy", "FieldValueRequired", 'Required value: valid values: "OnFailure", "Never"'),
        ),
    ],
)
def test_a_pod_that_is_not_valid_is_refused_with_its_field(
    client: Client, change: dict[str, Any], cause: tuple[str, str, str]
) -> None:
    job = job_named("run")
    job["spec"]["template"]["spec"] |= change
    reply = client.ask("POST", JOBS, job)
    field, reason, message = f"spec.template.spec.{cause[0]}", cause[1], cause[2]
    assert reply.body["details"]["causes"] == [{"reason": reason, "message": message, "field": field}]
    assert refusal(reply) == (422, "Invalid", f'Job.batch "run" is invalid: {field}: {message}')


def test_counts_below_zero_are_refused(client: Client) -> None:
    reply = client.ask("POST", JOBS, job_named("run", {"ttlSecondsAfterFinished": -1}))
    words = "Invalid value: -1: must be greater than or equal to 0"
    assert refusal(reply)[2] == f'Job.batch "run" is invalid: spec.ttlSecondsAfterFinished: {words}'


def test_unknown_fields_are_refused_if_asked_strictly_and_else_dropped_with_a_warning(client: Client) -> None:
    job = job_named("run")
    job["spec"]["template"]["spec"]["containers"][0]["imagePullPolice"] = "Always"
    strict = client.ask("POST", JOBS, job, fieldValidation="Strict")
    field = "spec.template.spec.containers[0].imagePullPolice"
    words = f'Job in version "v1" cannot be handled as a Job: strict decoding error: unknown field "{field}"'
    assert refusal(strict) == (400, "BadRequest", words)
    plain = client.ask("POST", JOBS, job)
    assert plain.status == 201 and field in plain.headers["warning"]
    assert "imagePullPolice" not in plain.body["spec"]["template"]["spec"]["containers"][0]


@pytest.mark.parametrize(
    ("variable", "why"),
    [
        ({"name": "A", "value": 1}, "number into Go struct field EnvVar.spec.template.spec.containers.env.value"),
        ("A=1", "string into Go struct field Container.spec.template.spec.containers.env"),
    ],
)
def test_a_value_of_the_wrong_type_is_a_bad_request(client: Client, variable: Any, why: str) -> None:
    job = job_named("run")
    job["spec"]["template"]["spec"]["containers"][0]["env"] = [variable]
    status, reason, message = refusal(client.ask("POST", JOBS, job))
    assert (status, reason) == (400, "BadRequest")
    assert message.startswith(f'Job in version "v1" cannot be handled as a Job: json: cannot unmarshal {why}')


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("{", "couldn't get version/kind; json parse error"),
        ("[]", "couldn't get version/kind; json parse error"),
        ({"kind": "Pod", "apiVersion": "v1"}, "the API version in the data (v1) does not match the expected"),
        ({"kind": "Jop", "apiVersion": "batch/v1"}, 'no kind "Jop" is registered for version "batch/v1"'),
        (job_named("run", namespace="other"), "the namespace of the provided object does not match the namespace"),
    ],
)
def test_a_body_that_is_no_job_for_this_path_is_a_bad_request(client: Client, body: Any, message: str) -> None:
    status, reason, found = refusal(client.ask("POST", JOBS, body))
    assert (status, reason) == (400, "BadRequest")
    assert found.startswith(message)


def test_a_namespace_must_be_there_and_must_not_end(server: KubernetesServer, client: Client) -> None:
    missing = client.ask("POST", JOBS.replace("default", "nowhere"), job_named("run"))
    assert refusal(missing) == (404, "NotFound", 'namespaces "nowhere" not found')
    server.terminate_namespace("default")
    ending = client.ask("POST", JOBS, job_named("run"))
    assert refusal(ending) == (
        403,
        "Forbidden",
        'jobs.batch "run" is forbidden: unable to create new content in namespace default because it is being '
        "terminated",
    )
    assert ending.body["details"]["causes"][0]["reason"] == "NamespaceTerminating"
    namespaces = client.ask("GET", "/api/v1/namespaces").body["items"]
    phases = {row["metadata"]["name"]: row["status"]["phase"] for row in namespaces}
    assert phases == {"default": "Terminating", "other": "Active"}


def test_a_full_quota_refuses_even_a_job_that_is_already_there(server: KubernetesServer, client: Client) -> None:
    server.set_quota("default", jobs=1)
    create(client)
    for name in ("run", "another"):
        assert refusal(client.ask("POST", JOBS, job_named(name))) == (
            403,
            "Forbidden",
            f'jobs.batch "{name}" is forbidden: exceeded quota: default-quota, requested: count/jobs.batch=1, '
            "used: count/jobs.batch=1, limited: count/jobs.batch=1",
        )
    server.set_quota("default")
    assert refusal(client.ask("POST", JOBS, job_named("run")))[1] == "AlreadyExists"


def test_a_job_without_room_for_its_pod_waits_and_says_why(server: KubernetesServer, client: Client) -> None:
    server.set_quota("default", pods=0)
    create(client)
    assert server.pods() == []
    (event,) = client.ask("GET", EVENTS, fieldSelector="involvedObject.name=run,type=Warning").body["items"]
    assert event["reason"] == "FailedCreate" and "exceeded quota" in event["message"]
    server.set_quota("default", pods=1)
    assert len(server.pods("run")) == 1


def test_a_job_gets_the_pods_that_it_lacks_as_others_end(server: KubernetesServer, client: Client) -> None:
    server.set_quota("default", pods=2)
    create(client, "wide", {"parallelism": 2, "completions": 2})
    create(client, "late", {"parallelism": 2, "completions": 2})
    assert [len(server.pods(name)) for name in ("wide", "late")] == [2, 0]
    for left in (1, 0):
        server.finish_pod(next(pod["metadata"]["name"] for pod in server.pods("wide") if is_alive(pod)))
        assert [sum(map(is_alive, server.pods(name))) for name in ("wide", "late")] == [left, 2 - left]


def is_alive(pod: Mapping[str, Any]) -> bool:
    return pod["status"]["phase"] in ("Pending", "Running")


# pods and what becomes of Jobs


def test_a_pod_that_succeeds_completes_its_job(server: KubernetesServer, client: Client, clock: TurnedClock) -> None:
    create(client)
    server.start_pod(pod_of(server))
    assert server.job("run")["status"]["ready"] == 1
    clock.turn(60)
    server.finish_pod(pod_of(server))
    status = server.job("run")["status"]
    assert (status["succeeded"], status["completionTime"]) == (1, "2026-11-20T12:01:00Z")
    assert "active" not in status
    assert conditions(server) == [("SuccessCriteriaMet", "CompletionsReached"), ("Complete", "CompletionsReached")]


def test_a_failed_pod_is_replaced_until_the_backoff_limit_is_passed(server: KubernetesServer, client: Client) -> None:
    create(client, spec={"backoffLimit": 1})
    server.finish_pod(pod_of(server), exit_code=1)
    assert len(server.pods("run")) == 2 and conditions(server) == []
    server.finish_pod(pod_of(server), exit_code=137, reason="OOMKilled")
    state = server.pods("run")[-1]["status"]["containerStatuses"][0]["state"]["terminated"]
    assert (state["exitCode"], state["reason"]) == (137, "OOMKilled")
    assert server.job("run")["status"]["failed"] == 2
    assert conditions(server) == [("FailureTarget", "BackoffLimitExceeded"), ("Failed", "BackoffLimitExceeded")]
    assert len(server.pods("run")) == 2


def test_a_container_restarts_in_its_pod_with_on_failure(server: KubernetesServer, client: Client) -> None:
    job = job_named("run", {"backoffLimit": 2})
    job["spec"]["template"]["spec"]["restartPolicy"] = "OnFailure"
    assert client.ask("POST", JOBS, job).status == 201
    name = pod_of(server)
    server.finish_pod(name, exit_code=1)
    (pod,) = server.pods("run")
    container = pod["status"]["containerStatuses"][0]
    assert (pod["metadata"]["name"], container["restartCount"]) == (name, 1)
    assert container["lastState"]["terminated"]["exitCode"] == 1 and "running" in container["state"]
    server.finish_pod(name, exit_code=1)
    assert conditions(server)[-1] == ("Failed", "BackoffLimitExceeded")
    assert server.pods("run") == []


def test_a_pod_waits_for_an_image_and_its_events_are_counted(
    server: KubernetesServer, client: Client, clock: TurnedClock
) -> None:
    create(client)
    name = pod_of(server)
    server.wait_for_image(name, message="manifest unknown")
    clock.turn(30)
    server.wait_for_image(name, message="manifest unknown")
    state = server.pods("run")[0]["status"]["containerStatuses"][0]["state"]
    assert state == {"waiting": {"reason": "ImagePullBackOff", "message": "manifest unknown"}}
    selector = f"involvedObject.name={name},reason=BackOff"
    (event,) = client.ask("GET", EVENTS, fieldSelector=selector).body["items"]
    assert (event["message"], event["count"]) == ('Back-off pulling image "flows:1"', 2)
    assert (event["firstTimestamp"], event["lastTimestamp"]) == ("2026-11-20T12:00:00Z", "2026-11-20T12:00:30Z")


def test_a_pod_without_room_is_unschedulable(server: KubernetesServer, client: Client) -> None:
    create(client)
    server.leave_unscheduled(pod_of(server), "0/3 nodes are available: 3 Insufficient memory.")
    (condition,) = server.pods("run")[0]["status"]["conditions"]
    assert (condition["type"], condition["status"], condition["reason"]) == ("PodScheduled", "False", "Unschedulable")
    assert [event["reason"] for event in server.events(pod_of(server))] == ["FailedScheduling"]


def test_an_evicted_pod_counts_as_failed(server: KubernetesServer, client: Client) -> None:
    create(client, spec={"backoffLimit": 0})
    name = pod_of(server)
    server.start_pod(name)
    server.evict_pod(name, "The node was low on resource: memory.")
    status = server.pods("run")[0]["status"]
    assert (status["phase"], status["reason"]) == ("Failed", "Evicted")
    assert status["message"] == "The node was low on resource: memory."
    assert conditions(server)[-1] == ("Failed", "BackoffLimitExceeded")


def test_pods_of_a_lost_node_stay_as_last_seen_until_they_are_deleted(server: KubernetesServer, client: Client) -> None:
    for name in ("run", "another"):
        create(client, name)
    server.start_pod(pod_of(server))
    server.start_pod(pod_of(server, "another"), node="node-2")
    lost = pod_of(server)
    server.lose_node("node-1")
    status = server.pods("run")[0]["status"]
    assert (status["phase"], status["reason"]) == ("Running", "NodeLost")
    assert "reason" not in server.pods("another")[0]["status"]
    server.lose_node("node-1", deleted=True)
    assert pod_of(server) != lost
    assert server.job("run")["status"]["failed"] == 1


def test_a_deleted_pod_is_replaced(server: KubernetesServer, client: Client) -> None:
    create(client)
    name = pod_of(server)
    reply = client.ask("DELETE", f"{PODS}/{name}")
    assert (reply.status, reply.body["metadata"]["name"]) == (200, name)
    assert pod_of(server) != name
    assert refusal(client.ask("GET", f"{PODS}/{name}")) == (404, "NotFound", f'pods "{name}" not found')


def test_a_job_past_its_deadline_fails_and_its_pod_goes(
    server: KubernetesServer, client: Client, clock: TurnedClock
) -> None:
    create(client, spec={"activeDeadlineSeconds": 60})
    server.start_pod(pod_of(server))
    clock.turn(59)
    assert conditions(server) == []
    clock.turn(1)
    assert conditions(server)[-1] == ("Failed", "DeadlineExceeded")
    assert server.pods("run") == []


def test_a_finished_job_goes_with_its_pods_after_its_time(
    server: KubernetesServer, client: Client, clock: TurnedClock
) -> None:
    create(client, spec={"ttlSecondsAfterFinished": 100})
    clock.turn(1000)
    server.finish_pod(pod_of(server))
    clock.turn(99)
    assert len(client.names(JOBS)) == len(client.names(PODS)) == 1
    clock.turn(1)
    assert client.names(JOBS) == client.names(PODS) == []


def test_several_pods_run_at_once_until_enough_succeeded(server: KubernetesServer, client: Client) -> None:
    create(client, spec={"completions": 3, "parallelism": 2})
    first, second = (pod["metadata"]["name"] for pod in server.pods("run"))
    server.finish_pod(first)
    assert len(server.pods("run")) == 3
    server.finish_pod(second)
    assert len(server.pods("run")) == 3
    server.finish_pod(pod_of(server))
    assert server.job("run")["status"]["succeeded"] == 3 and conditions(server)[-1][0] == "Complete"


def test_a_suspended_job_has_no_pods_until_it_is_resumed(server: KubernetesServer, client: Client) -> None:
    create(client, spec={"suspend": True})
    assert server.pods() == [] and "startTime" not in server.job("run")["status"]
    patch = {"spec": {"suspend": False}, "metadata": {"labels": {"resumed": "yes"}}}
    reply = client.ask("PATCH", f"{JOBS}/run", patch, kind="application/merge-patch+json")
    assert (reply.status, reply.body["metadata"]["labels"]["resumed"]) == (200, "yes")
    assert reply.body["metadata"]["generation"] == 2
    assert len(server.pods("run")) == 1


def test_a_jobs_template_cannot_be_patched(client: Client) -> None:
    create(client)
    patch = {"spec": {"template": {"spec": {"restartPolicy": "OnFailure"}}}}
    reply = client.ask("PATCH", f"{JOBS}/run", patch, kind="application/strategic-merge-patch+json")
    assert refusal(reply)[:2] == (422, "Invalid")
    assert reply.body["details"]["causes"][0]["field"] == "spec.template"
    other = client.ask("PATCH", f"{JOBS}/run", [], kind="application/json-patch+json")
    assert refusal(other)[:2] == (415, "UnsupportedMediaType")


def test_a_log_can_be_read_once_its_container_has_begun(server: KubernetesServer, client: Client) -> None:
    create(client)
    name = pod_of(server)
    path = f"{PODS}/{name}/log"
    assert refusal(client.ask("GET", path))[2] == f"pod {name} does not have a host assigned"
    server.wait_for_image(name)
    waiting = f'container "flow" in pod "{name}" is waiting to start: trying and failing to pull image'
    assert refusal(client.ask("GET", path)) == (400, "BadRequest", waiting)
    server.start_pod(name)
    server.write_log(name, "one\ntwo\n")
    server.write_log(name, "three\n")
    assert client.ask("GET", path).body == "one\ntwo\nthree\n"
    assert client.ask("GET", path, tailLines=2, container="flow").body == "two\nthree\n"
    assert client.ask("GET", path, limitBytes=5).body == "one\nt"
    assert refusal(client.ask("GET", path, container="other"))[0] == 400


# deleting


@pytest.mark.parametrize(
    ("policy", "pods", "kind"),
    [("Background", 0, "Status"), ("Foreground", 0, "Job"), ("Orphan", 1, "Job"), (None, 1, "Job")],
)
def test_a_deleted_job_takes_its_pods_along_as_the_policy_says(
    server: KubernetesServer, client: Client, policy: str | None, pods: int, kind: str
) -> None:
    create(client)
    reply = client.ask("DELETE", f"{JOBS}/run", {"propagationPolicy": policy} if policy else None)
    assert (reply.status, reply.body["kind"]) == (200, kind)
    assert ("child pods are preserved" in reply.headers.get("warning", "")) is (policy is None)
    assert server.jobs() == [] and len(server.pods()) == pods
    assert all("ownerReferences" not in pod["metadata"] for pod in server.pods())
    assert refusal(client.ask("DELETE", f"{JOBS}/run"))[2] == 'jobs.batch "run" not found'


def test_another_job_than_the_one_meant_is_not_deleted(server: KubernetesServer, client: Client) -> None:
    create(client)
    options = {"preconditions": {"uid": "another"}, "propagationPolicy": "Background"}
    status, reason, message = refusal(client.ask("DELETE", f"{JOBS}/run", options))
    assert (status, reason) == (409, "Conflict")
    assert "the UID in the precondition (another) does not match the UID in record" in message
    assert len(server.jobs()) == 1


def test_a_policy_that_is_none_is_refused(client: Client) -> None:
    create(client)
    assert refusal(client.ask("DELETE", f"{JOBS}/run", propagationPolicy="background"))[:2] == (422, "Invalid")


# lists


def test_jobs_are_chosen_by_their_labels(client: Client) -> None:
    for name, labels in {"a": {"k": "1"}, "b": {"k": "2"}, "c": {"other": "1"}}.items():
        create(client, name, labels=labels)
    chosen = {
        "k=1": ["a"],
        "k==1": ["a"],
        "k!=1": ["b", "c"],
        "k in (1, 2)": ["a", "b"],
        "k notin (1,2)": ["c"],
        "k": ["a", "b"],
        "!k": ["c"],
        "k,k notin (1)": ["b"],
    }
    assert {selector: client.names(JOBS, labelSelector=selector) for selector in chosen} == chosen


@pytest.mark.parametrize("selector", ["k in 1", "=", "a b", "k in (1"])
def test_a_label_selector_that_is_none_is_a_bad_request(client: Client, selector: str) -> None:
    assert refusal(client.ask("GET", JOBS, labelSelector=selector))[:2] == (400, "BadRequest")


LABELS = some.dictionaries(some.sampled_from("abc"), some.sampled_from(["", "x", "y"]))
VALUES = some.lists(some.sampled_from(["", "x", "y"]), min_size=1, max_size=2, unique=True)


@given(LABELS, some.sampled_from("abc"), VALUES)
def test_each_label_selector_and_its_opposite_part_all_objects(
    labels: dict[str, str], key: str, values: list[str]
) -> None:
    pairs = [
        (f"{key}={values[0]}", f"{key}!={values[0]}", labels.get(key) == values[0]),
        (f"{key} in ({','.join(values)})", f"{key} notin ({','.join(values)})", labels.get(key) in values),
        (key, f"!{key}", key in labels),
    ]
    for selector, opposite, holds in pairs:
        assert [term(labels) for term in read_labels(selector)] == [holds]
        assert [term(labels) for term in read_labels(opposite)] == [not holds]


def test_objects_are_chosen_by_their_fields(server: KubernetesServer, client: Client) -> None:
    for name in ("a", "b"):
        create(client, name)
    running = pod_of(server, "a")
    server.start_pod(running)
    uid = server.job("b")["metadata"]["uid"]
    assert client.names(JOBS, fieldSelector="metadata.name=a") == ["a"]
    assert client.names("/apis/batch/v1/jobs", fieldSelector="metadata.namespace!=default") == []
    assert client.names(PODS, fieldSelector="status.phase=Running") == [running]
    events = client.ask("GET", EVENTS, fieldSelector=f"involvedObject.uid={uid}").body["items"]
    assert [event["message"] for event in events] == [f"Created pod: {pod_of(server, 'b')}"]
    unknown = client.ask("GET", JOBS, fieldSelector="spec.suspend=true")
    assert refusal(unknown) == (400, "BadRequest", "field label not supported: spec.suspend")


def test_pages_show_the_moment_of_the_first_one(client: Client) -> None:
    for name in "abcde":
        create(client, name)
    first = client.ask("GET", JOBS, limit=2).body
    assert first["metadata"]["remainingItemCount"] == 3
    create(client, "cc")
    client.ask("DELETE", f"{JOBS}/d", propagationPolicy="Background")
    names, page = [item["metadata"]["name"] for item in first["items"]], first
    while "continue" in page["metadata"]:
        page = client.ask("GET", JOBS, limit=2, **{"continue": page["metadata"]["continue"]}).body
        names += [item["metadata"]["name"] for item in page["items"]]
        assert page["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]
    assert names == ["a", "b", "c", "d", "e"]
    assert client.names(JOBS) == ["a", "b", "c", "cc", "e"]


@pytest.mark.parametrize("by", ["time", "compaction"])
def test_an_old_continue_token_is_gone_and_another_goes_on_with_what_there_is(
    server: KubernetesServer, client: Client, clock: TurnedClock, by: str
) -> None:
    for name in "abc":
        create(client, name)
    token = client.ask("GET", JOBS, limit=1).body["metadata"]["continue"]
    create(client, "d")
    if by == "time":
        clock.turn(301)
    else:
        server.expire_continue_tokens()
    reply = client.ask("GET", JOBS, limit=1, **{"continue": token})
    assert refusal(reply)[:2] == (410, "Expired")
    assert client.names(JOBS, **{"continue": reply.body["metadata"]["continue"]}) == ["b", "c", "d"]
    assert refusal(client.ask("GET", JOBS, **{"continue": "nonsense"}))[0] == 400


def test_a_list_chosen_by_labels_does_not_know_what_remains(client: Client) -> None:
    for name in "ab":
        create(client, name, labels={"k": "1"})
    metadata = client.ask("GET", JOBS, limit=1, labelSelector="k").body["metadata"]
    assert "continue" in metadata and "remainingItemCount" not in metadata


def test_a_list_of_a_namespace_that_is_not_there_is_empty(client: Client) -> None:
    assert client.names("/api/v1/namespaces/nowhere/pods") == []


# the server itself


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/apis/apps/v1/deployments", 404),
        ("GET", f"{JOBS}/run/scale", 404),
        ("GET", "/nothing", 404),
        ("PUT", f"{JOBS}/run", 405),
        ("DELETE", JOBS, 405),
        ("POST", "/apis/batch/v1/jobs", 405),
        ("GET", f"{JOBS}?watch=true", 405),
        ("GET", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", 405),
    ],
)
def test_what_is_not_served_is_refused(client: Client, method: str, path: str, status: int) -> None:
    reply = client.ask(method, path, job_named("run") if method == "POST" else None)
    assert refusal(reply)[0] == status


def test_the_server_says_its_version_and_what_it_serves(client: Client) -> None:
    assert client.ask("GET", "/version").body["gitVersion"].startswith("v1.")
    assert client.ask("GET", "/readyz").body == "ok"
    assert [row["name"] for row in client.ask("GET", "/apis").body["groups"]] == ["authorization.k8s.io", "batch"]
    assert [row["name"] for row in client.ask("GET", "/apis/batch/v1").body["resources"]] == ["jobs"]


def test_calls_are_remembered_with_all_that_came(server: KubernetesServer, client: Client) -> None:
    create(client)
    client.ask("GET", f"{PODS}/nothing/log", tailLines=1)
    first, second = server.calls
    assert (first.what, first.namespace, first.name, first.body["kind"]) == ("create jobs", "default", None, "Job")
    assert (second.what, second.name, second.query) == ("get pods/log", "nothing", {"tailLines": "1"})
    assert (first.at, first.token) == (server.clock.now(), "secret-token")
    assert server.count("create jobs") == 1
    server.forget_calls()
    assert server.calls == []


def test_what_a_test_looks_at_are_copies(server: KubernetesServer, client: Client) -> None:
    create(client)
    server.job("run")["spec"].clear()
    server.pods()[0]["status"].clear()
    assert server.job("run")["spec"] and server.pods()[0]["status"]
    with pytest.raises(KeyError):
        server.start_pod("nothing")


# faults


def test_a_connection_cut_before_leaves_nothing_and_one_cut_after_leaves_the_job(
    server: KubernetesServer, client: Client
) -> None:
    server.faults.add("create jobs", then="cut_before")
    server.faults.add("create jobs", then="cut_after")
    left = []
    for _ in range(2):
        with pytest.raises((ConnectionError, ssl.SSLError)):
            client.ask("POST", JOBS, job_named("run"))
        client.connection.close()
        left.append(len(server.jobs()))
    assert left == [0, 1]
    assert refusal(client.ask("POST", JOBS, job_named("run")))[1] == "AlreadyExists"


@pytest.mark.parametrize(("status", "reason"), [(500, "InternalError"), (503, "ServiceUnavailable"), (504, "Timeout")])
def test_an_error_of_the_server_is_a_status(server: KubernetesServer, client: Client, status: int, reason: str) -> None:
    server.faults.add("create jobs", status=status)
    assert client.ask("GET", JOBS).status == 200
    assert refusal(client.ask("POST", JOBS, job_named("run")))[:2] == (status, reason)
    assert server.jobs() == []


def test_too_many_requests_are_refused_in_plain_text_with_a_time_to_wait(
    server: KubernetesServer, client: Client
) -> None:
    server.faults.add(status=429, times=2)
    server.faults.add(lambda call: call.name == "run", status=429, retry_after_seconds=7, body="slowly")
    replies = [client.ask("GET", f"{JOBS}/run") for _ in range(4)]
    assert [reply.status for reply in replies] == [429, 429, 429, 404]
    assert replies[0].body == "Too many requests, please try again later.\n"
    assert [reply.headers.get("retry-after") for reply in replies] == ["1", "1", "7", None]
    assert replies[2].body == "slowly"


def test_a_delay_ends_when_the_server_does(clock: TurnedClock) -> None:
    with KubernetesServer(clock=clock) as server:
        impatient = Client(server)
        impatient.connection.timeout = 0.2
        server.faults.add("list jobs", then="delay", seconds=3600)
        with pytest.raises(TimeoutError):
            impatient.ask("GET", JOBS)
        impatient.connection.close()
        assert server.count("list jobs") == 1


def test_a_fault_can_last_until_it_is_cleared(server: KubernetesServer, client: Client) -> None:
    server.faults.add(times=None)
    assert [client.ask("GET", JOBS).status for _ in range(3)] == [503, 503, 503]
    server.faults.clear()
    assert client.ask("GET", JOBS).status == 200


def test_closing_ends_connections_that_clients_keep_open() -> None:
    with KubernetesServer() as server:
        client = Client(server)
        assert client.ask("GET", "/version").status == 200
    with pytest.raises(OSError):
        client.ask("GET", "/version")
    client.connection.close()


def test_a_body_of_another_kind_is_refused(client: Client) -> None:
    reply = client.ask("POST", JOBS, "k8s", kind="application/vnd.kubernetes.protobuf")
    assert refusal(reply)[:2] == (415, "UnsupportedMediaType")


def test_a_body_that_is_too_large_is_refused(client: Client) -> None:
    reply = client.ask("POST", JOBS, job_named("run", annotations={"a": "x" * 3 * 1024 * 1024}))
    assert refusal(reply)[:2] == (413, "RequestEntityTooLarge")


def test_a_fault_can_be_for_every_third_call(server: KubernetesServer, client: Client) -> None:
    server.faults.add("list jobs", status=500, times=None, every=3)
    statuses = []
    for _ in range(7):
        client.ask("GET", PODS)
        statuses.append(client.ask("GET", JOBS).status)
    assert statuses == [200, 200, 500, 200, 200, 500, 200]
