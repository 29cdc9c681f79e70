"""asyncpg as its users use it. Arguments: a DSN for each endpoint; the first gets everything,
the others a look."""

import asyncio
import io
import sys

import asyncpg


async def look(dsn):
    connection = await asyncpg.connect(dsn)
    assert await connection.fetchval("select 1") == 1
    await connection.close()


async def everything(dsn):
    connection = await asyncpg.connect(dsn)
    await connection.execute("drop table if exists asyncpg_rows")
    await connection.execute("create table asyncpg_rows (number int, words text)")
    rows = [(number, f"row {number} \N{SNOWMAN}") for number in range(2000)]
    await connection.copy_records_to_table("asyncpg_rows", records=rows)
    copied = io.BytesIO()
    await connection.copy_from_query("table asyncpg_rows", output=copied, format="csv")
    assert copied.getvalue().count(b"\n") == len(rows)

    statement = await connection.prepare("select words from asyncpg_rows where number = $1")
    for number in range(8):
        assert await statement.fetchval(number) == rows[number][1]

    big = await connection.fetch("select n, repeat('x', 100) from generate_series(1, 50000) n")
    assert len(big) == 50000
    async with connection.transaction():
        total = 0
        async for row in connection.cursor("select n from generate_series(1, 5000) n"):
            total += row["n"]
        assert total == 5000 * 5001 // 2

    heard = asyncio.get_running_loop().create_future()
    await connection.add_listener("news", lambda *news: heard.set_result(news[-1]))
    other = await asyncpg.connect(dsn)
    await other.execute("select pg_notify('news', 'arrived')")
    await other.close()
    assert await asyncio.wait_for(heard, 30) == "arrived"

    # A time limit makes it send a cancel request.
    try:
        await connection.execute("select pg_sleep(600)", timeout=0.3)
        raise AssertionError("it was not cancelled")
    except asyncio.TimeoutError:
        pass
    assert await connection.fetchval("select 'still here'") == "still here"
    await connection.execute("drop table asyncpg_rows")
    await connection.close()

    async with asyncpg.create_pool(dsn, min_size=4, max_size=4) as pool:
        answers = await asyncio.gather(*(pool.fetchval("select $1::int", n) for n in range(40)))
        assert answers == list(range(40))


async def main():
    await everything(sys.argv[1])
    for dsn in sys.argv[2:]:
        await look(dsn)
    print(f"asyncpg {asyncpg.__version__}: {len(sys.argv) - 1} endpoints")


asyncio.run(main())
