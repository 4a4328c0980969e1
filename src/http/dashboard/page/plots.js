// Plots as SVG: lines over time, percentile curves, bars.
//
//   plot { title, note, unit, axis, series: [{ name, points: [[x, y], ..] }] } --> <figure>
//
// The page for operators and the report of headend-loadgen draw by this one file. It needs
// nothing but a document; colours and sizes are in plots.css. A figure draws itself anew when
// it gets other series (`set`) or another width.
// `axis.kind` is `time` (seconds, with the `window` that was measured), `ago` (seconds before
// now, `span` of them), `percentile` (parts of 1, each further nine as wide as the one before)
// or `classes` (one bar for each of `names`). A `y` of null is a gap in the line.
// Invariant: coordinates are finite and within the drawing, whatever the values are.

const SVG = "http://www.w3.org/2000/svg";
const MARGIN = { left: 46, right: 12, top: 10, bottom: 24 };
const COLOURS = 5;
// Values this much larger than the middle ones ask for a logarithmic axis.
const LOG_RATIO = 40;

/** A figure of `plot`, `height` pixels high: `element`, and `set(series, axis)` for other values. */
export function createFigure(plot, height = 240) {
  const figure = html("figure", "plot");
  const caption = html("figcaption", "");
  caption.append(html("b", "", plot.title), html("span", "unit", plot.unit));
  if (plot.note) caption.append(html("span", "note", plot.note));
  const svg = vector("svg", { role: "img", tabindex: "0", height });
  const none = html("p", "none", plot.none ?? "nothing was measured");
  const legend = html("p", "legend");
  const tip = html("div", "tip");
  tip.hidden = true;
  tip.setAttribute("aria-live", "polite");
  figure.append(caption, svg, none, legend, tip);

  let series = plot.series;
  let width = 0;
  let drawing = null;
  let cursor = null;

  const draw = () => {
    const isEmpty = series.every(({ points }) => points.every(([, y]) => !isNumber(y)));
    svg.toggleAttribute("hidden", isEmpty);
    none.hidden = !isEmpty;
    fillLegend(legend, plot, isEmpty ? [] : series);
    drawing = null;
    if (isEmpty || width === 0) return hide();
    drawing = scales({ ...plot, series }, width, height);
    svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    svg.setAttribute("aria-label", spoken(plot, series));
    svg.replaceChildren(...parts(plot, series, drawing, width, height));
    if (cursor !== null) show(cursor);
  };
  const show = (at) => {
    const found = drawing && valuesAt(plot, series, drawing.x, at);
    if (!found) return hide();
    cursor = found.at;
    const lines = found.rows.map(({ name, y }) => `${name}  ${short(y)} ${plot.unit}`);
    tip.textContent = [found.label, ...lines].join("\n");
    tip.hidden = false;
    const isRight = found.at > width / 2;
    const left = svg.offsetLeft ?? 0;
    tip.style.left = isRight ? `${left + found.at - tip.offsetWidth - 10}px` : `${left + found.at + 10}px`;
    const line = svg.querySelector(".cursor");
    line?.setAttribute("x1", found.at.toFixed(1));
    line?.setAttribute("x2", found.at.toFixed(1));
  };
  const hide = () => {
    cursor = null;
    tip.hidden = true;
    const line = svg.querySelector(".cursor");
    line?.setAttribute("x1", "-9");
    line?.setAttribute("x2", "-9");
  };
  svg.addEventListener("pointermove", (event) => show(event.clientX - svg.getBoundingClientRect().left));
  svg.addEventListener("pointerleave", hide);
  svg.addEventListener("blur", hide);
  svg.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (event.key === "Escape") hide();
    if (!step || !drawing) return;
    event.preventDefault();
    const from = cursor ?? (step < 0 ? width : 0);
    show(neighbour(series, drawing.x, from, step));
  });
  new ResizeObserver(([entry]) => {
    const now = Math.floor(entry.contentRect.width);
    // A figure that is not shown keeps its drawing.
    if (now === 0 || now === width) return;
    width = now;
    draw();
  }).observe(figure);
  const set = (others, axis = plot.axis) => {
    series = others;
    plot = { ...plot, axis };
    draw();
  };
  return { element: figure, set };
}

/** Where values lie in a drawing: `x` and `y`, each with `place(value)` and `ticks`. */
export function scales(plot, width, height) {
  const xs = plot.series.flatMap(({ points }) => points.map(([x]) => x));
  const ys = plot.series.flatMap(({ points }) => points.map(([, y]) => y));
  return {
    x: xScale(plot.axis, xs, [MARGIN.left, width - MARGIN.right]),
    y: yScale(plot, ys, [height - MARGIN.bottom, MARGIN.top]),
  };
}

function xScale(axis, xs, span) {
  switch (axis.kind) {
    case "time": {
      const high = Math.max(1, axis.window[1], ...xs.filter(isNumber));
      const all = roundTicks(high, Math.max(2, (span[1] - span[0]) / 80));
      const ticks = all.filter((t) => t <= high).map((t) => [t, `${short(t)} s`]);
      return scale(0, high, span, (value) => value, ticks);
    }
    case "ago": {
      const every = axis.span <= 60 ? 15 : axis.span <= 120 ? 30 : 60;
      const label = (s) => (s % 60 === 0 ? `${s / 60} min` : `${s} s`);
      const ticks = [];
      for (let s = axis.span; s > 0; s -= every) ticks.push([-s, label(s)]);
      ticks.push([0, "now"]);
      return scale(-axis.span, 0, span, (value) => value, ticks);
    }
    case "percentile": {
      const finite = xs.filter((x) => x < 1).map(nines);
      // The largest value has no percentile: it ends the axis.
      const high = finite.reduce((a, b) => Math.max(a, b), 1) + 0.25;
      const of = (part) => (part >= 1 ? high : nines(part));
      const parts = [0, 0.9, 0.99, 0.999, 0.9999, 0.99999, 0.999999];
      const labels = ["0", "90%", "99%", "99.9%", "99.99%", "99.999%", "99.9999%"];
      const ticks = parts.map((part, i) => [part, labels[i]]).filter(([part]) => nines(part) <= high);
      return scale(0, high, span, of, ticks);
    }
    default: {
      const count = Math.max(1, axis.names.length);
      return scale(-0.5, count - 0.5, span, (value) => value, axis.names.map((name, i) => [i, name]));
    }
  }
}

function yScale(plot, ys, span) {
  const positive = ys.filter((y) => isNumber(y) && y > 0).sort((a, b) => a - b);
  const high = Math.max(positive.at(-1) ?? 0, plot.least ?? 0) || 1;
  const middle = positive[Math.floor(positive.length / 2)] ?? high;
  const isLinear = plot.axis.kind === "classes" || plot.isLinear || high / middle < LOG_RATIO;
  if (isLinear) {
    let ticks = roundTicks(high, (span[0] - span[1]) / 34);
    if (plot.isWhole) ticks = [...new Set(ticks.map(Math.ceil))];
    const top = Math.max(ticks.at(-1) ?? high, high);
    return { ...scale(0, top, span, (value) => value, ticks.map((t) => [t, short(t)])), isLog: false };
  }
  const least = positive[Math.floor(positive.length / 20)] ?? middle;
  const low = Math.floor(Math.log10(Math.max(least, high / 1e6)));
  const top = Math.ceil(Math.log10(high));
  const ticks = [];
  for (let decade = low; decade <= top && ticks.length <= 12; decade += 1) {
    ticks.push([10 ** decade, short(10 ** decade)]);
  }
  return { ...scale(low, top, span, Math.log10, ticks), isLog: true };
}

function scale(low, high, span, of, ticks) {
  const width = high - low > 0 && Number.isFinite(high - low) ? high - low : Number.MIN_VALUE;
  const place = (value) => {
    const part = (of(value) - low) / width;
    const within = Number.isNaN(part) ? 0 : Math.min(1, Math.max(0, part));
    return span[0] + (span[1] - span[0]) * within;
  };
  return { place, ticks };
}

/** What stands in the drawing, from the back to the front. */
function parts(plot, series, { x, y }, width, height) {
  const out = [];
  const bottom = height - MARGIN.bottom;
  if (plot.axis.kind === "time") {
    const [from, to] = plot.axis.window.map(x.place);
    const box = { x: from, y: MARGIN.top, width: Math.max(0, to - from), height: bottom - MARGIN.top };
    out.push(vector("rect", { class: "window", ...box }));
  }
  for (const [value, label] of y.ticks) {
    const at = y.place(value);
    out.push(vector("line", { class: "grid", x1: MARGIN.left, x2: width - MARGIN.right, y1: at, y2: at }));
    out.push(vector("text", { class: "y", x: MARGIN.left - 6, y: at + 4 }, label));
  }
  let last = -Infinity;
  for (const [value, label] of x.ticks) {
    const at = x.place(value);
    const half = label.length * 3.3;
    // Names that do not fit are left out.
    if (at - half < last) continue;
    last = at + half + 4;
    const anchor = at + half > width ? "end" : at - half < 0 ? "start" : "middle";
    out.push(vector("text", { class: "x", x: at, y: bottom + 16, "text-anchor": anchor }, label));
  }
  series.forEach(({ points }, index) => {
    const colour = `c${index % COLOURS}`;
    if (plot.axis.kind === "classes") out.push(...bars(points, x, y));
    else out.push(...line(points, x, y, colour, bottom, index === 0 && !y.isLog));
  });
  out.push(vector("line", { class: "cursor", x1: -9, x2: -9, y1: MARGIN.top, y2: bottom }));
  return out;
}

function line(points, x, y, colour, bottom, isFilled) {
  const out = [];
  let path = "";
  let area = "";
  let run = [];
  const close = () => {
    if (run.length === 1) {
      const [cx, cy] = run[0];
      out.push(vector("circle", { class: `dot ${colour}`, cx, cy, r: 2 }));
    } else if (run.length > 1) {
      const text = run.map(([px, py]) => `${px.toFixed(1)} ${py.toFixed(1)}`).join("L");
      path += `M${text}`;
      area += `M${run[0][0].toFixed(1)} ${bottom}L${text}L${run.at(-1)[0].toFixed(1)} ${bottom}Z`;
    }
    run = [];
  };
  for (const [at, value] of points) {
    if (isNumber(value)) run.push([x.place(at), y.place(value)]);
    else close();
  }
  close();
  if (isFilled && area) out.unshift(vector("path", { class: `area ${colour}`, d: area }));
  if (path) out.push(vector("path", { class: `line ${colour}`, d: path }));
  return out;
}

function bars(points, x, y) {
  return points.map(([at, value]) => {
    const [left, right] = [x.place(at - 0.4), x.place(at + 0.4)];
    const [top, bottom] = [y.place(value), y.place(0)];
    return vector("rect", { class: "bar", x: left, y: top, width: right - left, height: bottom - top });
  });
}

function fillLegend(legend, plot, series) {
  const isShown = series.length > 1 || (series.length > 0 && plot.showsLast);
  legend.hidden = !isShown;
  if (!isShown) return;
  const entries = series.map(({ name, points }, index) => {
    const entry = html("span", `c${index % COLOURS}`, name);
    const newest = points.at(-1)?.[1];
    if (plot.showsLast) entry.append(html("b", "", isNumber(newest) ? short(newest) : "-"));
    return entry;
  });
  legend.replaceChildren(...entries);
}

/** Values of all series nearest to the place `at`. */
function valuesAt(plot, series, x, at) {
  let nearest = null;
  for (const { points } of series) {
    for (const [value, y] of points) {
      const place = x.place(value);
      if (isNumber(y) && (nearest === null || Math.abs(place - at) < Math.abs(nearest.at - at))) {
        nearest = { at: place, value };
      }
    }
  }
  if (nearest === null) return null;
  const rows = series.flatMap(({ name, points }) => {
    const here = points.filter(([value, y]) => isNumber(y) && Math.abs(x.place(value) - nearest.at) < 0.2);
    return here.slice(0, 1).map(([, y]) => ({ name, y }));
  });
  return { at: nearest.at, label: labelOf(plot.axis, nearest.value), rows };
}

/** The place of the next point to the left or right of `from`. */
function neighbour(series, x, from, step) {
  const places = series.flatMap(({ points }) => points.filter(([, y]) => isNumber(y)).map(([v]) => x.place(v)));
  const beyond = places.filter((place) => (place - from) * step > 0.2);
  return beyond.length === 0 ? from : step > 0 ? Math.min(...beyond) : Math.max(...beyond);
}

function labelOf(axis, value) {
  switch (axis.kind) {
    case "time":
      return `${value.toFixed(1)} s`;
    case "ago":
      return value > -1 ? "now" : `${Math.round(-value)} s ago`;
    case "percentile":
      return value >= 1 ? "largest" : `${(value * 100).toFixed(5)}%`;
    default:
      return axis.names[Math.round(value)] ?? "";
  }
}

/** The plot in words: the newest value of each series. */
function spoken(plot, series) {
  const told = (value) => (isNumber(value) ? short(value) : "none");
  const values = series.map(({ name, points }) => `${name} ${told(points.at(-1)?.[1])}`);
  return `${plot.title} in ${plot.unit}: ${values.join(", ")}`;
}

/** How many nines a part has: 0.9 one, 0.99 two. */
function nines(part) {
  return -Math.log10(Math.max(1 - part, 1e-12));
}

/** Round values from 0 to `high` or just above, about `count` of them. */
export function roundTicks(high, count) {
  const raw = Math.min(1e15, Math.max(1e-9, high)) / Math.max(1, count);
  const decade = 10 ** Math.floor(Math.log10(raw));
  const factor = [1, 2, 5, 10].find((f) => f * decade >= raw * 0.999) ?? 10;
  const step = factor * decade;
  const ticks = [];
  for (let n = 0; n < 100 && n * step < high + step * 0.999; n += 1) ticks.push(n * step);
  return ticks;
}

/** A number with three digits and k, M or G. */
export function short(value) {
  const size = Math.abs(value);
  const [scaled, unit] =
    size >= 1e9 ? [value / 1e9, "G"] : size >= 1e6 ? [value / 1e6, "M"] : size >= 1e4 ? [value / 1e3, "k"] : [value, ""];
  const least = Math.abs(scaled);
  const digits = least >= 100 || least === 0 ? 0 : least >= 10 ? 1 : least >= 1 ? 2 : 3;
  const text = scaled.toFixed(digits);
  return (digits > 0 ? text.replace(/\.?0+$/, "") : text) + unit;
}

function isNumber(value) {
  return typeof value === "number" && Number.isFinite(value);
}

function html(name, className, text = "") {
  const element = document.createElement(name);
  if (className) element.className = className;
  if (text) element.textContent = text;
  return element;
}

function vector(name, attributes, text) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) {
    element.setAttribute(key, typeof value === "number" ? String(Math.round(value * 10) / 10) : value);
  }
  if (text) element.textContent = text;
  return element;
}
