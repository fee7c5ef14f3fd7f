"""The same computation behind Mongrel2's ZeroMQ sockets. usage: handler.py REQUESTS REPLIES"""

import sys

import app
import zmq

context = zmq.Context()
requests, replies = context.socket(zmq.PULL), context.socket(zmq.PUB)
requests.connect(sys.argv[1])
replies.connect(sys.argv[2])
while True:
    # UUID ID PATH LENGTH:HEADERS,LENGTH:BODY,
    uuid, connection, _ = requests.recv().split(b" ", 2)
    body = app.compute()
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n" % len(body)
    replies.send(b"%s %d:%s, %s%s" % (uuid, len(connection), connection, head, body))
