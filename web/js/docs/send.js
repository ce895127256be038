// One request as the page sends it, what came back, and the same for curl.

import { el } from "../dom.js";
import { icon } from "../icons.js";
import { t } from "../i18n.js";

// Of an answer; a package may have gigabytes, and an event stream has no end.
const MAX_BYTES = 16 * 1024;
const STREAM_MS = 3000;
const PATIENCE_MS = 60_000;

/** Resolves to the nodes to show, and to a line for curl. Never rejects. */
export async function send(request) {
  const { url, headers, part } = composed(request);
  const line = curl(request, url, headers, part);
  const stop = new AbortController();
  const timer = setTimeout(() => stop.abort(), PATIENCE_MS);
  const began = performance.now();
  try {
    const answer = await fetch(url, {
      method: request.method.toUpperCase(),
      headers: part ? { ...headers, Range: "bytes=0-1023" } : headers,
      body: request.body,
      cache: "no-store",
      redirect: "manual",
      signal: stop.signal,
    });
    const took = Math.round(performance.now() - began);
    if (answer.type === "opaqueredirect") return { shown: elsewhere(url), line };
    const read = await beginningOf(answer, request.stream ? STREAM_MS : PATIENCE_MS);
    stop.abort();
    return { shown: [...told(answer, read, took), ...(part ? wholeAt(url) : [])], line };
  } catch (error) {
    return { shown: [el("p.wrong", icon("error"), t("docs.failed", { text: error.message }))], line };
  } finally {
    clearTimeout(timer);
  }
}

function composed({ path, values, body, type, token, package: isPackage }) {
  const given = values.filter(({ value }) => value !== "");
  const at = (place) => given.filter((one) => one.in === place);
  const filled = at("path").reduce((path, { name, value }) => {
    // The one parameter that may have slashes in it.
    const plain = name === "path" ? value.split("/").map(encodeURIComponent).join("/") : encodeURIComponent(value);
    return path.replace(`{${name}}`, plain);
  }, path);
  const query = new URLSearchParams(at("query").map(({ name, value }) => [name, value])).toString();
  const headers = Object.fromEntries(at("header").map(({ name, value }) => [name, value]));
  if (body !== undefined) headers["Content-Type"] = type;
  if (token) headers.Authorization = `Bearer ${token}`;
  return { url: query ? `${filled}?${query}` : filled, headers, part: isPackage && !headers.Range };
}

// The token stays out of what is copied about.
function curl({ method, body, token, stream }, url, headers, part) {
  const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;
  const words = ["curl"];
  if (stream) words.push("-N");
  if (part) words.push("-LOJ");
  if (method !== "get") words.push("-X", method.toUpperCase());
  for (const [name, value] of Object.entries(headers)) {
    words.push("-H", name === "Authorization" && token ? `"${name}: Bearer $TOKEN"` : quoted(`${name}: ${value}`));
  }
  if (body instanceof File) words.push("--data-binary", quoted(`@${body.name}`));
  else if (body !== undefined) words.push("--data-raw", quoted(body));
  words.push(quoted(new URL(url, location.origin).href));
  return words.join(" ");
}

async function beginningOf(answer, patience) {
  const chunks = [];
  let [size, more] = [0, false];
  const reader = answer.body?.getReader();
  const enough = setTimeout(() => reader?.cancel(), patience);
  while (reader) {
    const { done, value } = await reader.read();
    if (done) break;
    chunks.push(value);
    size += value.length;
    more = size > MAX_BYTES;
    if (more) {
      await reader.cancel();
      break;
    }
  }
  clearTimeout(enough);
  return { bytes: new Uint8Array(await new Blob(chunks).arrayBuffer()), more };
}

function told(answer, { bytes, more }, took) {
  const tone = answer.ok || answer.status === 304 ? "good" : "error";
  const type = answer.headers.get("Content-Type") ?? "";
  const fields = [...answer.headers].map(([name, value]) => `${name}: ${value}`).join("\n");
  const status = `${answer.status} ${answer.statusText}`.trim();
  return [
    el("p", { "data-part": "status" },
      el("span.state", { "data-tone": tone }, icon(tone), status), " ",
      el("span.soft.small", t("docs.time", { ms: took }))),
    el("pre.small", { tabindex: "0", "data-part": "headers" }, fields),
    ...content(type, bytes, more),
  ];
}

function content(type, bytes, more) {
  if (bytes.length === 0) return [];
  if (type.includes("zip")) return [el("p.soft", t("docs.binary", { n: bytes.length }))];
  let text = new TextDecoder().decode(bytes.slice(0, MAX_BYTES));
  if (type.includes("json") && !more) {
    try {
      text = JSON.stringify(JSON.parse(text), null, 2);
    } catch {
      // Shown as it came.
    }
  }
  return [el("pre", { tabindex: "0", "data-part": "body" }, text), more && el("p.soft.small", t("docs.cut", { size: MAX_BYTES }))];
}

const elsewhere = (url) => [el("p", t("docs.elsewhere"), " ", el("a", { href: url }, url))];
const wholeAt = (url) => [el("p.soft", t("docs.part"), " ", el("a", { href: url, download: true }, t("docs.whole")))];
