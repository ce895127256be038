// Files to nodes: the form that sends them, and the tasks, of which one is open with all its
// nodes. Loaded when it is first looked at.

import { get } from "../api.js";
import { sentenceOf } from "../dialog.js";
import { el, keyedList, setHidden } from "../dom.js";
import { addTexts, t } from "../i18n.js";
import { button, card, complain, nothing, view } from "../parts.js";
import texts from "../texts/files.js";
import { PATH } from "./outbox.js";
import { sendForm } from "./send-form.js";
import { taskRow } from "./task-row.js";

const REFRESH_MS = 2000;
const PAGE = 20;
// As many as are kept.
const MAX_TASKS = 500;

addTexts(texts);

export function filesView({ live }) {
  const tasks = tasksCard(live);
  const node = view("files");
  const form = sendForm(live, node, (id) => tasks.refresh(id));
  node.append(form.node, tasks.node);
  return {
    node,
    update(event) {
      form.update(event);
      tasks.tick();
    },
    tick: tasks.tick,
  };
}

function tasksCard(live) {
  const list = el("ul.messages", { id: "tasks", "aria-label": t("tasks.name") });
  const show = keyedList(list, ({ id }) => id, () => taskRow(live, { refresh, toggle, isOpen: (id) => id === open }));
  const none = nothing("files");
  const wrong = el("p.wrong", { role: "alert" });
  const more = button(".quiet", "show", t("tasks.earlier"), { "data-action": "more", onclick: earlier });
  const node = card("tasks-title", t("tasks.title"), list, none.node, wrong, el("div.buttons", more));
  let shown = [];
  let open = null; // the id of the task whose nodes are shown
  let wanted = PAGE;
  let asked = -Infinity;
  let round = 0; // answers that are overtaken by another are dropped

  // `id`: of one that is opened when it is there.
  async function refresh(id = null) {
    const mine = ++round;
    asked = performance.now();
    try {
      const { tasks, next } = await get(`${PATH}?limit=${wanted}`);
      if (mine !== round) return;
      complain(wrong, "");
      shown = tasks;
      setHidden(more, next === null || wanted >= MAX_TASKS);
    } catch (error) {
      if (mine === round) complain(wrong, sentenceOf(error));
      return;
    }
    if (id !== null) open = id;
    paint();
  }

  function paint() {
    show(shown);
    none.show(shown.length > 0 ? "" : "tasks");
  }

  function toggle(id) {
    open = open === id ? null : id;
    paint();
  }

  function earlier() {
    wanted = Math.min(MAX_TASKS, wanted + PAGE);
    return refresh();
  }

  setHidden(more, true);
  return {
    node,
    refresh,
    tick() {
      if (document.hidden || live.connection === "away") return;
      if (performance.now() - asked > REFRESH_MS) refresh();
      for (const row of show.entries()) row.tick();
    },
  };
}
