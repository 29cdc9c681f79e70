"""psycopg 3 as its users use it. Arguments: a connection string for each endpoint; the
first gets everything, the others a look."""

import sys
import threading

import psycopg
from psycopg import pq


def look(conninfo):
    with psycopg.connect(conninfo) as connection:
        (one,) = connection.execute("select 1").fetchone()
        assert one == 1


def everything(conninfo):
    with psycopg.connect(conninfo, autocommit=True) as connection:
        connection.execute("drop table if exists psycopg_rows")
        connection.execute("create table psycopg_rows (number int, words text)")

        rows = [(number, f"row {number} \N{SNOWMAN}") for number in range(2000)]
        with connection.cursor() as cursor:
            with cursor.copy("copy psycopg_rows from stdin") as copy:
                for row in rows:
                    copy.write_row(row)
            with cursor.copy("copy (table psycopg_rows order by 1) to stdout") as copy:
                copy.set_types(["int4", "text"])
                assert list(copy.rows()) == rows
            with cursor.copy("copy (table psycopg_rows) to stdout (format binary)") as copy:
                assert sum(len(piece) for piece in copy) > 20 * len(rows)

        # Prepared on the server from the first time, binary results.
        for number in range(8):
            query = "select words from psycopg_rows where number = %s"
            cursor = connection.execute(query, (number,), prepare=True, binary=True)
            assert cursor.fetchone() == rows[number][1:]

        with connection.pipeline():
            answers = [connection.execute("select %s::int", (n,)) for n in range(50)]
        assert [answer.fetchone()[0] for answer in answers] == list(range(50))

        with connection.transaction(), connection.cursor(name="portal") as cursor:
            cursor.execute("select n, repeat('x', 100) from generate_series(1, 50000) n")
            assert sum(number for number, _ in cursor) == 50000 * 50001 // 2
        cursor = connection.execute("select n, repeat('x', 100) from generate_series(1, 50000) n")
        assert len(cursor.fetchall()) == 50000

        connection.execute("listen news")
        with psycopg.connect(conninfo, autocommit=True) as other:
            other.execute("select pg_notify('news', 'arrived')")
        assert next(connection.notifies(timeout=30)).payload == "arrived"

        # Each way that there is to cancel.
        for cancel in (connection.cancel, connection.cancel_safe):
            timer = threading.Timer(0.3, cancel)
            timer.start()
            try:
                connection.execute("select pg_sleep(600)")
                raise AssertionError("it was not cancelled")
            except psycopg.errors.QueryCanceled:
                pass
            timer.join()

        try:
            connection.execute("select nonsense")
            raise AssertionError("nonsense has an answer")
        except psycopg.errors.UndefinedColumn as error:
            assert error.diag.statement_position == "8"
        connection.execute("drop table psycopg_rows")


everything(sys.argv[1])
for conninfo in sys.argv[2:]:
    look(conninfo)
print(f"psycopg {psycopg.__version__} with libpq {pq.version()}: {len(sys.argv) - 1} endpoints")
