"""Who serves the application, and how each is started and ended."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request

HERE = os.path.dirname(os.path.abspath(__file__))
BIN = os.path.dirname(sys.executable)

CIRCUS = """[circus]
endpoint = tcp://127.0.0.1:{ports[1]}
pubsub_endpoint = tcp://127.0.0.1:{ports[2]}
multicast_endpoint =

[socket:web]
host = 127.0.0.1
port = {port}

[watcher:web]
cmd = {bin}/chaussette --fd $(circus.sockets.web) app.app
use_sockets = True
copy_env = True
working_dir = {here}
numprocesses = {workers}
"""

MONGREL2 = """main = Server(uuid="0c1ef6a3-25ab-4b3b-9f0e-000000000001", access_log="/access.log", error_log="/error.log",
    chroot="{work}/", default_host="localhost", name="main", pid_file="/mongrel2.pid", bind_addr="127.0.0.1", port={port},
    hosts=[Host(name="localhost", routes={{'/': Handler(send_spec='tcp://127.0.0.1:{ports[1]}',
        send_ident='0c1ef6a3-25ab-4b3b-9f0e-000000000002', recv_spec='tcp://127.0.0.1:{ports[2]}', recv_ident='')}})])
settings = {{"server.daemonize": 0}}
servers = [main]
"""


def written(known, name, text):
    path = os.path.join(known["work"], name)
    with open(path, "w") as file:
        file.write(text.format(**known))
    return path


def by_circus_file(known):
    return [[known["prebind"], "-q", "--no-control", "--circus", written(known, "prebind.ini", CIRCUS)]]


def by_prebind(known):
    words = [known["prebind"], "-q", "--no-control", "-b", f"web=127.0.0.1:{known['port']}", "-n", str(known["workers"])]
    return [[*words, "--", f"{BIN}/gunicorn", "--no-control-socket", "--bind", "fd://{SOCKET:web}", "app:app"]]


def prefork(known):
    return [[f"{BIN}/gunicorn", "--bind", f"127.0.0.1:{known['port']}", "-w", str(known["workers"]), "app:app"]]


def circus(known):
    return [[f"{BIN}/circusd", written(known, "circus.ini", CIRCUS)]]


def mongrel2(known):
    config, base = written(known, "mongrel2.conf", MONGREL2), os.path.join(known["work"], "mongrel2.sqlite")
    subprocess.run(["m2sh", "load", "-config", config, "-db", base], check=True, capture_output=True)
    addresses = [f"tcp://127.0.0.1:{port}" for port in known["ports"][1:3]]
    handler = [sys.executable, os.path.join(HERE, "handler.py"), *addresses]
    return [["mongrel2", base, "0c1ef6a3-25ab-4b3b-9f0e-000000000001"], *[handler] * known["workers"]]


CONTENDERS = {
    "prebind, gunicorn sync": by_prebind,
    "prebind, Chaussette": by_circus_file,
    "gunicorn's own prefork": prefork,
    "Circus, Chaussette": circus,
    "Mongrel2, handlers behind ZeroMQ": mongrel2,
}


def free_ports(count):
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def get(port, timeout):
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=timeout) as reply:
        return reply.read()


def answered(port):
    """Waits for an answer."""
    until = time.monotonic() + 60
    while True:
        try:
            return get(port, 5)
        except OSError:
            if time.monotonic() > until:
                raise
            time.sleep(0.05)


class Running:
    """A contender, each of its processes in a session of its own; all of them end with it."""

    def __init__(self, name, prebind, work, workers):
        ports = free_ports(3)
        known = dict(prebind=prebind, work=work, workers=workers, ports=ports, port=ports[0], here=HERE, bin=BIN)
        self.port, self.processes = ports[0], []
        self.commands = CONTENDERS[name](known)
        self.log = open(os.path.join(work, "servers.log"), "ab")

    def __enter__(self):
        for words in self.commands:
            process = subprocess.Popen(
                words, cwd=HERE, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log, start_new_session=True
            )
            self.processes.append(process)
        self.pid = self.processes[0].pid
        return self

    def __exit__(self, *_):
        for process in self.processes:
            process.send_signal(signal.SIGTERM)
        for process in self.processes:
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        self.log.close()
