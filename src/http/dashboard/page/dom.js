// Elements and numbers, as all views use them. Text is always set as text, never as HTML.

/** An element with attributes (`on*` are listeners, `text` its text) and children. */
export function el(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (key === "text") element.textContent = value;
    else if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

/** `3.8 Mb/s`, from bits. */
export function bitRate(bits) {
  return scaled(bits, 1000, ["b/s", "kb/s", "Mb/s", "Gb/s"]);
}

/** `1.5 MiB`, from bytes. */
export function bytes(count) {
  return scaled(count, 1024, ["B", "KiB", "MiB", "GiB", "TiB"]);
}

function scaled(value, step, units) {
  if (typeof value !== "number" || !Number.isFinite(value)) return "-";
  let unit = 0;
  while (Math.abs(value) >= step && unit + 1 < units.length) {
    value /= step;
    unit += 1;
  }
  return `${unit === 0 ? Math.round(value) : value.toFixed(1)} ${units[unit]}`;
}

/** `12s`, `5m02s`, `3h05m`, `2d03h`, from seconds. */
export function age(seconds) {
  if (typeof seconds !== "number") return "-";
  const s = Math.max(0, Math.floor(seconds));
  const two = (n) => String(n).padStart(2, "0");
  if (s < 60) return `${s}s`;
  if (s < 3600) return `${Math.floor(s / 60)}m${two(s % 60)}s`;
  if (s < 86400) return `${Math.floor(s / 3600)}h${two(Math.floor(s / 60) % 60)}m`;
  return `${Math.floor(s / 86400)}d${two(Math.floor(s / 3600) % 24)}h`;
}

/** `2.5%`, from a part of 1. */
export function percent(part) {
  return typeof part === "number" ? `${(part * 100).toFixed(1)}%` : "-";
}

/** `2.0 ms`, from seconds. */
export function milliseconds(seconds) {
  return typeof seconds === "number" ? `${(seconds * 1000).toFixed(1)} ms` : "-";
}

/** A count with gaps between thousands. */
export function count(value) {
  return typeof value === "number" ? Math.round(value).toLocaleString("en-GB").replaceAll(",", " ") : "-";
}

/** A time of day, and the day when it is another one. */
export function clock(ms) {
  const at = new Date(ms);
  const isToday = at.toDateString() === new Date().toDateString();
  const time = at.toLocaleTimeString("en-GB");
  return isToday ? time : `${at.toLocaleDateString("en-CA")} ${time}`;
}

/** A button that copies `text`. */
export function copyButton(text) {
  const button = el("button", { type: "button", class: "small", text: "Copy", "aria-label": `Copy: ${text}` });
  button.addEventListener("click", async () => {
    // Without TLS only this machine's own pages have a clipboard; others select the text.
    try {
      await navigator.clipboard.writeText(text);
      button.textContent = "Copied";
    } catch {
      const line = button.parentElement.querySelector("code");
      getSelection().selectAllChildren(line);
      button.textContent = "Selected";
    }
    setTimeout(() => (button.textContent = "Copy"), 1500);
  });
  return button;
}

/** Tells the outcome of an action for some seconds; a failure until it is closed. */
export function notify(text, isFailure = false) {
  const notices = document.getElementById("notices");
  const close = el("button", { type: "button", class: "quiet small", "aria-label": "Close", text: "x" });
  const notice = el("div", { class: isFailure ? "notice bad" : "notice" }, el("span", { text }), close);
  if (isFailure) notice.setAttribute("role", "alert");
  close.addEventListener("click", () => notice.remove());
  notices.append(notice);
  while (notices.childElementCount > 4) notices.firstElementChild.remove();
  if (!isFailure) setTimeout(() => notice.remove(), 6000);
}
