// Titles of the media folder.

import { get } from "./api.js";
import { bytes, clock, copyButton, el } from "./dom.js";
import { createTable } from "./table.js";

/** The view. `rtspUrl` is where players find the server. The list is not asked for by itself: a
 * folder may be large. */
export function createTitles(rtspUrl) {
  const url = (title) => rtspUrl() + title.url_path.replace(/^\//, "");
  return createTable({
    noun: "titles",
    key: (title) => title.name,
    load: async ({ q, cursor, limit, signal }) => {
      const found = await get("/v1/vod", { q, cursor, limit }, signal);
      return { rows: found.titles, next: found.next_cursor };
    },
    columns: [
      { label: "Title", isMain: true, text: (t) => t.name },
      { label: "Size", isNumber: true, text: (t) => bytes(t.bytes) },
      { label: "Changed", isNumber: true, text: (t) => clock(t.modified_utc_s * 1000) },
      { label: "Problem", text: (t) => t.problem ?? "" },
    ],
    detail: (title) => {
      const text = `ffplay ${url(title)}`;
      return el("div", { class: "line" }, el("code", { text }), copyButton(text));
    },
    actions: [{ label: "Play", isOffered: (t) => Boolean(t.page), run: playLink }],
  });
}

/** Opens the player of a row: the API says in `page` where it is, if the server has one. */
export async function playLink({ page }) {
  const to = new URL(page, location.href);
  if (to.protocol === "http:" || to.protocol === "https:") window.open(to, "_blank", "noopener");
}
