// Charts of the last hour, drawn as SVG.
import { WORDS, clock, h, size, svg, time } from "./dom.js";

const HEIGHT = 190, LEFT = 56, RIGHT = 8, TOP = 10, BOTTOM = 24;
const COLOURS = ["--c1", "--c2", "--c3", "--c4", "--c5", "--c6", "--c7", "--c8"];
const KINDS = { accept: "--k-accept", reject: "--k-reject", tempfail: "--k-tempfail", discard: "--k-discard", abort: "--k-abort" };

// A drawing is not shrunk on a telephone, where its numbers could not be read any more.
const width = () => (innerWidth < 700 ? 330 : 640);

function nice(most, unit = 1) {
  if (unit > 1) return nice(most / unit) * unit;
  if (!(most > 0)) return 2;
  const power = 10 ** Math.floor(Math.log10(most));
  return [1, 2, 4, 6, 10].map((each) => each * power).find((each) => each >= most * 0.999);
}

function frame(values, most, shown, period) {
  const begin = values[0].time - period, end = Math.max(values[values.length - 1].time, begin + 60);
  const x = (when) => LEFT + ((when - begin) / (end - begin)) * (width() - LEFT - RIGHT);
  const y = (value) => HEIGHT - BOTTOM - (value / most) * (HEIGHT - TOP - BOTTOM);
  const lines = [0, 0.5, 1].map((part) => [
    svg("line", { x1: LEFT, x2: width() - RIGHT, y1: y(most * part), y2: y(most * part), class: "grid" }),
    text(LEFT - 6, y(most * part) + 4, shown(most * part), "end"),
  ]);
  const times = [0, 0.5, 1].map((part) => text(x(begin + (end - begin) * part), HEIGHT - 6, clock(begin + (end - begin) * part), ["start", "middle", "end"][part * 2]));
  return { x, y, grid: [lines, times] };
}

function text(x, y, said, anchor) {
  const made = svg("text", { x, y, "text-anchor": anchor });
  made.textContent = said;
  return made;
}

function chart(title, said, legend, drawn) {
  return h("section", { class: "panel chart" }, h("h2", {}, title), svgBox(drawn, `${title}. ${said}`), h("p", { class: "said" }, said), legend.length > 0 && h("ul", { class: "legend" }, legend.map(([name, colour, value]) => h("li", {}, h("i", { style: { background: `var(${colour})` } }), h("span", {}, name), value && h("b", {}, value)))));
}

function svgBox(children, label) {
  return svg("svg", { viewBox: `0 0 ${width()} ${HEIGHT}`, role: "img", "aria-label": label }, children);
}

function stacked(values, period) {
  const kinds = Object.keys(KINDS).filter((kind) => values.some((value) => value.answers[kind]));
  const sums = values.map((value) => Object.values(value.answers).reduce((one, other) => one + other, 0));
  const most = nice(Math.max(...sums) / period);
  const { x, y, grid } = frame(values, most, (value) => `${+value.toFixed(2)}`, period);
  const step = Math.max(1, Math.min(12, x(values[0].time + period) - x(values[0].time) - 0.5));
  const bars = values.map((value) => {
    let base = 0;
    return kinds.map((kind) => {
      const rate = (value.answers[kind] ?? 0) / period;
      if (!rate) return null;
      const top = y(base + rate), bar = svg("rect", { x: x(value.time) - step, y: top, width: step, height: Math.max(0.5, y(base) - top), fill: `var(${KINDS[kind]})` });
      base += rate;
      return bar;
    });
  });
  const all = sums.reduce((one, other) => one + other, 0);
  const of = (kind) => String(values.reduce((sum, value) => sum + (value.answers[kind] ?? 0), 0));
  return chart("Messages a second", `${all} messages in all, ${(sums[sums.length - 1] / period).toFixed(1)} a second just now.`, kinds.map((kind) => [WORDS[kind], KINDS[kind], of(kind)]), [grid, bars]);
}

function lines(title, values, period, series, shown, said, unit) {
  const points = series.map(([, , get]) => values.map((value) => get(value)));
  const most = nice(Math.max(0, ...points.flat().filter((each) => each !== undefined)), unit);
  const { x, y, grid } = frame(values, most, shown, period);
  const drawn = series.map(([, colour, , dashed], number) => {
    let path = "", last = -9;
    values.forEach((value, at) => {
      const point = points[number][at];
      if (point === undefined) return;
      // A line over a minute without messages would tell what nobody has measured.
      const joined = value.time - last < 60;
      path += `${joined ? "L" : "M"}${x(value.time).toFixed(1)} ${y(point).toFixed(1)}${joined ? "" : "h.01"}`;
      last = value.time;
    });
    return svg("path", { d: path || "M0 0", class: dashed ? "line dashed" : "line", stroke: `var(${colour})` });
  });
  const legend = series.map(([name, colour], number) => [name, colour, shown(points[number].filter((each) => each !== undefined).pop() ?? 0)]);
  return chart(title, said, series.length > 1 ? legend : [], [grid, drawn]);
}

function callbackTimes(title, values, period, key, said) {
  const names = [...new Set(values.flatMap((value) => Object.keys(value[key])))].slice(0, COLOURS.length);
  if (!names.length) return null;
  const series = names.flatMap((name, at) => [
    [`${name.split(".").pop()} p50`, COLOURS[at], (value) => value[key][name]?.[0]],
    [`${name.split(".").pop()} p99 (dashed)`, COLOURS[at], (value) => value[key][name]?.[1], true],
  ]);
  return lines(title, values, period, series, time, said);
}

export class Charts {
  constructor() {
    this.values = [];
    this.period = 5;
    this.element = h("section", { class: "charts" });
  }

  set({ period, values }) {
    this.period = period;
    this.values = values;
  }

  add(value) {
    this.values.push(value);
    if (this.values.length > 3600 / this.period) this.values.shift();
  }

  draw() {
    const values = this.values;
    const title = h("h1", { class: "quiet" }, "Charts of the last hour");
    if (!values.length) {
      this.element.replaceChildren(title, h("p", { class: "empty" }, `Measured every ${this.period} seconds; the first values are on their way.`));
      return;
    }
    const last = values[values.length - 1];
    const stalls = values.reduce((sum, value) => sum + value.stalls, 0);
    this.element.replaceChildren(
      title,
      stacked(values, this.period),
      callbackTimes("Time by stage", values, this.period, "stages", "Half of the callbacks take up to p50, all but one in a hundred up to p99.") ?? "",
      callbackTimes("Time by filter", values, this.period, "filters", "What callbacks waited for something, in a message.") ?? "",
      lines("Connections", values, this.period, [["Connections", "--c1", (value) => value.connections]], (value) => String(+value.toFixed(1)), `${last.connections} open now.`),
      lines("Event loop stalls", values, this.period, [["Stalls", "--k-reject", (value) => value.stalls]], (value) => String(+value.toFixed(1)), stalls ? `${stalls} times a callback blocked all others.` : "None: no callback has blocked the others."),
      lines("Memory", values, this.period, [["Process", "--c1", (value) => value.memory], ["Messages kept here", "--c3", (value) => value.kept]], size, `${size(last.memory)} now, ${size(last.kept)} of it for the messages shown here.`, 1048576),
    );
  }
}
