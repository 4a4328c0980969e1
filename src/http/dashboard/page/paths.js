// Live paths: state, source, readers; kick, switch to another source, read the configuration again.

import { ask, encodePath, get } from "./api.js";
import { confirmAction } from "./dialog.js";
import { age, bitRate, count, el, notify } from "./dom.js";
import { playLink } from "./titles.js";
import { createTable } from "./table.js";

const REFRESH_MS = 3000;

/** The view. `mayAct` says whether who looks may change things. */
export function createPaths(mayAct, mayReload) {
  const reloads = el("button", { type: "button", text: "Reload configuration" });
  reloads.addEventListener("click", reload);
  const table = createTable({
    noun: "live paths",
    refreshMs: REFRESH_MS,
    tools: [reloads],
    key: (path) => path.path,
    load: async ({ q, cursor, limit, signal }) => {
      reloads.disabled = !mayAct() || !mayReload();
      reloads.title = mayReload() ? "" : "the server was started without a configuration file";
      // All pages that are open share one list that is this old at most.
      const found = await get("/v1/paths", { q, cursor, limit, max_age_s: 2 }, signal);
      return { rows: found.paths, next: found.next_cursor };
    },
    columns: [
      { label: "Path", text: (p) => p.path },
      { label: "State", text: (p) => p.state, badge: stateKind },
      { label: "Source", isMain: true, text: sourceOf },
      { label: "Tracks", isNumber: true, text: (p) => String(p.tracks) },
      { label: "Rate", isNumber: true, text: (p) => (p.source ? bitRate(p.source.bits_per_s) : "-") },
      { label: "Lost", isNumber: true, text: (p) => (p.source ? count(p.source.packets_lost) : "-") },
      { label: "Readers", isNumber: true, text: (p) => count(readers(p)) },
      { label: "Largest lag", isNumber: true, text: (p) => (p.readers.udp + p.readers.tcp + p.readers.multicast ? `${p.readers.lag_s_max.toFixed(2)} s` : "-") },
      { label: "For", isNumber: true, text: (p) => (p.source ? age(p.source.age_s) : "-") },
    ],
    detail: details,
    actions: [
      { label: "Play", isOffered: (p) => Boolean(p.page), run: playLink },
      { label: "Switch", isAllowed: mayAct, isOffered: (p) => Boolean(p.failover), run: switchSource },
      { label: "Kick", isDanger: true, isAllowed: mayAct, isOffered: (p) => !["idle", "lineup"].includes(p.state), run: kick },
    ],
  });
  return table;
}

function stateKind({ state }) {
  return { live: "good", lineup: "good", held: "warn", starting: "warn", failed: "bad" }[state] ?? "";
}

function sourceOf({ source, reason }) {
  if (!source) return reason ?? "-";
  if (source.title) return `title ${source.title}`;
  return source.url ?? `${source.kind} ${source.peer}`;
}

function readers({ readers: { udp, tcp, multicast, webrtc, hls } }) {
  return udp + tcp + multicast + webrtc + hls;
}

async function kick(path) {
  const answer = await confirmAction({
    title: `Kick ${path.path}?`,
    text:
      `Its source ends, and so do its ${readers(path)} readers. A source that is fetched is fetched ` +
      "again: at once when it always is, otherwise for the next reader.",
    confirm: "Kick",
    isDanger: true,
  });
  if (!answer) return;
  try {
    await ask("POST", `/v1/paths/${encodePath(path.path)}:kick`);
    notify(`Path ${path.path} is ended.`);
  } catch (error) {
    notify(`Path ${path.path} is not ended: ${error.message}.`, true);
  }
}

async function switchSource(path) {
  const sources = path.failover.sources ?? [];
  const options = sources.map((source) => ({
    value: source.path,
    label: `${source.name} (${source.path}): ${source.state}`,
  }));
  const answer = await confirmAction({
    title: `Switch the source of ${path.path}?`,
    text: "Readers go on in the same session. It stays until another switch, or the loss of that source.",
    confirm: "Switch",
    fields: [
      { name: "to", label: "Source", options: [...options, { value: "auto", label: "auto: the best that sends" }] },
      {
        name: "at",
        label: "When",
        options: [
          { value: "keyframe", label: "at its next key frame" },
          { value: "now", label: "now, from its newest key frame" },
        ],
      },
    ],
  });
  if (!answer) return;
  try {
    const done = await ask("POST", `/v1/paths/${encodePath(path.path)}:switch`, answer);
    notify(`Path ${path.path} is fed from ${done.to ?? "another source"}.`);
  } catch (error) {
    notify(`Path ${path.path} is not switched: ${error.message}.`, true);
  }
}

async function reload() {
  const answer = await confirmAction({
    title: "Read the configuration again?",
    text: "What it says of paths, users and tokens counts at once; sessions go on. A file that is wrong changes nothing.",
    confirm: "Reload",
  });
  if (!answer) return;
  try {
    const report = await ask("POST", "/v1/config:reload");
    const restart = report.needs_restart.length > 0 ? ` A restart is needed for ${report.needs_restart.join(", ")}.` : "";
    notify(`The configuration counts.${restart}`);
    for (const warning of report.warnings) notify(warning, true);
  } catch (error) {
    notify(`The running configuration stays: ${error.message}`, true);
  }
}

function details(path) {
  const { source, failover } = path;
  const facts = [
    path.reason,
    path.failed_tries > 0 ? `${path.failed_tries} tries failed, the next one ${path.retry_after_s ?? 0} s behind the last` : null,
    path.group ? `multicast ${path.group}` : null,
    `readers: ${path.readers.udp} UDP, ${path.readers.tcp} TCP, ${path.readers.multicast} multicast, ` +
      `${path.readers.webrtc} WebRTC, ${path.readers.hls} HLS; ${path.packets_skipped} packets skipped`,
    source?.gop_s ? `a key frame every ${source.gop_s.toFixed(1)} s` : null,
  ];
  const tracks = (source?.tracks ?? []).map((track) =>
    el(
      "li",
      {},
      el("b", { text: `track ${track.track} ${track.media} ${track.encoding}` }),
      ` ${count(track.packets)} packets, ${count(track.packets_lost)} lost`,
    ),
  );
  const sources = (failover?.sources ?? []).map((entry) =>
    el("li", {}, el("b", { text: entry.name }), ` ${entry.path}: ${entry.state}${entry.reason ? `, ${entry.reason}` : ""}`),
  );
  return el(
    "div",
    {},
    el("p", { text: facts.filter(Boolean).join("; ") }),
    el("ul", {}, ...tracks),
    sources.length > 0 ? el("p", { text: "Sources, best first:" }) : null,
    el("ul", {}, ...sources),
  );
}
