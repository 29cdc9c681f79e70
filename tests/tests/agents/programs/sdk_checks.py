"""The official Python SDK's client against `borealisctl mcp`. Arguments: borealisctl, then what it
is to be run with. The client checks every result against the tool's own output schema."""

import asyncio
import json
import os
import sys

from mcp import ClientSession, StdioServerParameters
from mcp.client.stdio import stdio_client

TOOLS = ["list_databases", "describe", "query", "explain"]


async def checks(session):
    listed = (await session.list_tools()).tools
    assert [tool.name for tool in listed] == TOOLS, listed
    for tool in listed:
        assert tool.input_schema["type"] == "object"
        assert tool.output_schema["type"] == "object"
        hints = tool.annotations
        assert hints.read_only_hint and hints.idempotent_hint, tool.name
        assert hints.open_world_hint is False and hints.destructive_hint is False, tool.name
        assert "untrusted content" in tool.description, tool.name

    async def call(name, **arguments):
        result = await session.call_tool(name, arguments)
        assert not result.is_error, result.content
        # For clients that know no structured content, the same as text.
        assert json.loads(result.content[0].text) == result.structured_content
        return result.structured_content

    databases = await call("list_databases")
    assert databases["databases"][0]["database"] == "sushi", databases
    overview = await call("describe", database="sushi")
    (public,) = overview["schemas"]
    assert {"orders", "rolls"} <= {table["name"] for table in public["tables"]}, overview
    table = (await call("describe", table="order_items"))["table"]
    assert {key["references"] for key in table["foreign_keys"]} == {"orders", "rolls"}, table
    rows = await call("query", sql="select name, price, photo from rolls order by id limit 4")
    assert rows["rows"][0] == ["California", 7.5, None], rows
    assert rows["rows"][3] == ["Spicy Tuna", 8.1, "iVBORw0KGgo="], rows
    plan = await call("explain", sql="select from orders")
    assert "Seq Scan on public.orders" in plan["plan"], plan
    plan = await call("explain", sql="select count(*) from orders", analyze=True)
    assert "actual" in plan["plan"], plan

    wrong = await session.call_tool("query", {"sql": "select nope from rolls"})
    text = wrong.content[0].text
    assert wrong.is_error and "sqlstate: 42703" in text and "position: 8 (line 1, column 8)" in text, text

    told = []

    async def progress(done, total, message):
        told.append(message)

    await session.call_tool("query", {"sql": "select pg_sleep(0.2)"}, progress_callback=progress)
    assert "running" in told, told

    several = [session.call_tool("query", {"sql": f"select {number}"}) for number in range(12)]
    for number, result in enumerate(await asyncio.gather(*several)):
        assert result.structured_content["rows"] == [[number]], result


async def main():
    command, *args = sys.argv[1:]
    server = StdioServerParameters(command=command, args=args, env=dict(os.environ))
    async with stdio_client(server) as (read, write):
        async with ClientSession(read, write) as session:
            initialized = await session.initialize()
            print("mcp for Python:", initialized.server_info.name, initialized.protocol_version)
            await checks(session)


asyncio.run(main())
