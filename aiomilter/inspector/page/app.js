// Routes, the live stream, and the keys.
import { ask, h } from "./dom.js";
import { List } from "./list.js";
import { showMessage } from "./message.js";
import { showPlay } from "./play.js";
import { Charts } from "./charts.js";

const main = document.getElementById("main");
const live = document.getElementById("live");
const state = { about: null, run: "" };
const list = new List(() => state.about);
const charts = new Charts();
let view = "";

function say(word, kind) {
  live.textContent = word;
  live.dataset.state = kind;
}

function show(name, ...children) {
  view = name;
  main.replaceChildren(...children);
  for (const link of document.querySelectorAll("nav a")) {
    if (link.dataset.view === name) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
}

async function route() {
  const [, first = "", second = "", third = ""] = location.hash.split("/");
  document.title = "aiomilter inspector";
  if (first === "play") show("play", showPlay());
  else if (first === "charts") {
    show("charts", charts.element);
    charts.draw();
  } else if (first === "messages" && second) await one(second, third === "replay");
  else {
    show("list", list.element);
    list.restore();
    return;
  }
  window.scrollTo(0, 0);
}

async function one(id, again) {
  const here = location.hash;
  show("list", h("p", { class: "empty" }, again ? "playing it again …" : "loading …"));
  let shown;
  try {
    shown = again
      ? showMessage((await ask(`api/messages/${id}/replay`, {})), state.about)
      : showMessage({ now: await ask(`api/messages/${id}`) }, state.about);
  } catch (error) {
    shown = h("section", { class: "panel" }, h("h1", {}, "Not shown"), h("p", {}, error.message), h("p", {}, h("a", { href: "#/" }, "All messages")));
  }
  if (location.hash === here) {
    show("list", shown);
    main.focus({ preventScroll: true });
  }
}

async function load() {
  list.clear();
  list.add((await ask("api/messages")).messages);
  charts.set(await ask("api/charts"));
}

function stream() {
  const source = new EventSource(`api/events?after=${list.last}`);
  source.addEventListener("hello", async (event) => {
    const run = JSON.parse(event.data).run;
    if (state.run && run !== state.run) {
      source.close();
      await start();
      return;
    }
    state.run = run;
    say("live", "live");
  });
  source.addEventListener("messages", (event) => list.add(JSON.parse(event.data)));
  source.addEventListener("measured", (event) => {
    charts.add(JSON.parse(event.data));
    if (view === "charts") charts.draw();
  });
  source.onerror = () => {
    say("reconnecting", "wait");
    if (source.readyState === EventSource.CLOSED) setTimeout(() => start(), 3000);
  };
}

function login(wrong) {
  const token = h("input", { type: "password", id: "token", autocomplete: "off", required: true });
  const form = h(
    "form",
    { class: "panel login", onsubmit: (event) => { event.preventDefault(); enter(token.value); } },
    h("h1", {}, "Token"),
    h("p", {}, "The inspector asks for the token that was printed when the filter started, or that stands in the file of --inspect-token."),
    h("label", { for: "token" }, "Token"), token,
    wrong && h("p", { class: "wrong", role: "alert" }, wrong),
    h("button", { type: "submit" }, "Open"),
  );
  show("login", form);
  say("locked", "wait");
  token.focus();
}

async function enter(token) {
  try {
    await ask("api/login", { token });
    await start();
  } catch (error) {
    login(error.message);
  }
}

async function start() {
  try {
    state.about = await ask("api/about");
  } catch (error) {
    if (error.status === 401) return login();
    say("not reachable", "off");
    setTimeout(start, 3000);
    return;
  }
  state.run = state.about.run;
  const name = document.getElementById("filter");
  name.textContent = state.about.filter.split("/").pop();
  name.title = state.about.filter;
  document.querySelector("nav a[data-view=play]").hidden = !state.about.play;
  await load();
  stream();
  await route();
}

addEventListener("hashchange", route);
addEventListener("keydown", (event) => {
  const typing = /^(INPUT|TEXTAREA|SELECT)$/.test(document.activeElement.tagName);
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "Escape") {
    if (typing) document.activeElement.blur();
    else if (location.hash.length > 2) location.hash = "#/";
  } else if (!typing) {
    const go = { m: "#/", p: state.about?.play && "#/play", c: "#/charts" }[event.key];
    if (go) location.hash = go;
    else if (event.key === "/" && view === "list") {
      event.preventDefault();
      list.search.focus();
    } else if (main.contains(list.element)) list.key(event);
    else if (event.key === "r") document.querySelector("a.replay")?.click();
  }
});

const given = location.hash.match(/^#token=(.+)$/);
if (given) {
  history.replaceState(null, "", location.pathname);
  enter(decodeURIComponent(given[1]));
} else start();
