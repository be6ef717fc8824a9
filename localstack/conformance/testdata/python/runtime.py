"""The Lambda Runtime API in Python: ask for an event, hand it to the function, answer.

HANDLER names the function as module.function. Source: Lambda developer guide,
"Using the Lambda runtime API for custom runtimes".
"""

import importlib
import json
import os
import traceback
import urllib.request

API = "http://" + os.environ["AWS_LAMBDA_RUNTIME_API"] + "/2018-06-01/runtime/"


def post(path, document):
    request = urllib.request.Request(API + path, json.dumps(document).encode(), {"Content-Type": "application/json"})
    urllib.request.urlopen(request).close()


def failure(error):
    lines = traceback.format_tb(error.__traceback__)
    return {"errorType": type(error).__name__, "errorMessage": str(error), "stackTrace": lines}


def load():
    module, function = os.environ.get("HANDLER", "rotate.handler").split(".")
    return getattr(importlib.import_module(module), function)


def main():
    try:
        handler = load()
    except Exception as error:
        post("init/error", failure(error))
        raise
    while True:
        with urllib.request.urlopen(API + "invocation/next") as invocation:
            request = invocation.headers["Lambda-Runtime-Aws-Request-Id"]
            event = json.load(invocation)
        try:
            post("invocation/" + request + "/response", handler(event, None))
        except Exception as error:
            post("invocation/" + request + "/error", failure(error))


main()
