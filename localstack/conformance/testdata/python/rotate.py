"""A rotation function for an API token, by AWS's documented four steps.

The secret is JSON: "token" is rotated, every other field is kept. If there is a
"url", it is the service that knows the token:

    GET  url               204 if the token of the Authorization header is accepted
    POST url {"token": t}  asks the service to accept t as well, 202; it may take
                           effect later; 422 if it won't have this token

Without a "url" nobody but Secrets Manager knows the token, and there is nothing
to set. Source: Secrets Manager user guide, "Lambda rotation functions".
"""

import json
import os
import time
import urllib.error
import urllib.request

import boto3
from botocore.exceptions import ClientError

# Older versions of boto3 don't know AWS_ENDPOINT_URL.
secrets = boto3.client("secretsmanager", endpoint_url=os.environ.get("AWS_ENDPOINT_URL"))
# Nor do they know RotationToken, which Secrets Manager has had since June 2024.
KNOWS_ROTATION_TOKEN = "RotationToken" in secrets.meta.service_model.operation_model("PutSecretValue").input_shape.members

unknown = {}  # the members of the next call that this boto3 would refuse


def add_unknown(params, **_):
    params["body"] = json.dumps({**json.loads(params["body"]), **unknown}).encode()


if not KNOWS_ROTATION_TOKEN:
    secrets.meta.events.register("before-call.secrets-manager.PutSecretValue", add_unknown)

# How long a token that was asked for may take to be accepted, in seconds.
EFFECT = float(os.environ.get("EFFECT_SECONDS", "10"))
# How often a value that was just written is asked for again.
TRIES = 5


def handler(event, _context):
    step = {"createSecret": create, "setSecret": put, "testSecret": test, "finishSecret": finish}.get(event["Step"])
    if step is None:
        raise ValueError("Invalid step parameter")
    arn, token = event["SecretId"], event["ClientRequestToken"]
    if not arn.startswith("arn:") or not 32 <= len(token) <= 64:
        raise ValueError("The event names no secret's ARN, or no version")
    secret = secrets.describe_secret(SecretId=arn)
    if secret.get("RotationEnabled") is False:
        raise ValueError("Rotation is switched off for " + arn)
    here = secrets.meta.region_name
    if "DeletedDate" in secret or "OwningService" in secret or secret.get("PrimaryRegion", here) != here:
        raise ValueError(arn + " isn't ours to rotate")
    stages = secret["VersionIdsToStages"].get(token)
    if stages is None:
        raise ValueError("Version " + token + " has no stage for rotation")
    if "AWSCURRENT" in stages:
        return
    if "AWSPENDING" not in stages:
        raise ValueError("Version " + token + " isn't AWSPENDING")
    step(arn, token, secret, event.get("RotationToken"))


def create(arn, token, _secret, rotation_token):
    """Makes the new value, once: only a value that isn't there yet is generated."""
    current = read(arn, VersionStage="AWSCURRENT")
    try:
        read(arn, VersionId=token, VersionStage="AWSPENDING")
        return
    except secrets.exceptions.ResourceNotFoundException:
        pass
    password = secrets.get_random_password(PasswordLength=32, ExcludeCharacters="/@\"'\\:")["RandomPassword"]
    more = {"RotationToken": rotation_token} if rotation_token else {}
    unknown.clear()
    unknown.update(more)
    secrets.put_secret_value(
        SecretId=arn, ClientRequestToken=token, SecretString=json.dumps({**current, "token": password}),
        VersionStages=["AWSPENDING"], **(more if KNOWS_ROTATION_TOKEN else {}))


def put(arn, token, _secret, _rotation_token):
    """Makes the service accept the new token: looks first, then asks as current or previous."""
    pending = read_pending(arn, token)
    current = read(arn, VersionStage="AWSCURRENT")
    if "url" not in pending:
        return
    same_service(pending, current)
    if accepted(pending):
        return
    ask(arn, pending, current)
    deadline = time.monotonic() + EFFECT
    while not accepted(pending):
        if time.monotonic() > deadline:
            raise TimeoutError("The service doesn't accept the new token yet")
        time.sleep(0.05)


def ask(arn, pending, current):
    known = current if accepted(current) else previous(arn, pending)
    if call(pending["url"], known["token"], {"token": pending["token"]}) == 422:
        raise ValueError("The service won't have the new token; only another rotation makes another one")


def previous(arn, pending):
    """The last token that may still open the service; its service is compared before it is asked."""
    refused = "The service accepts neither the pending, the current nor the previous token"
    try:
        value = read(arn, VersionStage="AWSPREVIOUS")
    except secrets.exceptions.ResourceNotFoundException:
        raise PermissionError(refused) from None
    same_service(pending, value)
    if not accepted(value):
        raise PermissionError(refused)
    return value


def test(arn, token, _secret, _rotation_token):
    pending = read_pending(arn, token)
    if "url" in pending and not accepted(pending):
        raise PermissionError("The service doesn't accept the pending token")


def finish(arn, token, secret, _rotation_token):
    """One move of AWSCURRENT; AWSPREVIOUS follows and AWSPENDING is the service's own business."""
    current = next(version for version, stages in secret["VersionIdsToStages"].items() if "AWSCURRENT" in stages)
    secrets.update_secret_version_stage(
        SecretId=arn, VersionStage="AWSCURRENT", MoveToVersionId=token, RemoveFromVersionId=current)


def read(arn, **which):
    return json.loads(secrets.get_secret_value(SecretId=arn, **which)["SecretString"])


def read_pending(arn, token):
    """Reads what an earlier step wrote: a reader may be shown older labels for a while."""
    for attempt in range(TRIES):
        try:
            return read(arn, VersionId=token, VersionStage="AWSPENDING")
        except ClientError as error:
            if error.response["Error"]["Code"] not in ("ResourceNotFoundException", "InvalidRequestException") or attempt == TRIES - 1:
                raise
            time.sleep(0.2 * (attempt + 1))


def same_service(one, other):
    if one.get("url") != other.get("url"):
        raise ValueError("Two versions of the secret name different services")


def accepted(value):
    return call(value["url"], value["token"]) == 204


def call(url, token, body=None):
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Authorization": "Bearer " + token})
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        if error.code in (401, 422):
            return error.code
        raise
