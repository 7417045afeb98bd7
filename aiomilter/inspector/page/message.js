// One message: its conversation, reply, edits, content before and after, parts, authentication, log.
import { T, WORDS, badge, clock, edits, h, size, time } from "./dom.js";

const CONTEXT = 3;

function panel(title, ...children) {
  return h("section", { class: "panel" }, h("h2", {}, title), ...children);
}

function pairs(entries) {
  return h("dl", { class: "pairs" }, entries.filter(([, value]) => value !== "" && value !== null && value !== undefined).map(([name, value]) => [h("dt", {}, name), h("dd", {}, value)]));
}

function sentence(message) {
  const held = message.kind === "accept" && message.quarantine !== null && message.quarantine !== undefined;
  const what = held ? "Held in quarantine" : WORDS[message.kind];
  const where = message.stage ? ` at ${message.stage}` : "";
  const by = message.filter ? ` by ${message.filter}` : "";
  return `${what}${where}${by}${message.edit_count ? `, ${message.edit_count} edit${message.edit_count === 1 ? "" : "s"}` : ""}`;
}

function envelope(message) {
  const refused = (message.refused ?? []).map((each) => h("li", {}, T(each.address), " ", h("code", {}, T(each.answer)), each.reason && ` (${each.reason})`, each.filter && ` by ${each.filter}`));
  return pairs([
    ["From", message.sender === "" ? "<> (a bounce, or such)" : T(message.sender ?? "not told")],
    ["To", (message.recipients ?? []).length ? h("ul", {}, message.recipients.map((each) => h("li", {}, T(each)))) : "nobody"],
    ["Refused", refused.length ? h("ul", {}, refused) : ""],
    ["Client", T(message.client)],
    ["HELO", message.helo && T(message.helo)],
    ["Queue id", message.queue_id && T(message.queue_id)],
    ["Reason", message.reason],
    ["Held since", message.quarantine ? T(message.quarantine) : ""],
    ["Login", message.login && T(message.login)],
    ["TLS", message.tls && T(message.tls)],
    ["When", clock(message.time, true)],
    ["Took", time(message.seconds)],
    ["Filter", message.generation > 1 ? `as of reload ${message.generation - 1}` : ""],
    ["Mail server", message.mta === "postfix" ? "Postfix" : "Sendmail"],
  ]);
}

const WHY = { "no reply": "no reply wanted", "not sent": "not asked for", before: "told before this message", unanswered: "no answer" };

function conversation(message) {
  const rows = message.conversation;
  const end = Math.max(...rows.map((row) => row.begin + row.seconds), 1e-9);
  const longest = Math.max(...rows.map((row) => row.seconds), 1e-9);
  return h(
    "ol",
    { class: "stages" },
    rows.map((row) => {
      const left = Math.min(99, (100 * row.begin) / end);
      const width = Math.max(1, Math.min(100 - left, (100 * row.seconds) / end));
      const waits = row.waits.map((wait) => `${wait.filter || wait.callback} waited`);
      const told = row.answer ? T(row.answer) : h("span", { class: "quiet" }, WHY[row.why] ?? "");
      return h(
        "li",
        { "data-kind": row.kind, class: row.why === "not sent" || row.why === "before" ? "faint" : "" },
        h("b", {}, row.stage),
        h("span", { class: "what" }, T(row.what), waits.length > 0 && h("small", {}, waits.join(", then ")), row.progress > 0 && h("small", {}, `${row.progress} × progress`)),
        h("span", { class: "told" }, told, row.reply && row.reply !== row.answer && h("small", {}, T(row.reply))),
        h("span", { class: row.why === "not sent" || row.why === "before" ? "" : "bar", "aria-hidden": "true" }, row.why !== "not sent" && row.why !== "before" && h("i", { "data-long": row.seconds === longest && longest > 0.1, style: { left: `${left}%`, width: `${width}%` } })),
        h("span", { class: "took" }, row.answer || row.seconds ? time(row.seconds) : ""),
      );
    }),
  );
}

function filters(message) {
  const all = Object.entries(message.durations ?? {});
  const most = Math.max(...all.map(([, seconds]) => seconds));
  return h("ul", { class: "filters" }, all.map(([name, seconds]) => h("li", {}, h("span", {}, T(name)), h("span", { class: "bar", "aria-hidden": "true" }, h("i", { style: { left: "0", width: `${(100 * seconds) / most}%` } })), h("span", { class: "took" }, time(seconds)))));
}

function madeEdits(message) {
  if (!message.edits_made.length) return h("p", { class: "quiet" }, message.kind === "accept" ? "None: the message passes as it came." : "None.");
  return h(
    "ul",
    { class: "edits" },
    message.edits_made.map((edit) => h("li", {}, h("b", {}, edit.edit.replaceAll("_", " ")), " ", h("code", {}, T(edit.name), edit.value && [edit.name && ": ", T(edit.value)]), edit.place !== undefined && h("small", {}, edit.edit === "insert_header" ? `at place ${edit.place}` : `number ${edit.place} of that name`))),
  );
}

const MARKS = { "=": " ", "~": "~", "-": "−", "+": "+" };
const SAID = { "~": "changed", "-": "removed", "+": "added" };

function changes(message) {
  const { rows, more, changed, alone } = message.changes;
  const near = rows.map(() => alone && rows.length < 60);
  rows.forEach(([mark], at) => {
    if (mark !== "=") for (let each = at - CONTEXT; each <= at + CONTEXT; each++) near[each] = true;
  });
  if (!changed) for (let each = 0; each < 40; each++) near[each] = true;
  const line = ([mark, left, right]) => {
    const side = (text, name) => h("pre", { "data-side": name, class: text === null ? "none" : "" }, text === null ? "" : T(text || " "));
    return h("div", { class: "pair", "data-mark": mark }, h("span", { class: "mark", title: SAID[mark] }, MARKS[mark], SAID[mark] && h("span", { class: "quiet-for-eyes" }, SAID[mark])), side(left, "before"), !alone && side(right, "after"));
  };
  const made = h("div", { class: alone ? "diff alone" : "diff" });
  if (!alone) made.append(h("div", { class: "pair titles" }, h("span"), h("b", {}, "Before"), h("b", {}, "After")));
  for (let at = 0; at < rows.length; ) {
    if (near[at]) {
      made.append(line(rows[at++]));
      continue;
    }
    let end = at;
    while (end < rows.length && !near[end]) end++;
    const hidden = rows.slice(at, end);
    made.append(h("button", { class: "more", type: "button", onclick: (event) => event.target.replaceWith(...hidden.map(line)) }, `${hidden.length} ${alone ? "" : "unchanged "}line${hidden.length === 1 ? "" : "s"}`));
    at = end;
  }
  const notes = [];
  if (more) notes.push(`${more} more lines are not shown.`);
  if (!message.whole) notes.push(message.cut ? "This message was too large to be kept as a whole." : "The filter did not ask for all of the message, so only this part is known.");
  if (alone) notes.push("The message was not passed on, so there is no after.");
  else if (!changed) notes.push("Nothing was changed.");
  return [notes.length > 0 && h("p", { class: "quiet" }, notes.join(" ")), made];
}

function parts(message) {
  return h(
    "ul",
    { class: "parts" },
    message.parts.map((part) =>
      h(
        "li",
        { style: { "--depth": Math.min(part.depth, 8) } },
        h("div", {}, h("code", {}, T(part.type)), part.name && [" ", h("b", {}, T(part.name))], h("small", {}, [size(part.size), part.charset, part.encoding, part.disposition].filter(Boolean).join(" · ")), part.defects.length > 0 && h("small", { class: "failed" }, part.defects.join(", "))),
        part.text && h("details", {}, h("summary", {}, part.type === "text/html" ? "source (HTML is not shown as a page)" : "text"), h("pre", {}, T(part.text))),
      ),
    ),
  );
}

function authentication(fields) {
  return fields.map((field) => [
    h("p", { class: "quiet" }, field.by ? ["Said by ", h("code", {}, T(field.by))] : "Found", field.ours ? field.by ? ", added by this filter." : " by this filter." : ", came with the message: whoever sent it may have written it."),
    h("ul", { class: "auth" }, field.results.map((each) => h("li", {}, h("span", { class: "badge", "data-kind": each.result === "pass" ? "accept" : each.result === "fail" || each.result === "permerror" ? "reject" : /softfail|temperror|policy/.test(each.result) ? "tempfail" : "abort" }, `${each.method} ${each.result}`), " ", each.about && [h("code", {}, T(each.about)), ": "], each.words + ".", each.said && h("small", {}, T(each.said))))),
  ]);
}

function log(message) {
  return h("ul", { class: "log" }, message.log.map((note) => h("li", { "data-level": note.level }, h("time", {}, clock(note.time)), h("b", {}, note.level.toLowerCase()), h("span", {}, note.source && h("code", {}, T(note.source)), " ", T(note.text), note.traceback && h("details", { open: true }, h("summary", {}, "traceback"), h("pre", {}, T(note.traceback)))))));
}

function macros(message) {
  return Object.entries(message.macros).map(([stage, values]) => [h("h3", {}, stage), pairs(Object.entries(values).map(([name, value]) => [T(name), h("code", {}, T(value))]))]);
}

function compare(before, now) {
  const names = [...new Set([...before.conversation, ...now.conversation].map((row) => row.stage))];
  const told = (message, stage) => message.conversation.filter((row) => row.stage === stage).map((row) => row.answer || WHY[row.why] || "").join(", ") || "not there";
  const rows = names.map((stage) => [stage, told(before, stage), told(now, stage)]);
  rows.push(["Result", sentence(before), sentence(now)], ["Edits", edits(before) || "none", edits(now) || "none"], ["Reply", before.reply || "none", now.reply || "none"]);
  const same = rows.every(([, one, other]) => one.replace(/as [0-9A-F]+$/, "") === other.replace(/as [0-9A-F]+$/, ""));
  return panel(
    "Before and now",
    h("p", {}, same ? "The filter answers as before." : "The filter answers otherwise than before."),
    h("div", { class: "scroll" }, h("table", { class: "compare" }, h("thead", {}, h("tr", {}, h("th"), h("th", {}, "Before"), h("th", {}, "Now"))), h("tbody", {}, rows.map(([name, one, other]) => {
      const differs = one.replace(/as [0-9A-F]+$/, "") !== other.replace(/as [0-9A-F]+$/, "");
      return h("tr", { class: differs ? "differs" : "" }, h("th", { scope: "row" }, name), h("td", {}, T(one)), h("td", {}, T(other), differs && h("small", {}, "differs")));
    })))),
  );
}

export function showMessage({ now: message, before }, about) {
  const title = message.subject || (message.refused_client ? "A client that was refused" : `Message ${message.queue_id || message.id}`);
  document.title = `${WORDS[message.kind]}: aiomilter inspector`;
  const source = before ?? message;
  return h(
    "article",
    { class: "message" },
    h(
      "div",
      { class: "headline" },
      h("p", {}, h("a", { href: "#/" }, "← Messages")),
      h("h1", {}, T(title)),
      h("p", { class: "result" }, badge(message), " ", sentence(message)),
      message.reply && h("p", { class: "reply" }, h("span", { class: "quiet" }, "The SMTP client is told "), h("code", {}, T(message.reply))),
      message.trouble && h("p", { class: "wrong", role: "alert" }, T(message.trouble)),
      about?.play && source.id && (source.sender !== undefined) && h("p", {}, h("a", { class: "button replay", href: `#/messages/${source.id}/replay` }, before ? "Replay once more" : "Replay with the filter as it is now")),
    ),
    before && compare(before, message),
    panel("Conversation", conversation(message), Object.keys(message.durations ?? {}).length > 0 && [h("h3", {}, "What callbacks waited for, by filter"), filters(message)]),
    message.log.length > 0 && panel("Log", log(message)),
    h("div", { class: "columns" }, panel("Envelope", envelope(message)), panel("Edits", madeEdits(message))),
    message.authentication?.length > 0 && panel("Authentication", authentication(message.authentication)),
    message.changes && panel("Content", changes(message)),
    message.parts && panel("Parts", parts(message)),
    !message.content && panel("Content", h("p", { class: "quiet" }, "Not shown behind a mail server unless the filter runs with --inspect-content.")),
    Object.keys(message.macros).length > 0 && h("details", { class: "panel" }, h("summary", {}, h("h2", {}, "Macros")), macros(message)),
  );
}
