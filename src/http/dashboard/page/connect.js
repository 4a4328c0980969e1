// Lines to copy: how to play from this server and how to publish to it, as the start-up text has it.

import { copyButton, el } from "./dom.js";

/** The view of `startup` of `GET /v1/info`. */
export function createConnect() {
  const element = el("div", { class: "columns" });
  const line = (text) => el("div", { class: "line" }, el("code", { text }), copyButton(text));
  const block = (title, note, lines) =>
    lines.length === 0 ? null : el("section", { class: "card" }, el("h2", { text: title }), el("p", { class: "dim", text: note }), ...lines.map(line));
  const show = ({ startup, version }) => {
    if (!startup) return;
    const facts = [
      `headend ${version}`,
      `kernel ${startup.kernel}`,
      `io_uring: ${startup.ring_features.join(", ")}`,
      startup.gso ? "GSO" : "no GSO",
      `shards on CPU ${startup.shard_cpus.join(" ")}`,
      `workers on CPU ${startup.worker_cpus.join(" ")}`,
      startup.sandbox,
      `ready in ${startup.ready_in_ms} ms`,
    ];
    const addresses = [...startup.rtsp, ...startup.rtsps, ...startup.tunnel];
    const blocks = [
      block("Play", "on any machine that reaches this one", startup.try ?? []),
      block("Publish", "on this machine, unless the configuration lets others, too", startup.publish ? [startup.publish] : []),
      block("Addresses", `RTSP, RTSPS, RTSP over HTTP; RTP at UDP port ${startup.rtp_port}, RTCP at the next one`, addresses),
      block("In a terminal", "the same numbers, and all that this page can do", ["headend top", "headend session ls", "headend path ls", "headend doctor"]),
      el("section", { class: "card" }, el("h2", { text: "What runs" }), el("ul", {}, ...facts.map((text) => el("li", { text })))),
    ];
    element.replaceChildren(...blocks.filter(Boolean));
  };
  return { element, tell: show, show() {}, hide() {} };
}
