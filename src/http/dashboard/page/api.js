// Questions to the API. What it refuses becomes an error with the sentence that it says.

// A server that hangs closes no connection. A switch may wait twenty seconds for a key frame, and a
// list ten for its shards.
const PATIENCE_MS = 30_000;
const GET_PATIENCE_MS = 15_000;

/** The JSON answer of `method path`, with `body` as JSON. `signal` takes the question back. */
export async function ask(method, path, body, signal) {
  const patience = AbortSignal.timeout(method === "GET" ? GET_PATIENCE_MS : PATIENCE_MS);
  const options = {
    method,
    headers: { accept: "application/json" },
    cache: "no-store",
    signal: signal ? AbortSignal.any([signal, patience]) : patience,
  };
  if (body !== undefined) {
    options.headers["content-type"] = "application/json";
    options.body = JSON.stringify(body);
  }
  let response;
  try {
    response = await fetch(path, options);
  } catch {
    throw new Error("the server does not answer");
  }
  let answer = null;
  try {
    answer = await response.json();
  } catch {
    // What is no JSON has no sentence for people either.
  }
  if (!response.ok) {
    const error = new Error(answer?.detail ?? `the server refuses (HTTP ${response.status})`);
    error.status = response.status;
    throw error;
  }
  return answer;
}

/** The answer of `GET path` with a query. */
export function get(path, query = {}, signal = undefined) {
  const given = Object.entries(query).filter(([, value]) => value !== undefined && value !== null && value !== "");
  const text = new URLSearchParams(given).toString();
  return ask("GET", text ? `${path}?${text}` : path, undefined, signal);
}

/** The name of a path as it stands in a URL: slashes stay. */
export function encodePath(name) {
  return name.split("/").map(encodeURIComponent).join("/");
}
