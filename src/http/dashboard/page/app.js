// The page for operators: its views, and what they share. Each view is `{ element, show, hide }`;
// the one whose name is behind # in the address is shown.

import { get } from "./api.js";
import { createConnect } from "./connect.js";
import { el } from "./dom.js";
import { openFeed } from "./feed.js";
import { createHealth } from "./health.js";
import { createJobs, createNodeJobs, createNodes, createStandby } from "./jobs.js";
import { createOverview } from "./overview.js";
import { createPaths } from "./paths.js";
import { createRepeater } from "./repeat.js";
import { createSessions } from "./sessions.js";
import { createTitles } from "./titles.js";

const AGAIN_MS = 3000;
const STATES = { live: "live", paused: "paused", lost: "no connection", active: "active", standby: "stands by" };

const byId = (id) => document.getElementById(id);
let info = {};
let shown = null;

/** The views of what answers here: a server, or a base. */
function viewsOf() {
  if (info.base_key && info.role === "standby") {
    const standby = createStandby();
    standby.tell(info);
    watchBase(standby.tell);
    return [["standby", "Standby", standby]];
  }
  if (info.base_key) {
    watchBase(() => {});
    return [
      ["jobs", "Jobs", createJobs()],
      ["nodes", "Nodes", createNodes()],
    ];
  }
  const mayAct = () => info.may === "control";
  const overview = createOverview();
  const health = createHealth((alerts) => overview.alert(alerts));
  const connect = createConnect();
  health.tell(info.startup?.warnings ?? []);
  connect.tell(info);
  openFeed(overview.update, (state) => setState(state));
  const views = [
    ["overview", "Overview", overview],
    ["sessions", "Sessions", createSessions(mayAct)],
    ["paths", "Live paths", createPaths(mayAct, () => info.reloads === true)],
    ["titles", "Titles", createTitles(() => info.startup?.rtsp?.[0] ?? "")],
    ["health", "Health", health],
    ["connect", "Connect", connect],
  ];
  if (info.base) views.splice(4, 0, ["jobs", "Jobs", createNodeJobs(info.base)]);
  return views;
}

/** Asks a base what it is, again and again: it may take over, or be followed by another one. */
function watchBase(tell) {
  const ask = async () => {
    try {
      const found = await get("/v1/info", {}, AbortSignal.timeout(AGAIN_MS));
      if (found.role !== info.role) location.reload();
      setState(found.role === "standby" ? "standby" : "active");
      tell(found);
    } catch {
      setState("lost");
    }
  };
  createRepeater(ask, () => AGAIN_MS).start();
}

function setState(state) {
  document.body.classList.toggle("stale", state === "lost");
  const place = byId("state");
  place.className = `state ${state}`;
  place.textContent = STATES[state];
}

function show(views) {
  const name = location.hash.slice(1);
  const [id, title, view] = views.find(([known]) => known === name) ?? views[0];
  if (shown === view) return;
  shown?.hide();
  shown = view;
  byId("main").replaceChildren(el("h2", { class: "hidden", text: title }), view.element);
  for (const link of byId("tabs").children) {
    if (link.hash === `#${id}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  document.title = `${title} - headend${info.host ? ` ${info.host}` : ""}`;
  view.show();
}

function chooseTheme() {
  const root = document.documentElement;
  let stored = null;
  try {
    stored = localStorage.getItem("theme");
  } catch {
    // A browser that keeps nothing shows what the system says.
  }
  const apply = (theme) => (theme ? (root.dataset.theme = theme) : delete root.dataset.theme);
  apply(stored);
  byId("theme").addEventListener("click", () => {
    const isDark = getComputedStyle(root).colorScheme === "dark" || (!root.dataset.theme && matchMedia("(prefers-color-scheme: dark)").matches);
    const theme = isDark ? "light" : "dark";
    apply(theme);
    try {
      localStorage.setItem("theme", theme);
    } catch {
      // The same.
    }
  });
}

async function start() {
  try {
    info = await get("/v1/info");
  } catch (error) {
    setState("lost");
    byId("main").replaceChildren(el("p", { class: "none", text: `${error.message}; trying again` }));
    return;
  }
  opening.stop();
  const what = info.base_key ? "base" : info.role === "node" ? "node" : "server";
  byId("host").textContent = [info.host, what, info.version].filter(Boolean).join(" \u00b7 ");
  if (info.may === "read") byId("host").textContent += " \u00b7 read only";
  const views = viewsOf();
  byId("tabs").replaceChildren(...views.map(([id, title]) => el("a", { href: `#${id}`, text: title })));
  addEventListener("hashchange", () => show(views));
  show(views);
}

const opening = createRepeater(start, () => AGAIN_MS);
chooseTheme();
opening.start();
