// What is wrong: the machine as `headend doctor` saw it, the log's warnings, limits in use.

import { get } from "./api.js";
import { clock, count, el } from "./dom.js";
import { createRepeater } from "./repeat.js";

const REFRESH_MS = 5000;
const LEVELS = { fail: "bad", warn: "warn", tip: "", error: "bad" };
const LIMITS_SHOWN = 8;

/** The view; `onAlerts` is told sentences for the overview. */
export function createHealth(onAlerts) {
  const checks = el("div", { class: "rows" });
  const lines = el("div", { class: "rows" });
  const limits = el("div", { class: "rows" });
  const startup = el("ul");
  const block = (title, note, ...children) =>
    el("section", { class: "card" }, el("h2", { text: title }), el("p", { class: "dim", text: note }), ...children);
  const element = el(
    "div",
    { class: "columns" },
    block("Warnings of the log", "the newest first; the log itself is on standard error", lines),
    block("This machine", "as headend doctor saw it when the server started", startup, checks),
    block("Limits, the fullest first", "what strangers can use up; headend limits shows all", limits),
  );
  let isShown = false;

  const load = async () => {
    try {
      const [doctor, log, used] = await Promise.all([get("/v1/doctor"), get("/v1/log"), get("/v1/limits")]);
      showChecks(checks, doctor.checks ?? []);
      showLog(lines, log.lines);
      showLimits(limits, used.limits);
      onAlerts(alertsOf(doctor.checks ?? [], log.lines, used.limits));
    } catch (error) {
      lines.replaceChildren(el("p", { class: "none", text: error.message }));
    }
  };
  // Seldom while another view is shown: the overview has its sentences from here.
  const repeater = createRepeater(load, () => (isShown ? REFRESH_MS : 6 * REFRESH_MS));
  repeater.start();
  return {
    element,
    /** Warnings of the start-up text. */
    tell(warnings) {
      startup.replaceChildren(...warnings.map((text) => el("li", { text })));
    },
    show() {
      isShown = true;
      repeater.now();
    },
    hide() {
      isShown = false;
    },
  };
}

function alertsOf(checks, lines, limits) {
  const alerts = [];
  const bad = checks.filter(({ level }) => level === "fail" || level === "warn");
  if (bad.length > 0) alerts.push({ text: `This machine: ${bad.map(({ name }) => name).join(", ")}`, to: "#health" });
  const newest = lines.filter(({ at_ms: at }) => Date.now() - at < 600_000);
  if (newest.length > 0) {
    const text = `${newest.length} warnings in the log in ten minutes; the newest: ${newest[0].text}`;
    alerts.push({ text: text.length > 160 ? `${text.slice(0, 157)}...` : text, to: "#health" });
  }
  const full = limits.filter(({ what, used, limit }) => used > 0.8 * limit && !what.includes("bytes") && !what.includes("log"));
  for (const { what } of full) alerts.push({ text: `Limit nearly reached: ${what.replaceAll("_", " ")}`, to: "#health" });
  return alerts;
}

function showChecks(place, checks) {
  const shown = checks.filter(({ level }) => ["fail", "warn", "tip"].includes(level));
  const order = ["fail", "warn", "tip"];
  shown.sort((a, b) => order.indexOf(a.level) - order.indexOf(b.level));
  if (checks.length === 0) {
    const text = "not examined: the server may lock little memory (ulimit -l); headend doctor looks at it";
    return place.replaceChildren(el("p", { class: "dim", text }));
  }
  const others = checks.filter(({ level }) => level === "ok").length;
  place.replaceChildren(
    ...shown.map((check) =>
      el(
        "details",
        { open: check.level !== "tip" },
        el("summary", {}, el("span", { class: `pill ${LEVELS[check.level]}`, text: check.level }), ` ${check.name} `, el("span", { class: "dim", text: check.found })),
        check.cause ? el("p", { text: check.cause }) : null,
        check.fix ? el("code", { text: check.fix }) : null,
      ),
    ),
    el("p", { class: "dim", text: `${others} checks are as they should be` }),
  );
}

function showLog(place, lines) {
  if (lines.length === 0) return place.replaceChildren(el("p", { class: "none", text: "no warnings since the start" }));
  place.replaceChildren(
    ...lines.map((line) =>
      el(
        "div",
        { class: "logline" },
        el("time", { text: clock(line.at_ms) }),
        el("span", { class: `pill ${LEVELS[line.level]}`, text: line.code || line.level }),
        el("span", { text: line.text }),
      ),
    ),
  );
}

function showLimits(place, limits) {
  const part = ({ used, limit }) => used / Math.max(1, limit);
  const fullest = [...limits].sort((a, b) => part(b) - part(a)).slice(0, LIMITS_SHOWN);
  place.replaceChildren(
    ...fullest.map((row) => {
      const name = `${row.what.replaceAll("_", " ")}${row.shard === undefined ? "" : `, shard ${row.shard}`}`;
      const meter = el("meter", { min: 0, max: row.limit, value: row.used, low: 0.8 * row.limit, "aria-label": name });
      return el("div", { class: "limit" }, el("span", { text: name }), meter, el("span", { class: "dim", text: `${count(row.used)} of ${count(row.limit)}` }));
    }),
  );
}
