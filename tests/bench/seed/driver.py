"""The article's comparison, and a worker that is killed: prebind beside Circus, gunicorn and Mongrel2, in one run.

usage: driver.py PREBIND WORK [--markdown]     started by tests/bench/seed/run
"""

import os
import re
import statistics
import subprocess
import sys
import time

from contenders import CONTENDERS, Running, answered, get

ROUNDS, SECONDS, CLIENTS, WORKERS = 5, 4, 8, 2
KILLS = {"prebind": 10, "circus": 4}
LIMIT_TO = "gunicorn's own prefork"


def wrk(port):
    """Requests a second, the 99th percentile in ms, errors."""
    words = ["wrk", "-t1", f"-c{CLIENTS}", f"-d{SECONDS}s", "--latency", f"http://127.0.0.1:{port}/"]
    said = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    rate = float(re.search(r"Requests/sec:\s+([\d.]+)", said).group(1))
    number, unit = re.search(r"99%\s+([\d.]+)(us|ms|s)", said).groups()
    p99 = float(number) * {"us": 0.001, "ms": 1, "s": 1000}[unit]
    socket_errors = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", said)
    other = re.search(r"Non-2xx or 3xx responses: (\d+)", said)
    errors = sum(map(int, socket_errors.groups())) if socket_errors else 0
    return rate, p99, errors + (int(other.group(1)) if other else 0)


def compare(prebind, work):
    seen = {name: [] for name in CONTENDERS}
    for turn in range(ROUNDS):
        names = list(CONTENDERS)
        for name in names[turn % len(names):] + names[: turn % len(names)]:
            with Running(name, prebind, work, WORKERS) as running:
                answered(running.port)
                seen[name].append(wrk(running.port))
    return {
        name: (statistics.median(r[0] for r in rows), statistics.median(r[1] for r in rows), sum(r[2] for r in rows))
        for name, rows in seen.items()
    }


def children(pid):
    try:
        with open(f"/proc/{pid}/task/{pid}/children") as file:
            return {int(word) for word in file.read().split()}
    except FileNotFoundError:
        return set()


def killed(name, prebind, work):
    """Milliseconds from SIGKILL of the only worker to a new pid, and to the next answer."""
    pids, answers = [], []
    with Running(name, prebind, work, 1) as running:
        for _ in range(KILLS["circus" if "Circus" in name else "prebind"]):
            answered(running.port)
            # A slot that is replaced more than 5 times in 10 s waits a back-off.
            time.sleep(2.2)
            before = children(running.pid)
            (worker,) = before
            begun = time.monotonic()
            os.kill(worker, 9)
            while not children(running.pid) - before:
                time.sleep(0.0005)
            pids.append(1000 * (time.monotonic() - begun))
            get(running.port, 30)
            answers.append(1000 * (time.monotonic() - begun))
    return pids, answers


def table(head, rows, markdown):
    if markdown:
        lines = [head, ["---"] * len(head), *rows]
        return "\n".join("| " + " | ".join(line) + " |" for line in lines)
    widths = [max(len(line[n]) for line in [head, *rows]) for n in range(len(head))]
    return "\n".join("  ".join(word.ljust(width) for word, width in zip(line, widths)) for line in [head, *rows])


def main():
    prebind, work = sys.argv[1:3]
    markdown = "--markdown" in sys.argv
    wrong = []
    figures = compare(prebind, work)
    limit = figures[LIMIT_TO]
    rows = [
        [name, f"{rate:.0f}", f"{rate / limit[0]:.2f}x", f"{p99:.1f} ms", f"{p99 / limit[1]:.2f}x", str(errors)]
        for name, (rate, p99, errors) in figures.items()
    ]
    print(table(["server", "requests/s", "to prefork", "p99", "to prefork", "errors"], rows, markdown))
    wrong += [f"{name}: {row[2]} errors" for name, row in figures.items() if name.startswith("prebind") and row[2]]
    rows = []
    for name in ["prebind, Chaussette", "Circus, Chaussette"]:
        pids, answers = killed(name, prebind, work)
        row = [statistics.median(pids), max(pids), statistics.median(answers), max(answers)]
        rows.append([name, *(f"{figure:.1f} ms" for figure in row), str(len(pids))])
        if name.startswith("prebind") and row[0] > 50:
            wrong.append(f"{name}: {row[0]:.1f} ms to a new pid, 50 at most")
    print()
    head = ["SIGKILL of the only worker", "new pid, median", "max", "next answer, median", "max", "times"]
    print(table(head, rows, markdown))
    for line in wrong:
        print(f"tests/bench/seed: {line}", file=sys.stderr)
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
