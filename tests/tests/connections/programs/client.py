"""Runs each line of its input as a statement, and prints the first column of the first row, or the
SQLSTATE of an error. Argument: a connection URL."""

import sys

import psycopg

with psycopg.connect(sys.argv[1], autocommit=True) as connection:
    for line in sys.stdin:
        try:
            cursor = connection.execute(line)
            row = cursor.fetchone() if cursor.description else None
            print(row[0] if row else "done", flush=True)
        except psycopg.Error as error:
            print(error.sqlstate, flush=True)
