// A table of a list of the API: search, pages, details, actions.
//
//   load({ q, cursor, limit, signal }) --> { rows, next }     key(row) tells rows apart
//   detail(row, before) --> element, which may be the one before
//
// The server finds and pages; only the rows of one page are here. While it is shown and seen, the
// page is asked for again every few seconds. Rows are kept by their key, so that focus,
// an open row and a selection stay. On a phone each row is a card: `data-label` names its cells.

import { el } from "./dom.js";
import { createRepeater } from "./repeat.js";

const PAGE_ROWS = 50;
const TYPING_MS = 350;

/** The view: `element`, `show()` and `hide()`. */
export function createTable({ noun, columns, load, key, actions = [], detail, refreshMs, tools = [], hint }) {
  const search = el("input", {
    type: "search",
    placeholder: `Search ${noun}`,
    "aria-label": `Search ${noun}`,
    maxlength: 200,
  });
  const shown = el("span", { class: "dim", role: "status" });
  const first = el("button", { type: "button", text: "First page", disabled: true });
  const next = el("button", { type: "button", text: "Next page", disabled: true });
  const refresh = el("button", { type: "button", text: "Refresh" });
  const body = el("tbody");
  const heads = columns.map(({ label, isNumber }) => el("th", { scope: "col", class: isNumber ? "number" : "", text: label }));
  if (actions.length > 0) heads.push(el("th", { scope: "col" }, el("span", { class: "hidden", text: "Actions" })));
  const table = el("table", {}, el("thead", {}, el("tr", {}, ...heads)), body);
  const empty = el("p", { class: "none", text: "loading" });
  const element = el(
    "section",
    { class: "list" },
    el("div", { class: "tools" }, search, shown, el("span", { class: "grow" }), ...tools, first, next, refresh),
    hint ? el("p", { class: "dim", text: hint }) : null,
    el("div", { class: "frame" }, table, empty),
  );
  const known = new Map();
  let state = { cursor: null, page: 1, next: null };
  let asked = new AbortController();

  const fetchPage = async () => {
    // A question that is under way is taken back: this one's answer counts.
    asked.abort();
    asked = new AbortController();
    const { signal } = asked;
    try {
      const found = await load({ q: search.value.trim(), cursor: state.cursor, limit: PAGE_ROWS, signal });
      if (signal.aborted) return;
      state.next = found.next;
      fill(found.rows);
    } catch (error) {
      if (signal.aborted) return;
      shown.textContent = error.message;
    }
  };
  const repeater = createRepeater(fetchPage, () => refreshMs ?? 0);
  const fill = (rows) => {
    const stays = new Set(rows.map(key));
    for (const [id, row] of known) {
      if (stays.has(id)) continue;
      row.remove();
      known.delete(id);
    }
    rows.forEach((data, index) => {
      const id = key(data);
      const row = known.get(id) ?? createRow(columns, actions, detail, repeater.now);
      known.set(id, row);
      row.update(data);
      if (body.children[index * row.height] !== row.line) body.insertBefore(row.line, body.children[index * row.height] ?? null);
      if (row.details && row.line.nextSibling !== row.details) row.line.after(row.details);
    });
    const count = rows.length;
    empty.hidden = count > 0;
    table.hidden = count === 0;
    empty.textContent = search.value.trim() ? `no ${noun} found` : `no ${noun}`;
    if (count === 0 && state.next) empty.textContent = `no ${noun} found so far; the next page looks further`;
    const more = state.next ? "+" : "";
    const told = count === 1 ? noun.replace(/s$/, "") : noun;
    shown.textContent = state.page > 1 || state.next ? `page ${state.page}: ${count}${more}` : `${count} ${told}`;
    first.disabled = state.page === 1;
    next.disabled = !state.next;
  };
  const goTo = (cursor, page) => {
    state = { cursor, page, next: null };
    repeater.now();
  };
  let typing = null;
  search.addEventListener("input", () => {
    clearTimeout(typing);
    typing = setTimeout(() => goTo(null, 1), TYPING_MS);
  });
  first.addEventListener("click", () => goTo(null, 1));
  next.addEventListener("click", () => state.next && goTo(state.next, state.page + 1));
  refresh.addEventListener("click", repeater.now);
  return { element, refresh: repeater.now, show: repeater.start, hide: repeater.stop };
}

/** A row, and the one with its details below it. */
function createRow(columns, actions, detail, refresh) {
  let data = null;
  const inner = detail ? el("td", { colspan: columns.length + (actions.length > 0 ? 1 : 0) }) : null;
  const details = detail ? el("tr", { class: "details", hidden: true }, inner) : null;
  const fillDetails = () => {
    const before = inner.firstElementChild;
    const element = detail(data, before);
    if (element !== before) inner.replaceChildren(element);
  };
  const cells = columns.map(({ label, isNumber, isMain }, index) => {
    const cell = el("td", { "data-label": label, class: isNumber ? "number" : isMain ? "main" : "" });
    if (index === 0 && detail) {
      const toggle = el("button", { type: "button", class: "link", "aria-expanded": "false" });
      toggle.addEventListener("click", () => {
        details.hidden = !details.hidden;
        toggle.setAttribute("aria-expanded", String(!details.hidden));
        if (!details.hidden) fillDetails();
      });
      cell.append(toggle);
    }
    return cell;
  });
  const line = el("tr", {}, ...cells);
  const buttons = actions.map((action) => {
    const button = el("button", { type: "button", class: action.isDanger ? "small danger" : "small", text: action.label });
    button.addEventListener("click", async () => {
      await action.run(data);
      refresh();
    });
    return { action, button };
  });
  if (buttons.length > 0) line.append(el("td", { class: "actions" }, ...buttons.map(({ button }) => button)));
  const update = (row) => {
    data = row;
    columns.forEach(({ text, badge }, index) => {
      const target = detail && index === 0 ? cells[index].firstElementChild : cells[index];
      const value = text(row);
      if (badge) {
        const kind = badge(row);
        const pill = target.firstElementChild ?? target.appendChild(el("span"));
        pill.className = `pill ${kind}`;
        if (pill.textContent !== value) pill.textContent = value;
      } else if (target.textContent !== value) target.textContent = value;
      cells[index].classList.toggle("nothing", value === "-" || value === "");
    });
    for (const { action, button } of buttons) {
      button.hidden = action.isOffered ? !action.isOffered(row) : false;
      button.disabled = action.isAllowed ? !action.isAllowed() : false;
      button.setAttribute("aria-label", `${action.label} ${columns[0].text(row)}`);
    }
    if (details && !details.hidden) fillDetails();
  };
  const remove = () => {
    line.remove();
    details?.remove();
  };
  return { line, details, height: details ? 2 : 1, update, remove };
}
