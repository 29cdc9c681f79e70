"""Clients of libpq that are killed as soon as they have sent. Arguments: how many, and a
connection string for each endpoint; each has a table `killed (way int, size int, text text)`."""

import os
import signal
import sys
import time

import psycopg
from psycopg import pq

AT_A_TIME = 8
PATIENCE = 30


def sizes(count):
    """From 1 byte to 1 MB, many small ones."""
    return [int(1_000_000 ** (n / (count - 1))) for n in range(count)]


def send_and_die(conninfo, way, size):
    connection = pq.PGconn.connect(conninfo.encode())
    if connection.status != pq.ConnStatus.OK:
        print(connection.get_error_message(), file=sys.stderr)
        os._exit(1)
    statement = f"insert into killed values ({way}, {size}, '{'x' * size}')"
    connection.send_query(statement.encode())
    while connection.flush():
        pass
    os.kill(os.getpid(), signal.SIGKILL)


def all_of_them(conninfo, way, count):
    running = 0
    for size in sizes(count):
        if running == AT_A_TIME:
            reap()
            running -= 1
        if os.fork() == 0:
            send_and_die(conninfo, way, size)
        running += 1
    for _ in range(running):
        reap()


def reap():
    _, status = os.wait()
    assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL, status


def arrived(conninfo, way, count):
    """What is there, once all of it is, or after a while."""
    ask = "select count(*), sum(size), sum(length(text)) from killed where way = %s"
    deadline = time.monotonic() + PATIENCE
    with psycopg.connect(conninfo, autocommit=True) as connection:
        while True:
            found = connection.execute(ask, (way,)).fetchone()
            if found[0] == count or time.monotonic() > deadline:
                return found
            time.sleep(0.05)


count = int(sys.argv[1])
expected = (count, sum(sizes(count)), sum(sizes(count)))
for way, conninfo in enumerate(sys.argv[2:]):
    all_of_them(conninfo, way, count)
    found = arrived(conninfo, way, count)
    assert found == expected, f"endpoint {way}: {found}, not {expected}"
print(f"libpq {pq.version()}: {count} killed clients at {len(sys.argv) - 2} endpoints, nothing lost")
