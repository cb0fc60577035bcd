"""The key or token that this agent signs in with, given as it is or by the ARN of what holds it."""

from __future__ import annotations

import json
from collections.abc import Callable

from chalicelib.errors import PrefectUnreachable, SettingsError
from chalicelib.launchers.aws import AwsClients
from chalicelib.setting_parsers import secret

TRANSIENT_CODES = frozenset({"InternalServiceError", "InternalServerError", "ThrottlingException", "RequestTimeout"})
"""Answers of Secrets Manager and of the Parameter Store that may be others in a moment."""


class Credential:
    """Gives the key or token, and reads it when it is first needed; None when there is none."""

    def __init__(self, plain: str | None = None, read: Callable[[], str] | None = None) -> None:
        self._value = plain
        self._read = read

    def value(self) -> str | None:
        """The key or token. Raises SettingsError when it cannot be read, is empty or is no key."""
        if self._value is None and self._read is not None:
            self._value = self._read()
        return self._value

    def forget(self) -> None:
        """Read it again when it is next needed: it was refused, and may have been rotated."""
        if self._read is not None:
            self._value = None


def read_secret(reference: str, clients: AwsClients) -> str:
    """The text behind an ARN, of a secret (with ECS's `:json-key:stage:version` if given) or of a parameter.

    Raises SettingsError when it is no key, absent or not ours to read, PrefectUnreachable when AWS cannot say now.
    """
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        text = _read_parameter(reference, clients) if ":ssm:" in reference else _read_from_manager(reference, clients)
    except BotoCoreError as error:
        raise PrefectUnreachable(f"The API key cannot be read from {reference} now: {error}") from error
    except ClientError as error:
        code = error.response.get("Error", {}).get("Code", "")
        if code in TRANSIENT_CODES:
            raise PrefectUnreachable(f"The API key cannot be read from {reference} now: {code}") from error
        raise _unusable(reference, f"which cannot be read: {code}") from error
    if not text.strip():
        raise _unusable(reference, "which is empty; put the API key into it")
    try:
        return secret(text.strip())
    except ValueError as error:
        raise _unusable(reference, f"which {error}") from None


def _unusable(reference: str, why: str) -> SettingsError:
    return SettingsError([f"The API key is named as {reference}, {why}"])


def _read_parameter(reference: str, clients: AwsClients) -> str:
    # The whole ARN: `parameter/name` there is the parameter `name` or `/name`.
    answer = clients.ssm().get_parameter(Name=reference, WithDecryption=True)
    return str(answer["Parameter"]["Value"])


def _read_from_manager(reference: str, clients: AwsClients) -> str:
    parts = reference.split(":")
    json_key, stage, version = (*parts[7:10], "", "", "")[:3]
    chosen = {"VersionStage": stage} if stage else {}
    chosen |= {"VersionId": version} if version else {}
    text = str(
        clients.secretsmanager().get_secret_value(SecretId=":".join(parts[:7]), **chosen).get("SecretString", "")
    )
    return _pick(text, json_key, reference) if json_key else text


def _pick(text: str, json_key: str, reference: str) -> str:
    try:
        picked = json.loads(text)[json_key]
    except (ValueError, KeyError, TypeError):
        # Neither the secret nor the parser's excerpt of it may be shown.
        raise _unusable(reference, f"which has no key {json_key!r}") from None
    if not isinstance(picked, str):
        raise _unusable(reference, f"whose key {json_key!r} is not a text")
    return picked
