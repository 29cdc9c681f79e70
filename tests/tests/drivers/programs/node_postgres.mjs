// node-postgres as its users use it. Argument: a JSON list of its configurations, one for each
// endpoint; the first gets everything, the others a look.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { createRequire } from "node:module";

// The packages are installed elsewhere than this file.
const require = createRequire(process.env.NODE_MODULES_OF + "/");
const pg = require("pg");
const { from: copyFrom, to: copyTo } = require("pg-copy-streams");

function settings({ ca, ...rest }) {
  const ssl = ca ? { ca: readFileSync(ca, "utf8") } : rest.ssl;
  return { ...rest, ssl };
}

async function connected(config) {
  const client = new pg.Client(settings(config));
  await client.connect();
  return client;
}

async function look(config) {
  const client = await connected(config);
  assert.deepEqual((await client.query("select 1 as one")).rows, [{ one: 1 }]);
  await client.end();
}

async function everything(config) {
  const client = await connected(config);
  await client.query("drop table if exists node_rows");
  await client.query("create table node_rows (number int, words text)");
  const lines = Array.from({ length: 2000 }, (_, number) => `${number}\trow ${number} \u2603\n`);
  await pipeline(Readable.from(lines), client.query(copyFrom("copy node_rows from stdin")));
  let copied = "";
  const rows = client.query(copyTo("copy (table node_rows order by 1) to stdout"));
  rows.setEncoding("utf8");
  for await (const piece of rows) copied += piece;
  assert.equal(copied, lines.join(""));

  const named = { name: "words", text: "select words from node_rows where number = $1" };
  for (let number = 0; number < 8; number++) {
    const answer = await client.query({ ...named, values: [number] });
    assert.equal(answer.rows[0].words, `row ${number} \u2603`);
  }

  const big = await client.query("select n, repeat('x', 100) from generate_series(1, 50000) n");
  assert.equal(big.rows.length, 50000);

  const heard = new Promise((hear) => client.once("notification", hear));
  await client.query("listen news");
  const other = await connected(config);
  await other.query("select pg_notify('news', 'arrived')");
  await other.end();
  assert.equal((await heard).payload, "arrived");

  const sleeping = new pg.Query("select pg_sleep(600)");
  const ended = new Promise((end) => sleeping.once("error", end));
  client.query(sleeping);
  setTimeout(() => new pg.Client(settings(config)).cancel(client, sleeping), 300);
  assert.equal((await ended).code, "57014");

  await assert.rejects(client.query("select nonsense"), { code: "42703", position: "8" });
  await client.query("drop table node_rows");
  await client.end();

  const pool = new pg.Pool({ ...settings(config), max: 4 });
  const asked = Array.from({ length: 40 }, (_, n) => pool.query("select $1::int as n", [n]));
  const answers = await Promise.all(asked);
  assert.deepEqual(answers.map((answer) => answer.rows[0].n), asked.map((_, n) => n));
  await pool.end();
}

const [first, ...others] = JSON.parse(process.argv[2]);
await everything(first);
for (const config of others) await look(config);
console.log(`node-postgres ${require("pg/package.json").version}: ${others.length + 1} endpoints`);
