// Jobs of distribution: how far each is, and who feeds whom. Shown by a base at its own address; a
// server that is a node, and a base that stands by, say where that is.

import { get } from "./api.js";
import { bytes, clock, el } from "./dom.js";
import { createTable } from "./table.js";

const REFRESH_MS = 2000;
const DELIVERIES_MAX = 1000;

/** Jobs, newest last, with the tree of each that is open. */
export function createJobs() {
  return createTable({
    noun: "jobs",
    refreshMs: REFRESH_MS,
    key: (job) => job.job_id,
    load: async ({ q, cursor, limit, signal }) => {
      const found = await get("/v1/jobs", { q, after: cursor, limit }, signal);
      return { rows: found.jobs, next: found.next_cursor };
    },
    columns: [
      { label: "Job", text: (j) => j.job_id },
      { label: "State", text: (j) => j.state.replaceAll("_", " "), badge: stateKind },
      { label: "Name", isMain: true, text: (j) => j.client_ref ?? "-" },
      { label: "Files", isNumber: true, text: (j) => String(j.commands) },
      { label: "Size", isNumber: true, text: (j) => bytes(j.content_bytes) },
      { label: "Nodes", isNumber: true, text: (j) => String(j.servers.length) },
      { label: "Asked for", isNumber: true, text: (j) => clock(j.created_at_ns / 1e6) },
    ],
    detail: (job, before) => {
      const place = before ?? el("pre", { class: "tree", text: "loading" });
      showTree(place, job.job_id);
      return place;
    },
  });
}

/** Nodes of the base. */
export function createNodes() {
  return createTable({
    noun: "nodes",
    refreshMs: REFRESH_MS,
    key: (node) => node.node,
    load: async ({ q, cursor, limit, signal }) => {
      const found = await get("/v1/nodes", { q, after: cursor, limit }, signal);
      return { rows: found.nodes, next: found.next_cursor };
    },
    columns: [
      { label: "Node", text: (n) => n.node },
      { label: "State", text: (n) => n.state.replaceAll("_", " "), badge: ({ state }) => (state === "active" ? "good" : "warn") },
      { label: "Peers reach it at", isMain: true, text: (n) => n.addr },
      { label: "Open", isNumber: true, text: (n) => String(n.open_deliveries) },
      { label: "Free", isNumber: true, text: (n) => bytes(n.free_bytes) },
      { label: "Heard", isNumber: true, text: (n) => clock(n.heard_at_ns / 1e6) },
    ],
  });
}

/** Of a node: where jobs are shown. */
export function createNodeJobs(base) {
  const link = el("a", { href: base, text: base, rel: "noopener" });
  const text = "This server is a node. Its jobs, and who feeds whom, are shown by its base, to who has a client's token:";
  const element = el("section", { class: "card" }, el("h2", { text: "Jobs" }), el("p", { text }), el("p", {}, link));
  return { element, show() {}, hide() {} };
}

/** Of a base that stands by: what it waits for. */
export function createStandby() {
  const element = el("section", { class: "card" });
  const tell = ({ active, database, taking_over: taken }) => {
    const url = active && new URL(`${location.protocol}//${active.addr}/`);
    const text = taken
      ? "This base takes over: it reads the ledger."
      : database
        ? `This base stands by, and the database of its ledger does not answer: ${database}`
        : "This base stands by. Jobs and nodes are shown by the one that is active:";
    const link = url ? el("p", {}, el("a", { href: url.href, text: url.href, rel: "noopener" })) : null;
    element.replaceChildren(...[el("h2", { text: "Standby" }), el("p", { text }), link].filter(Boolean));
  };
  return { element, tell, show() {}, hide() {} };
}

function stateKind({ state }) {
  if (state === "completed") return "good";
  return state.includes("fail") || state === "cancelled" ? "bad" : state === "paused" ? "warn" : "";
}

/** Trees whose deliveries are being asked for: a large one takes longer than until the next time. */
const asking = new WeakSet();

async function showTree(place, job) {
  if (asking.has(place)) return;
  asking.add(place);
  try {
    const found = await get(`/v1/jobs/${encodeURIComponent(job)}/deliveries`, { limit: DELIVERIES_MAX });
    place.textContent = treeOf(found.deliveries).join("\n") || "no deliveries yet";
    if (found.next_cursor) place.textContent += `\n(the first ${DELIVERIES_MAX} deliveries)`;
  } catch (error) {
    place.textContent = error.message;
  } finally {
    asking.delete(place);
  }
}

/** Lines of a tree: each node below the source of most of its bytes now. */
export function treeOf(deliveries) {
  const nodes = new Map();
  for (const delivery of deliveries) {
    const node = nodes.get(delivery.node) ?? { done: 0, failed: 0, all: 0, bytes: 0, size: 0, rate: 0, speed: -1, source: null };
    const isFetching = delivery.state === "fetching";
    const has = delivery.state === "completed" ? (delivery.size ?? delivery.offset) : delivery.state === "failed" ? 0 : delivery.offset;
    node.all += 1;
    node.done += delivery.state === "completed" ? 1 : 0;
    node.failed += ["failed", "cancelled"].includes(delivery.state) ? 1 : 0;
    node.bytes += has;
    node.size += Math.max(delivery.size ?? has, has);
    node.rate += isFetching ? delivery.rate : 0;
    const speed = isFetching ? delivery.rate + 1 : 0;
    if (delivery.source && speed >= node.speed) [node.speed, node.source] = [speed, delivery.source];
    nodes.set(delivery.node, node);
  }
  const below = new Map();
  for (const [name, { source }] of nodes) {
    if (source) below.set(source, [...(below.get(source) ?? []), name]);
  }
  const lines = [];
  const seen = new Set();
  const told = (name) => {
    const { done, failed, all, bytes: has, size, rate } = nodes.get(name);
    const part = size > 0 ? Math.floor((has / size) * 100) : all === done ? 100 : 0;
    const words = [`${part} %`, `${bytes(has)} of ${bytes(size)}`, `${done} of ${all}`];
    if (rate > 0) words.push(`${bytes(rate)}/s`);
    if (failed > 0) words.push(`${failed} failed`);
    return words.join(", ");
  };
  const add = (name, lead, mark) => {
    if (seen.has(name)) return;
    seen.add(name);
    lines.push(`${lead}${mark}${name}${nodes.has(name) ? `  ${told(name)}` : ""}`);
    const children = (below.get(name) ?? []).filter((child) => !seen.has(child)).sort();
    const inner = mark === "" ? "" : lead + (mark.startsWith("'") ? "   " : "|  ");
    children.forEach((child, index) => add(child, inner, index + 1 === children.length ? "'- " : "|- "));
  };
  // Sources that no node of the job feeds stand at the top, then nodes that feed each other.
  const isTop = (source) => !nodes.get(source)?.source;
  [...below.keys()].filter(isTop).sort().forEach((source) => add(source, "", ""));
  [...below.keys()].forEach((source) => add(source, "", ""));
  const unfed = [...nodes.keys()].filter((name) => !seen.has(name));
  if (unfed.length > 0) lines.push(`not fed yet: ${unfed.join(" ")}`);
  return lines;
}
