// What goes through the node, and what it takes: storage and the machine.

import { timeChart } from "../chart.js";
import { el, setHidden, setText } from "../dom.js";
import { bytes, count, percent, rate } from "../format.js";
import { t } from "../i18n.js";
import { meter } from "../meter.js";
import { card, facts, isolated, view } from "../parts.js";

const FULL = 0.9;

function ceiling(largest) {
  let top = 4096;
  while (top < largest) top *= 2;
  return top * 0.75 >= largest ? top * 0.75 : top;
}

export function trafficView({ live }) {
  const chart = timeChart({
    id: "chart",
    label: t("traffic.chart"),
    series: [
      { name: t("traffic.served"), value: ([, served], step) => served / step },
      { name: t("traffic.pulled"), value: ([, , pulled], step) => pulled / step },
    ],
    format: rate,
    ceiling,
  });
  const totals = facts("card totals", "total", ["under_way", "served", "pulled"]);
  const relayed = facts("totals", "relay", ["children", "sent", "received", "siblings"]);
  const words = el("p.soft.small");
  const gauges = { storage: gauge("storage"), cpu: gauge("cpu"), memory: gauge("memory"), disk: gauge("disk") };
  const threshold = el("p.soft.small");
  const path = el("p.soft.small");

  function update(event) {
    const { status } = live;
    if (status === null) return;
    if (event !== "status") chart.update(live.samples, live.step);
    totals.show({
      under_way: count(status.downloads_under_way),
      served: bytes(status.bytes_served),
      pulled: bytes(status.bytes_pulled),
    });

    showRelay(status.relay);

    const { used, limit, cleanup_at: cleanup } = status.storage;
    const tone = used >= limit ? "error" : used >= cleanup ? "warning" : null;
    gauges.storage.show(used, limit, bytes, tone, cleanup / limit);
    setText(threshold, t("storage.threshold", { size: bytes(cleanup), share: percent(cleanup / limit) }));
    setText(path, status.storage.path);

    const { machine } = status;
    const cpu = machine.cpu_percent / 100;
    gauges.cpu.show(cpu, 1, null, undefined, null, t("cores", { n: machine.cpu_count }));
    gauges.memory.show(machine.memory_used, machine.memory_total, bytes);
    gauges.disk.show(machine.disk_total - machine.disk_free, machine.disk_total, bytes);
  }

  function showRelay({ enabled, planned, key_missing: missing, children, sent_bytes: sent, received_bytes: received, siblings, address, site }) {
    relayed.show({ children: count(children), sent: bytes(sent), received: bytes(received), siblings: count(siblings) });
    // Where the main server knows them all, this node does not look for them.
    setHidden(relayed.values.siblings.closest("div"), siblings === null);
    const how = !enabled ? "off" : missing ? "key.missing" : planned ? "planned" : "ranked";
    setText(words, [
      t(`relay.${how}`),
      enabled && address && t("relay.address", { address: isolated(address) }),
      site && t("relay.site", { site: isolated(site) }),
    ].filter(Boolean).join(t("sentence.gap")));
  }

  return {
    node: view("traffic",
      card("chart-title", t("traffic.chart"), chart.node),
      totals.node,
      card("relay-title", t("relay.name"), relayed.node, words),
      el("div.halves",
        card("storage-title", t("storage.name"), gauges.storage.node, threshold, path),
        card("machine-title", t("machine"), gauges.cpu.node, gauges.memory.node, gauges.disk.node))),
    update,
  };
}

function gauge(name) {
  const bar = meter(t(`gauge.${name}`), { id: `gauge-${name}` });
  const share = el("strong");
  const text = el("span.soft");
  const node = el("div.gauge", el("p.gauge-words", el("span", t(`gauge.${name}`)), text, share), bar.node);
  return {
    node,
    // `whole` 0: this system has no such figure.
    show(part, whole, format, tone = part / whole > FULL ? "warning" : null, markAt = null, words = "") {
      setHidden(node, !(whole > 0));
      if (!(whole > 0)) return;
      const of = part / whole;
      const said = format ? t("of", { used: format(part), limit: format(whole) }) : words;
      setText(share, percent(of));
      setText(text, said);
      bar.update({ share: of, text: `${percent(of)} ${said}`, tone, markAt });
    },
  };
}
