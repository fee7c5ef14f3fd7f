"""The application that the Python servers run: it says which process answered."""

import asyncio
import os
import time

time.sleep(float(os.environ.get("SLOW_START_SECONDS", "0")))


ANSWER_SECONDS = float(os.environ.get("ANSWER_SECONDS", "0"))


def app(environ, start_response):
    time.sleep(ANSWER_SECONDS)
    body = b"pid %d" % os.getpid()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]


async def asgi(scope, receive, send):
    if scope["type"] != "http":
        return
    await asyncio.sleep(ANSWER_SECONDS)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": b"pid %d" % os.getpid()})
