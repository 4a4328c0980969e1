// Players and publishers: who, what, how well; kick, and tune in a line-up.

import { ask, get } from "./api.js";
import { confirmAction } from "./dialog.js";
import { age, bytes, count, el, milliseconds, notify, percent } from "./dom.js";
import { createTable } from "./table.js";

const REFRESH_MS = 3000;

/** The view. `mayAct` says whether who looks may change things. */
export function createSessions(mayAct) {
  return createTable({
    noun: "sessions",
    refreshMs: REFRESH_MS,
    key: (session) => session.id,
    load: async ({ q, cursor, limit, signal }) => {
      const found = await get("/v1/sessions", { q, cursor, limit }, signal);
      return { rows: found.sessions, next: found.next_cursor };
    },
    columns: [
      { label: "Session", text: (s) => s.id },
      { label: "State", text: (s) => s.state, badge: stateKind },
      { label: "Path", isMain: true, text: pathOf },
      { label: "Peer", text: (s) => s.peer },
      { label: "Way", text: (s) => s.transport },
      { label: "Age", isNumber: true, text: (s) => age(s.age_s) },
      { label: "Loss", isNumber: true, text: (s) => percent(worstLoss(s)) },
      { label: "Sent", isNumber: true, text: (s) => bytes(sentBytes(s)) },
      { label: "Client", isMain: true, text: (s) => [s.user, s.user_agent].filter(Boolean).join(" ") || "-" },
    ],
    detail: details,
    actions: [
      { label: "Tune", isAllowed: mayAct, isOffered: (s) => Boolean(s.channel), run: tune },
      { label: "Kick", isDanger: true, isAllowed: mayAct, run: kick },
    ],
  });
}

function stateKind({ state }) {
  return { playing: "good", recording: "good", paused: "warn" }[state] ?? "";
}

function pathOf({ path, channel }) {
  return channel ? `${path} ${channel.number} ${channel.source ?? ""}`.trim() : path;
}

function worstLoss({ streams }) {
  const known = streams.map((stream) => stream.fraction_lost).filter((lost) => typeof lost === "number");
  return known.length > 0 ? Math.max(...known) : null;
}

function sentBytes({ streams, source }) {
  return source ? source.bytes : streams.reduce((sum, stream) => sum + stream.payload_bytes_sent, 0);
}

async function kick(session) {
  const who = { publisher: "The publisher", webrtc: "The browser" }[session.transport === "webrtc" ? "webrtc" : session.role] ?? "The player";
  const answer = await confirmAction({
    title: "Kick this session?",
    text: `${who} of ${session.path} at ${session.peer} is told that the stream ends. It may come again.`,
    confirm: "Kick",
    isDanger: true,
  });
  if (!answer) return;
  try {
    await ask("DELETE", `/v1/sessions/${encodeURIComponent(session.id)}`);
    notify(`Session ${session.id} is ended.`);
  } catch (error) {
    notify(`Session ${session.id} is not ended: ${error.message}.`, true);
  }
}

async function tune(session) {
  const answer = await confirmAction({
    title: "Tune to another channel?",
    text: `The session of ${session.peer} plays channel ${session.channel.number} of ${session.channel.lineup}.`,
    confirm: "Tune",
    fields: [{ name: "channel", label: "Channel", value: String(session.channel.number), hint: "1 to 999" }],
  });
  if (!answer) return;
  try {
    const channel = Number(answer.channel);
    const done = await ask("POST", `/v1/sessions/${encodeURIComponent(session.id)}/events`, { channel });
    notify(`Session ${session.id} plays channel ${done.channel}.`);
  } catch (error) {
    notify(`Session ${session.id} is not tuned: ${error.message}.`, true);
  }
}

function details(session) {
  const facts = [
    session.shard === null ? `${session.role} by WebRTC` : `${session.role}, shard ${session.shard}`,
    session.role === "reader" && session.transport !== "webrtc" ? `position ${session.npt_s.toFixed(1)} s, scale ${session.scale}, speed ${session.speed}` : null,
    session.reader ? `lag ${session.reader.lag_s.toFixed(2)} s, ${session.reader.packets_skipped} packets skipped` : null,
    session.source ? `${count(session.source.packets)} packets received, ${count(session.source.packets_lost)} lost` : null,
    session.channel?.tuning_to ? `tuning to ${session.channel.tuning_to}` : null,
  ];
  const lines = session.streams.map((stream) =>
    el(
      "li",
      {},
      el("b", { text: `track ${stream.track} ${stream.encoding}` }),
      ` SSRC ${stream.ssrc}, ${count(stream.packets_sent)} packets, ${bytes(stream.payload_bytes_sent)}` +
        `, loss ${percent(stream.fraction_lost)} (${count(stream.packets_lost)} in all)` +
        `, jitter ${milliseconds(stream.jitter_s)}, round trip ${milliseconds(stream.round_trip_s)}` +
        (stream.quality ? `, quality ${stream.quality}` : ""),
    ),
  );
  return el("div", {}, el("p", { text: facts.filter(Boolean).join("; ") }), el("ul", {}, ...lines));
}
