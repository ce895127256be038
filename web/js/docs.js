// The page of the API: reads the document, lists its calls in groups and lets
// each be tried. What it shows of a call is made when that is opened.

import { ask, notify } from "./dialog.js";
import { el, setChildren, setText } from "./dom.js";
import { example, resolved, shape } from "./docs/schema.js";
import { send } from "./docs/send.js";
import { icon } from "./icons.js";
import { addTexts, known, otherLanguage, setLanguage, t } from "./i18n.js";
import { button, copyText } from "./parts.js";
import texts from "./texts/docs.js";

addTexts(texts);

const METHODS = ["get", "post", "put", "delete"];
const find = (id) => document.getElementById(id);

const token = el("input", { id: "token", type: "password", autocomplete: "off", spellcheck: "false" });
const search = el("input", { id: "find", type: "search", autocomplete: "off", spellcheck: "false" });
let doc = null;

function frame() {
  setText(find("skip"), t("skip"));
  find("language").lang = otherLanguage() === "zh" ? "zh-CN" : "en";
  setChildren(find("language"), [icon("language"), el("span", t("other.language"))]);
  document.title = `${t("docs.title")} · edge-mirror`;
}

function page() {
  frame();
  setText(find("brand-of"), doc.info.title);
  const calls = Object.entries(doc.paths).flatMap(([path, methods]) =>
    METHODS.filter((method) => methods[method]).map((method) => callOf(method, path, methods[method])));
  const groups = [...new Set(calls.map(({ tag }) => tag))].map((name) => {
    const own = calls.filter(({ tag }) => tag === name);
    const node = el("section.group", el("h2", known(`docs.group.${name}`) ? t(`docs.group.${name}`) : name), own.map(({ node }) => node));
    return { node, own };
  });
  const found = el("p.soft.small", { id: "found", role: "status" });
  const filter = () => {
    const words = search.value.toLowerCase().split(/\s+/);
    for (const { node, text } of calls) node.hidden = !words.every((word) => text.includes(word));
    for (const { node, own } of groups) node.hidden = own.every(({ node }) => node.hidden);
    setText(found, t("docs.found", { n: calls.filter(({ node }) => !node.hidden).length }));
  };
  search.oninput = filter;
  search.placeholder = t("docs.find.hint");
  token.placeholder = t("docs.token.hint");
  const head = el("div.view-head", el("h1", t("docs.title")), el("span.soft", `${doc.info.title} ${doc.info.version}`));
  const link = el("a", { href: "/api/openapi.json" }, t("docs.document"));
  const access = el("div.card.access",
    el("div", el("label", { for: "find" }, t("docs.find")), search, found),
    el("div", el("label", { for: "token" }, t("docs.token")), token));
  const lead = el("p.soft", t("docs.lead"), " ", link);
  setChildren(find("content"), [head, lead, access, ...groups.map(({ node }) => node)]);
  filter();
}

function callOf(method, path, call) {
  const operators = call.security.some((way) => "session" in way);
  const node = el("details.card.call", { id: call.operationId },
    el("summary",
      el("span.method", { "data-method": method }, method.toUpperCase()),
      el("code.path", path),
      el("span.summary", call.summary),
      operators && el("span.soft.small", t("docs.operators"))));
  node.ontoggle = () => {
    if (node.open && node.childElementCount === 1) node.append(body(method, path, call));
  };
  const text = `${method} ${path} ${call.summary} ${call.tags[0]}`.toLowerCase();
  return { node, text, tag: call.tags[0] };
}

function body(method, path, call) {
  const fields = (call.parameters ?? []).map((parameter) => field(call, resolved(doc, parameter)));
  const content = call.requestBody && bodyField(call);
  const result = el("div.result", { role: "status" });
  const curl = el("code", { "data-part": "curl" });
  const request = () => ({
    method,
    path,
    values: fields.map(({ parameter, input }) => ({ ...parameter, value: input.value })),
    body: content?.value(),
    type: content?.type,
    token: token.value.trim(),
    package: Boolean(call.responses[200]?.content?.["application/zip"]),
    stream: Boolean(call.responses[200]?.content?.["text/event-stream"]),
  });
  const go = button(".primary", "start", t("docs.send"), { "data-action": "send" });
  go.onclick = async () => {
    const empty = fields.find(({ parameter, input }) => parameter.required && !input.value);
    if (empty) {
      setChildren(result, [el("p.wrong", icon("error"), t("docs.missing", { name: empty.parameter.name }))]);
      return empty.input.focus();
    }
    const title = t("docs.ask");
    const name = `${method.toUpperCase()} ${path}`;
    const careful = call["x-asks-first"];
    if (careful && !(await ask({ title, name, lines: [t("docs.asked_of")], yes: t("docs.send"), dangerous: true }))) return;
    go.setAttribute("aria-disabled", "true");
    setChildren(result, [el("p.soft", t("docs.busy"))]);
    const { shown, line } = await send(request());
    setText(curl, line);
    setChildren(result, [...shown, curled]);
    go.removeAttribute("aria-disabled");
  };
  const copy = button(".quiet", "copy", t("copy"), { onclick: async () => notify(await copyText(curl)) });
  const curled = el("div", el("h3", t("docs.curl")), el("div.curl", el("pre", { tabindex: "0" }, curl), copy));
  const asked = [...fields, content].filter(Boolean);
  return el("div.call-body",
    call.description && el("p", call.description),
    el("div", el("h3", t("docs.asked")),
      asked.length === 0 && el("p.soft", t("docs.nothing")),
      el("div.fields", asked.map(({ node }) => node))),
    el("div.buttons", go),
    result,
    answers(call));
}

function field(call, parameter) {
  const id = `${call.operationId}.${parameter.name}`;
  const schema = resolved(doc, parameter.schema);
  const needed = parameter.required ? ` (${t("docs.needed")})` : "";
  const options = schema.enum && ["", ...schema.enum].map((value) => el("option", { value }, value || "—"));
  const about = { id, "data-field": parameter.name, "aria-describedby": `${id}.about` };
  const input = options
    ? el("select", about, options)
    : el("input", { ...about, autocomplete: "off", spellcheck: "false", placeholder: schema.examples?.[0] });
  const node = el("div",
    el("label", { for: id }, `${parameter.name}${needed}`),
    input,
    el("p.soft.small", { id: `${id}.about` }, parameter.description));
  return { parameter, input, node };
}

function bodyField(call) {
  const [type, { schema }] = Object.entries(call.requestBody.content)[0];
  const id = `${call.operationId}.body`;
  const label = el("label", { for: id }, `${t("docs.body")} · ${type}`);
  if (type !== "application/json") {
    const input = el("input", { id, type: "file", "data-field": "body" });
    return { type, node: el("div", label, input), value: () => input.files[0] ?? "" };
  }
  const input = el("textarea", { id, "data-field": "body", spellcheck: "false" });
  input.value = JSON.stringify(example(doc, schema), null, 2);
  const node = el("div", label, input, el("pre.small", { tabindex: "0" }, shape(doc, schema)));
  return { type, node, value: () => input.value };
}

function answers(call) {
  const one = ([status, answer]) => {
    const named = Object.keys(answer.headers ?? {});
    const contents = Object.entries(answer.content ?? {});
    return el("li",
      el("p", el("strong", status), " ", answer.description),
      named.length > 0 && el("p.soft.small", `${t("docs.headers")}: ${named.join(", ")}`),
      contents.map(([type, { schema }]) => type === "application/json"
        ? el("details", el("summary", type), el("pre.small", { tabindex: "0" }, shape(doc, schema)))
        : el("p.soft.small", type)));
  };
  return el("div", el("h3", t("docs.answers")), el("ul.answers", Object.entries(call.responses).map(one)));
}

find("language").onclick = () => {
  setLanguage(otherLanguage());
  page();
};
find("skip").onclick = (event) => {
  event.preventDefault();
  find("content").focus();
};

frame();
try {
  const answer = await fetch("/api/openapi.json");
  if (!answer.ok) throw new Error(`HTTP ${answer.status}`);
  doc = await answer.json();
  page();
} catch (error) {
  setChildren(find("content"), [el("p.wrong", icon("error"), t("docs.unread", { text: error.message }))]);
}
