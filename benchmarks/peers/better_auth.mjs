// better-auth's api-key plugin behind Node's own HTTP server, on a pool of PostgreSQL connections.
// `node better_auth.mjs prepare COUNT` makes tables and keys and prints one; `node better_auth.mjs serve PORT` serves.
import http from "node:http";
import { betterAuth } from "better-auth";
import { getMigrations } from "better-auth/db/migration";
import { apiKey } from "@better-auth/api-key";
import pg from "pg";

const pool = new pg.Pool({
  host: "127.0.0.1", port: Number(process.env.BENCHMARK_PORT), user: "keyadmin", database: "better_auth", max: 16,
});
// Its rate limit is on, as it is by default, and high enough never to refuse.
const options = {
  database: pool, secret: "a benchmark has no secrets, this is none", baseURL: "http://127.0.0.1",
  emailAndPassword: { enabled: true }, logger: { level: "error" }, telemetry: { enabled: false },
  plugins: [apiKey({ rateLimit: { enabled: true, timeWindow: 1000, maxRequests: 1000000000 } })],
};
const auth = betterAuth(options);

async function prepare(count) {
  await (await getMigrations(options)).runMigrations();
  const { user } = await auth.api.signUpEmail({
    body: { email: "benchmark@example.com", password: "benchmark-benchmark", name: "Benchmark" },
  });
  const made = await auth.api.createApiKey({ body: { name: "benchmark", userId: user.id } });
  const { rows } = await pool.query("SELECT * FROM apikey WHERE id = $1", [made.id]);
  const columns = Object.keys(rows[0]).filter((name) => !["id", "key"].includes(name));
  const quoted = columns.map((name) => `"${name}"`).join(", ");
  await pool.query(
    `INSERT INTO apikey (id, key, ${quoted}) SELECT 'filler' || n, 'filler' || n, ${quoted}
     FROM apikey, generate_series(1, $2) n WHERE id = $1`, [made.id, count]);
  await pool.query("CREATE INDEX IF NOT EXISTS apikey_by_key ON apikey (key)");
  await pool.query("ANALYZE");
  console.log(made.key);
  await pool.end();
}

function serve(port) {
  http.createServer(async (request, response) => {
    try {
      const key = (request.headers.authorization ?? "").replace(/^Bearer /, "");
      const { valid } = await auth.api.verifyApiKey({ body: { key } });
      response.writeHead(valid ? 200 : 401, { "Content-Length": "0" });
    } catch {
      response.writeHead(503, { "Content-Length": "0" });
    }
    response.end();
  }).listen(port, "127.0.0.1");
}

if (process.argv[2] === "prepare") await prepare(Number(process.argv[3]));
else serve(Number(process.argv[3]));
