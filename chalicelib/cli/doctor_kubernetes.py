"""What `doctor` looks at in a Kubernetes cluster. It only asks, with the agent's own sign-in."""

from __future__ import annotations

from contextlib import closing
from functools import partial

from chalicelib.cli.findings import Found, either, examine, ok, wrong
from chalicelib.clock import SystemClock
from chalicelib.errors import LaunchError
from chalicelib.flow_runs import Document
from chalicelib.launchers.aws import AwsClients
from chalicelib.launchers.kubernetes_access import KubernetesApi
from chalicelib.platform_parts import build_kubernetes_api
from chalicelib.settings import Settings

RIGHTS = ("create jobs", "delete jobs", "list jobs", "patch jobs", "list pods")
"""All that the agent does, as its Role has it (`prefect-agent install kubernetes --rbac`)."""

_REVIEWS = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"


def check_kubernetes(settings: Settings, clients: AwsClients) -> Found:
    """Sign-in, rights, namespace and Secret. Raises LaunchError or SettingsError when there is no way in."""
    place = settings.namespace
    with closing(build_kubernetes_api(settings, clients, SystemClock())) as api:
        missing = [right for right in RIGHTS if not _may(api, place, *right.split())]
        yield ok(f"Kubernetes: signed in to {api.cluster}")
        bad = f"Rights: not allowed in namespace {place}: {', '.join(missing)}: allow it in the agent's Role"
        yield either(not missing, f"Rights: {', '.join(RIGHTS)} in namespace {place}", bad)
        yield from examine("Namespace", partial(_check_namespace, place, api))
        if settings.api_key_secret:
            yield from examine("Secret", partial(_check_secret, place, settings.api_key_secret, api))
        elif settings.secret_reference and not settings.allow_plain_api_key:
            yield wrong("Secret: Jobs get no API key: set AGENT_API_KEY_SECRET to the Kubernetes Secret that holds it")


def _may(api: KubernetesApi, namespace: str, verb: str, resource: str) -> bool:
    group = "batch" if resource == "jobs" else ""
    spec = {"resourceAttributes": {"namespace": namespace, "group": group, "resource": resource, "verb": verb}}
    review = {"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview", "spec": spec}
    return bool(api.ask("POST", _REVIEWS, "Rights", json=review)["status"]["allowed"])


def _check_namespace(name: str, api: KubernetesApi) -> Found:
    phase = _look(f"/api/v1/namespaces/{name}", api).get("status", {}).get("phase", "not there")
    bad = f"Namespace: {name} is {phase}: create it, or give --namespace"
    yield either(phase == "Active", f"Namespace: {name} is Active", bad)


def _check_secret(namespace: str, secret: str, api: KubernetesApi) -> Found:
    name, _, key = secret.partition("/")
    data = _look(f"/api/v1/namespaces/{namespace}/secrets/{name}", api).get("data") or {}
    bad = f"Secret: {name} is not in namespace {namespace}, or has nothing under {key}: put the API key there"
    yield either(data.get(key), f"Secret: {secret}", bad)


def _look(path: str, api: KubernetesApi) -> Document:
    """What is there; empty when nothing is."""
    try:
        return api.ask("GET", path, path)
    except LaunchError as error:
        if f"{path}: 404 " not in str(error):
            raise
        return {}
