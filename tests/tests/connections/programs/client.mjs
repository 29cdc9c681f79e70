// Runs each line of its input as a statement, and prints the first column of the first row, or the
// SQLSTATE of an error. Argument: a connection URL.

import { createInterface } from "node:readline";
import { createRequire } from "node:module";

// The packages are installed elsewhere than this file.
const require = createRequire(process.env.NODE_MODULES_OF + "/");
const pg = require("pg");

// It takes the socket's directory in a form of its own.
const url = new URL(process.argv[2]);
const config = url.searchParams.has("host")
  ? { host: url.searchParams.get("host"), user: url.searchParams.get("user"), database: url.pathname.slice(1) }
  : { connectionString: process.argv[2] };
const client = new pg.Client(config);
client.on("error", () => {});
await client.connect();
for await (const line of createInterface({ input: process.stdin })) {
  try {
    const { rows } = await client.query({ text: line, rowMode: "array" });
    console.log(rows.length ? String(rows[0][0]) : "done");
  } catch (error) {
    console.log(error.code);
  }
}
