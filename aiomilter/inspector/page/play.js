// A message is typed or dropped, and played to a filter of its own.
import { ask, h } from "./dom.js";
import { showMessage } from "./message.js";

const SAMPLE = "From: Alice <alice@example.org>\nTo: Bob <bob@example.net>\nSubject: A sample message\n\nHello Bob,\n\nthis is a sample.\n";
const kept = { message: SAMPLE, octets: null, mta: "postfix", client: "192.0.2.1", hostname: "client.example", helo: "client.example", sender: "alice@example.org", recipients: "bob@example.net", auth: "", tls: false, macros: "" };

function base64(buffer) {
  const octets = new Uint8Array(buffer);
  let text = "";
  for (let at = 0; at < octets.length; at += 32768) text += String.fromCharCode(...octets.subarray(at, at + 32768));
  return btoa(text);
}

function field(name, label, hint) {
  return h("p", {}, h("label", { for: name }, label), h("input", { id: name, name, autocomplete: "off", spellcheck: "false", placeholder: hint, oninput: (event) => (kept[name] = event.target.value) }));
}

export function showPlay() {
  const result = h("div", { class: "result-of-play", "aria-live": "polite" });
  const text = h("textarea", { id: "message", name: "message", rows: "14", spellcheck: "false", oninput: () => { kept.message = text.value; kept.octets = null; told.textContent = ""; } });
  const told = h("span", { class: "quiet", role: "status" });
  const take = async (file) => {
    if (!file) return;
    const buffer = await file.arrayBuffer();
    kept.octets = base64(buffer);
    kept.message = text.value = new TextDecoder().decode(buffer.slice(0, 200000));
    told.textContent = `${file.name}, ${buffer.byteLength} octets, is played as it is; typing here plays what is typed.`;
  };
  const file = h("input", { type: "file", id: "file", accept: ".eml,message/rfc822,text/plain", onchange: () => take(file.files[0]) });
  const button = h("button", { type: "submit" }, "Play");
  const play = async (event) => {
    event.preventDefault();
    button.disabled = true;
    result.replaceChildren(h("p", { class: "empty" }, "playing …"));
    try {
      const macros = Object.fromEntries(kept.macros.split("\n").map((line) => line.split(/=(.*)/s)).filter(([name, value]) => name.trim() && value !== undefined).map(([name, value]) => [name.trim(), value.trim()]));
      const asked = { ...kept, macros, recipients: kept.recipients.split(/[\n,]+/).map((each) => each.trim()).filter(Boolean) };
      if (kept.octets === null) delete asked.octets;
      else delete asked.message;
      const found = await ask("api/play", asked);
      result.replaceChildren(showMessage({ now: { ...found, id: 0 } }, null));
      result.querySelector(".headline p")?.remove();
      result.scrollIntoView();
    } catch (error) {
      result.replaceChildren(h("p", { class: "wrong", role: "alert" }, error.message));
    }
    button.disabled = false;
  };
  const drop = (event) => {
    event.preventDefault();
    form.classList.toggle("over", event.type === "dragover");
    if (event.type === "drop") take(event.dataTransfer.files[0]);
  };
  const style = h("select", { id: "mta", onchange: () => (kept.mta = style.value) }, h("option", { value: "postfix" }, "Postfix"), h("option", { value: "sendmail" }, "Sendmail"));
  const macros = h("textarea", { id: "macros", name: "macros", rows: "3", spellcheck: "false", placeholder: "daemon_name=submission", oninput: () => (kept.macros = macros.value) });
  const tls = h("input", { type: "checkbox", id: "tls", onchange: () => (kept.tls = tls.checked) });
  const form = h(
    "form",
    { class: "play", onsubmit: play, ondragover: drop, ondragleave: drop, ondrop: drop },
    h("h1", {}, "Play a message"),
    h("p", { class: "quiet" }, "It is played to a filter of its own, made as the running one is. Nothing is delivered, and no message of others sees it; what the filter itself does elsewhere, it does."),
    h("div", { class: "columns" },
      h("section", { class: "panel" }, h("p", {}, h("label", { for: "message" }, "Message: type it, or drop a file here"), text), h("p", {}, h("label", { for: "file" }, "Or choose a file"), file), told),
      h("section", { class: "panel fields" },
        field("sender", "Sender", "alice@example.org SIZE=1000"), field("recipients", "Recipients", "bob@example.net, carol@example.net"),
        field("client", "Client address", "192.0.2.1"), field("hostname", "Client name", "client.example"), field("helo", "HELO", "client.example"), field("auth", "Login", "none"),
        h("p", {}, h("label", { for: "mta" }, "Mail server"), style), h("p", { class: "check" }, tls, h("label", { for: "tls" }, "The client speaks TLS")),
        h("p", { class: "wide" }, h("label", { for: "macros" }, "Macros, one a line"), macros),
        h("p", { class: "wide" }, button)),
    ),
  );
  text.value = kept.message;
  macros.value = kept.macros;
  style.value = kept.mta;
  tls.checked = kept.tls;
  for (const name of ["sender", "recipients", "client", "hostname", "helo", "auth"]) form.querySelector(`#${name}`).value = kept[name];
  return h("div", {}, form, result);
}
