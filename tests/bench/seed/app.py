"""One WSGI application that computes a little: the same for every contender."""


def compute():
    total = 0
    for n in range(3000):
        total = (total * 31 + n) % 1000003
    return b"%d\n" % total


def app(environ, start_response):
    body = compute()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]
