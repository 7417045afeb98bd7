// The list of messages: live, searched, with the keyboard.
import { T, WORDS, badge, clock, edits, h, time } from "./dom.js";

const HELP = "Words, or field:word with answer, stage, client, from, to, subject, filter, edit, id, reason";

function haystacks(line) {
  const refused = (line.refused ?? []).flatMap((each) => [each.address, each.answer, each.reason, each.filter]);
  return {
    answer: [line.answer, line.kind, WORDS[line.kind], line.quarantine !== null && line.quarantine !== undefined ? "held quarantine" : ""].join(" "),
    stage: line.stage,
    client: `${line.client} ${line.helo ?? ""}`,
    from: line.sender === "" ? "<>" : line.sender ?? "",
    to: [...(line.recipients ?? []), ...refused].join(" "),
    subject: line.subject ?? "",
    filter: line.filter,
    edit: `${edits(line)} ${Object.keys(line.edits ?? {}).join(" ")}`,
    id: line.queue_id,
    reason: [line.reason, ...refused].join(" "),
    log: line.failed ? "failed failure error" : "",
  };
}

function matches(line, words) {
  line.found ??= Object.fromEntries(Object.entries(haystacks(line)).map(([name, text]) => [name, text.toLowerCase()]));
  return words.every((word) => {
    const [, field, wanted] = word.match(/^([a-z]+):(.*)$/) ?? [];
    if (field && field in line.found) return line.found[field].includes(wanted);
    return Object.values(line.found).some((text) => text.includes(word));
  });
}

export class List {
  constructor(about) {
    this.about = about;
    this.lines = [];
    this.last = 0;
    this.open = null;
    this.waiting = [];
    this.search = h("input", { type: "search", id: "search", placeholder: "Search", title: HELP, "aria-label": `Search. ${HELP}`, autocomplete: "off", spellcheck: "false", oninput: () => this.filter() });
    this.kind = h(
      "select",
      { "aria-label": "Answer", onchange: () => this.filter() },
      h("option", { value: "" }, "All answers"),
      Object.entries(WORDS).map(([kind, word]) => h("option", { value: kind }, word)),
      h("option", { value: "failed" }, "Filter failed"),
    );
    this.count = h("p", { class: "count", role: "status" });
    this.rows = h("div", { class: "rows", role: "rowgroup" });
    const names = ["Time", "Answer", "Stage", "From", "To", "Subject", "Edits", "Took"];
    this.head = h("div", { class: "row heads", role: "row" }, names.map((name) => h("span", { role: "columnheader", "data-cell": name.toLowerCase() }, name)));
    this.table = h("div", { class: "table", role: "table", "aria-label": "Messages" }, h("div", { role: "rowgroup" }, this.head), this.rows);
    this.empty = h("div", { class: "empty" });
    this.element = h("section", { class: "list" }, h("h1", { class: "quiet" }, "Messages"), h("div", { class: "tools" }, this.search, this.kind, this.count), this.table, this.empty);
  }

  clear() {
    this.lines = [];
    this.last = 0;
    this.rows.replaceChildren();
  }

  add(lines) {
    const fresh = lines.filter((line) => line.id > this.last);
    if (!fresh.length) return this.tell();
    this.last = fresh[fresh.length - 1].id;
    if (!this.waiting.length) requestAnimationFrame(() => this.drain());
    this.waiting.push(...fresh);
  }

  drain() {
    const most = this.about()?.kept ?? 1000;
    const fresh = this.waiting.slice(-most);
    this.waiting = [];
    const words = this.words();
    const rows = fresh.map((line) => {
      line.row = this.row(line);
      line.row.hidden = !this.wanted(line, words);
      return line.row;
    });
    this.lines = [...fresh.reverse(), ...this.lines];
    for (const gone of this.lines.splice(most)) gone.row.remove();
    this.rows.prepend(...rows.reverse());
    this.tell();
  }

  row(line) {
    const to = line.recipients ?? [];
    const others = (line.recipient_count ?? 0) - 1;
    const refused = line.refused_count ?? 0;
    const first = to[0] ?? line.refused?.[0]?.address ?? "";
    const cell = (name, ...children) => h("span", { role: "cell", "data-cell": name }, ...children);
    return h(
      "a",
      { class: "row", role: "row", href: `#/messages/${line.id}`, "data-id": line.id, "data-kind": line.kind },
      cell("time", h("time", { datetime: new Date(line.time * 1000).toISOString() }, clock(line.time))),
      cell("answer", badge(line), line.failed && h("small", { class: "failed" }, "filter failed")),
      cell("stage", line.stage, line.filter && h("small", {}, line.filter.split(".").pop())),
      cell("from", line.refused_client ? h("em", {}, "client refused") : line.sender === "" ? "<>" : T(line.sender ?? "?"), h("small", {}, T(line.client))),
      cell("to", T(first), others > 0 && h("small", {}, `and ${others} more`), refused > 0 && to.length > 0 && h("small", {}, `${refused} refused`)),
      cell("subject", T(line.subject ?? "")),
      cell("edits", line.edit_count > 0 && [`${line.edit_count} edit${line.edit_count === 1 ? "" : "s"}`, h("small", { title: edits(line) }, edits(line))]),
      cell("took", time(line.seconds)),
    );
  }

  words() {
    return this.search.value.toLowerCase().split(/\s+/).filter(Boolean);
  }

  wanted(line, words) {
    const kind = this.kind.value;
    return (!kind || (kind === "failed" ? line.failed : line.kind === kind)) && matches(line, words);
  }

  filter() {
    const words = this.words();
    for (const line of this.lines) line.row.hidden = !this.wanted(line, words);
    this.tell();
  }

  tell() {
    const shown = this.lines.filter((line) => !line.row.hidden).length;
    const all = this.lines.length;
    this.count.textContent = shown === all ? `${all} message${all === 1 ? "" : "s"}` : `${shown} of ${all} messages`;
    this.table.hidden = !shown;
    this.empty.hidden = shown > 0;
    this.empty.replaceChildren(
      ...(all
        ? [h("p", {}, "No message matches.")]
        : [h("p", {}, "No message yet."), h("p", {}, "They appear here as they come: send one to the port of --smtp, or through your mail server.")]),
    );
  }

  restore() {
    this.tell();
    const row = this.open && this.rows.querySelector(`[data-id="${this.open}"]`);
    if (row) row.focus();
  }

  key(event) {
    const step = { j: 1, ArrowDown: 1, k: -1, ArrowUp: -1 }[event.key];
    if (!step) return;
    const rows = [...this.rows.children].filter((row) => !row.hidden);
    const at = rows.indexOf(document.activeElement);
    const next = rows[at < 0 ? (step > 0 ? 0 : rows.length - 1) : at + step];
    if (next) {
      event.preventDefault();
      next.focus();
      this.open = next.dataset.id;
    }
  }
}

