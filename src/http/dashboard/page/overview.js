// The first view: the figures to look at first, what is wrong, and the last five minutes.

import { bitRate, el } from "./dom.js";
import { createFigure, short } from "./plots.js";

// The shortest of these that has all samples is shown.
const SPANS_S = [60, 120, 300];
// More shards than this are shown by their mean and the busiest of them.
const SHARDS_SHOWN_MAX = 4;

/** What each plot shows: series of values by sample. */
const PLOTS = [
  {
    title: "Players, publishers and browsers",
    unit: "sessions and viewers",
    isWhole: true,
    least: 4,
    of: () => [
      ["all", (s) => s.sessions],
      ["playing", (s) => s.playing],
      ["publishers", (s) => s.publishers],
      ["WebRTC", (s) => s.webrtc],
      ["HLS", (s) => s.hls],
    ],
  },
  {
    title: "Throughput",
    unit: "Mbit/s of RTP payload",
    isLinear: true,
    of: () => [
      ["out, UDP", (s) => s.bits_out[0] / 1e6],
      ["out, TCP", (s) => s.bits_out[1] / 1e6],
      ["in", (s) => s.bits_in / 1e6],
    ],
  },
  {
    title: "Packets",
    unit: "RTP packets/s",
    isLinear: true,
    of: () => [
      ["out, UDP", (s) => s.packets_out[0]],
      ["out, TCP", (s) => s.packets_out[1]],
      ["in", (s) => s.packets_in],
      ["sent again", (s) => s.again],
    ],
  },
  {
    title: "Lateness of sends",
    unit: "ms behind their time",
    least: 1,
    none: "nothing was sent in the last five minutes",
    of: () => [
      ["p50", (s) => s.late_ms?.[0]],
      ["p99", (s) => s.late_ms?.[1]],
      ["p99.9", (s) => s.late_ms?.[2]],
    ],
  },
  {
    title: "CPU of shards",
    unit: "% of a core",
    least: 10,
    isLinear: true,
    of: cpuSeries,
  },
  {
    title: "Loss that players report",
    unit: "% of packets",
    least: 1,
    isLinear: true,
    none: "no player reported in the last five minutes",
    of: () => [
      ["mean", (s) => s.lost_percent?.[0]],
      ["p99", (s) => s.lost_percent?.[1]],
    ],
  },
];

function cpuSeries({ cpu }) {
  if (cpu.length > SHARDS_SHOWN_MAX) {
    return [
      ["busiest shard", (s) => Math.max(...s.cpu)],
      ["mean of shards", (s) => s.cpu.reduce((a, b) => a + b, 0) / s.cpu.length],
      ["process", (s) => s.cpu_process],
    ];
  }
  const shards = cpu.map((_, shard) => [`shard ${shard}`, (s) => s.cpu[shard]]);
  return [...shards, ["process", (s) => s.cpu_process]];
}

function axisOf(seconds) {
  return { kind: "ago", span: SPANS_S.find((span) => seconds <= span) ?? SPANS_S.at(-1) };
}

/** Tiles: what, value, and whether it is bad. */
const TILES = [
  ["sessions", (s) => String(s.sessions)],
  ["publishers", (s) => String(s.publishers)],
  ["out", (s) => bitRate(s.bits_out[0] + s.bits_out[1])],
  ["in", (s) => bitRate(s.bits_in)],
  ["packets/s", (s) => short(s.packets_out[0] + s.packets_out[1])],
  ["p99 lateness", (s) => (s.late_ms ? `${short(s.late_ms[1])} ms` : "-"), (s) => s.late_ms?.[1] > 100],
  ["loss, mean", (s) => (s.lost_percent ? `${short(s.lost_percent[0])} %` : "-"), (s) => s.lost_percent?.[0] > 2],
  ["CPU, process", (s) => `${Math.round(s.cpu_process)} %`],
  ["memory", (s) => `${Math.round(s.memory_mib)} MiB`],
];

/** The view: `element`, and `update(samples)` once a second. */
export function createOverview() {
  const tiles = TILES.map(([what]) => {
    const value = el("b", { text: "-" });
    return { value, tile: el("div", { class: "tile" }, value, el("span", { text: what })) };
  });
  const plots = PLOTS.map((plot) => ({
    plot,
    figure: createFigure({ none: "waiting for numbers", ...plot, axis: axisOf(0), series: [], showsLast: true }, 176),
  }));
  const alerts = el("div", { class: "alerts" });
  const element = el(
    "section",
    { class: "overview" },
    el("div", { class: "tiles" }, ...tiles.map(({ tile }) => tile)),
    alerts,
    el("div", { class: "plots" }, ...plots.map(({ figure }) => figure.element)),
  );
  const update = (samples) => {
    const newest = samples.at(-1);
    if (!newest) return;
    TILES.forEach(([, text, isBad], index) => {
      const { value, tile } = tiles[index];
      value.textContent = text(newest);
      tile.classList.toggle("bad", Boolean(isBad?.(newest)));
    });
    const axis = axisOf((newest.at_ms - samples[0].at_ms) / 1000);
    for (const { plot, figure } of plots) {
      const series = plot.of(newest).map(([name, value]) => ({
        name,
        points: samples.map((s) => [(s.at_ms - newest.at_ms) / 1000, value(s) ?? null]),
      }));
      figure.set(series, axis);
    }
  };
  /** Says what asks for a look, each with the view that has more. */
  const alert = (sentences) => {
    alerts.replaceChildren(...sentences.map(({ text, to }) => el("a", { class: "alert", href: to, text })));
  };
  return { element, update, alert, show() {}, hide() {} };
}
