"""The rotation function for tests of Secrets Manager itself.

It rotates by rotate.py and tells, by tags of the secret, how it was called; a
tag also tells it to fail or to wait, so that the same test works on an account.

    event-<ns>    "<step> <version> <kind of SecretId> <digest of RotationToken>"
    failed-<ns>   the same, when the step is about to raise
    ended-<ns>    the same, when it has done or failed what the step is
    fail=<step>   that step raises, for as long as the tag is there
    hold=<step>   that step waits until the tag is gone
"""

import hashlib
import time

import rotate

LONGEST_HOLD = 90  # seconds


def handler(event, context):
    arn, step = event["SecretId"], event["Step"]
    token = event.get("RotationToken", "")
    digest = hashlib.sha256(token.encode()).hexdigest()[:16] if token else "none"
    kind = "arn" if arn.startswith("arn:aws") else "name"
    record = " ".join([step, event["ClientRequestToken"], kind, digest])
    note(arn, "event", record)
    deadline = time.monotonic() + LONGEST_HOLD
    while tags(arn).get("hold") == step and time.monotonic() < deadline:
        time.sleep(0.05)
    if tags(arn).get("fail") == step:
        note(arn, "failed", record)
        raise RuntimeError("told to fail")
    try:
        rotate.handler(event, context)
    finally:
        note(arn, "ended", record)


def note(arn, kind, record):
    rotate.secrets.tag_resource(SecretId=arn, Tags=[{"Key": "%s-%d" % (kind, time.time_ns()), "Value": record}])


def tags(arn):
    return {tag["Key"]: tag["Value"] for tag in rotate.secrets.describe_secret(SecretId=arn).get("Tags", [])}
