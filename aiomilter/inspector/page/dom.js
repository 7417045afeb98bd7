// Elements are made here, and text is put in as text alone: nothing of a message is ever parsed as HTML.

export function h(tag, props = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (name === "class") made.className = value;
    else if (name === "style") Object.entries(value).forEach(([key, one]) => made.style.setProperty(key, one));
    else made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.flat(Infinity).filter((child) => child !== undefined && child !== null && child !== false));
  return made;
}

export function svg(tag, props = {}, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(props)) {
    // The policy of the page forbids style attributes, which text of a message could otherwise be smuggled into.
    if (name === "fill" || name === "stroke") made.style.setProperty(name, value);
    else made.setAttribute(name, value);
  }
  made.append(...children.flat(Infinity).filter(Boolean));
  return made;
}

// What cannot be seen, or turns the direction of text round; lone surrogates are octets that are not UTF-8.
const HIDDEN =
  /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\u{e0000}-\u{e007f}\ud800-\udfff]/gu;

function escaped(one) {
  const code = one.codePointAt(0);
  if (code >= 0xdc80 && code <= 0xdcff) return "\\x" + (code - 0xdc00).toString(16);
  const hex = code.toString(16);
  return code < 0x100 ? "\\x" + hex.padStart(2, "0") : code < 0x10000 ? "\\u" + hex.padStart(4, "0") : "\\U" + hex.padStart(8, "0");
}

export function plain(text) {
  return String(text).replace(HIDDEN, escaped);
}

// Text that others wrote: what is hidden in it is written out, and marked.
export function T(text) {
  const from = String(text ?? "");
  const made = document.createElement("bdi");
  let end = 0;
  for (const match of from.matchAll(HIDDEN)) {
    made.append(from.slice(end, match.index), h("span", { class: "hid" }, escaped(match[0])));
    end = match.index + match[0].length;
  }
  made.append(from.slice(end));
  return made;
}

export const WORDS = {
  accept: "Accepted",
  reject: "Rejected",
  tempfail: "Try later",
  discard: "Discarded",
  abort: "Aborted",
};

export function badge(line) {
  const word = line.quarantine !== null && line.quarantine !== undefined && line.kind === "accept" ? "Held" : WORDS[line.kind];
  return h("span", { class: "badge", "data-kind": word === "Held" ? "held" : line.kind }, word);
}

export function time(seconds) {
  if (seconds === undefined || seconds === null) return "";
  if (seconds < 0.00095) return `${Math.round(seconds * 1e6)} µs`;
  if (seconds < 0.9995) return `${(seconds * 1000).toFixed(seconds < 0.00995 ? 1 : 0)} ms`;
  return seconds < 59.95 ? `${seconds.toFixed(seconds < 9.95 ? 2 : 1)} s` : `${(seconds / 60).toFixed(1)} min`;
}

export function size(octets) {
  if (octets < 1024) return `${octets} B`;
  const [units, name] = octets < 1048576 ? [octets / 1024, "KiB"] : [octets / 1048576, "MiB"];
  return `${+units.toFixed(units < 100 ? 1 : 0)} ${name}`;
}

export function clock(seconds, date = false) {
  const when = new Date(seconds * 1000);
  const pad = (number) => String(number).padStart(2, "0");
  const day = `${when.getFullYear()}-${pad(when.getMonth() + 1)}-${pad(when.getDate())} `;
  return `${date ? day : ""}${pad(when.getHours())}:${pad(when.getMinutes())}:${pad(when.getSeconds())}`;
}

export function edits(line) {
  return Object.entries(line.edits ?? {}).map(([kind, count]) => kind.replace("_", " ") + (count > 1 ? ` ×${count}` : "")).join(", ");
}

export async function ask(path, posted) {
  const options = posted === undefined ? {} : { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(posted) };
  const response = await fetch(path, { credentials: "same-origin", ...options });
  const found = await response.json().catch(() => ({ error: response.statusText }));
  if (!response.ok) throw Object.assign(new Error(found.error), { status: response.status });
  return found;
}
