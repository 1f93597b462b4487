(function () {
  "use strict";
  const RIGHT = 0, UNKNOWN = 1, STEP = 60;
  const data = JSON.parse(document.getElementById("data").textContent);
  const byId = (id) => document.getElementById(id);
  const list = byId("rows"), more = byId("more"), tip = byId("tip");
  // A row: number, text, gold entities, predicted entities. An entity: start, end, label, kind, p.
  const rows = data.rows.map(([number, text, gold, predicted]) => ({
    number, text, gold, predicted, lower: text.toLowerCase(),
    wrong: [...gold, ...predicted].some((e) => e[3] > UNKNOWN),
  }));
  const inOrder = [...rows].sort((a, b) => a.number - b.number);
  let found = [], shown = 0;

  function element(tag, css, text) {
    const made = document.createElement(tag);
    if (css) made.className = css;
    if (text !== undefined) made.textContent = text;
    return made;
  }

  function describe(e, side) {
    const p = e[4] === null ? "not known" : e[4] < 0.0001 ? "below 0.0001" : e[4].toFixed(4);
    const kind = e[3] === RIGHT ? "right" : data.kinds[e[3]];
    return `${side} ${data.labels[e[2]]}: ${kind}\nprobability ${p}`;
  }

  function marked(row, entities, side) {
    const out = element("div", "text");
    out.dir = "auto";
    let at = 0;
    for (const e of entities) {
      if (e[0] < at) continue;
      out.append(row.text.slice(at, e[0]));
      const css = e[3] > UNKNOWN ? " is-wrong" : e[3] === UNKNOWN ? " is-unknown" : "";
      const mark = element("span", "ent" + css, row.text.slice(e[0], e[1]));
      mark.style.setProperty("--h", data.hues[e[2]]);
      mark.tabIndex = 0;
      mark.dataset.tip = describe(e, side);
      mark.append(element("small", "", data.labels[e[2]]));
      out.append(mark);
      at = e[1];
    }
    out.append(row.text.slice(at));
    return out;
  }

  function line(row) {
    const item = element("li");
    item.dataset.number = row.number;
    const kinds = new Set([...row.gold, ...row.predicted].map((e) => e[3]));
    const names = [...kinds].filter((k) => k > UNKNOWN).sort((a, b) => a - b).map((k) => data.kinds[k]);
    item.append(element("div", "number", `sentence ${row.number + 1}` + (names.length ? `: ${names.join(", ")}` : "")));
    if (row.wrong || row.gold.length !== row.predicted.length) {
      item.append(element("div", "side", "gold"), marked(row, row.gold, "gold"));
      item.append(element("div", "side", "predicted"), marked(row, row.predicted, "predicted"));
    } else {
      item.append(element("div", "side", "both"), marked(row, row.predicted, "gold and predicted"));
    }
    return item;
  }

  function showMore() {
    const part = document.createDocumentFragment();
    for (const row of found.slice(shown, shown + STEP)) part.append(line(row));
    list.append(part);
    shown = Math.min(shown + STEP, found.length);
    more.hidden = shown >= found.length;
  }

  function apply() {
    const kind = byId("kind").value, label = byId("label").value;
    const words = byId("search").value.trim().toLowerCase();
    const place = data.kinds.indexOf(kind);
    const source = byId("order").value === "worst" ? rows : inOrder;
    found = source.filter((row) => {
      if (kind === "clean" ? row.wrong : kind === "wrong" && !row.wrong) return false;
      if (words && !row.lower.includes(words)) return false;
      if (place < 0 && label === "") return true;
      return [...row.gold, ...row.predicted].some((e) =>
        (label === "" || e[2] === Number(label)) &&
        (place >= 0 ? e[3] === place : kind !== "wrong" || e[3] > UNKNOWN));
    });
    list.replaceChildren();
    shown = 0;
    hideTip();
    showMore();
    byId("count").textContent = `${found.length.toLocaleString("en")} of ${rows.length.toLocaleString("en")} sentences`;
  }

  function showTip(target) {
    tip.textContent = target.dataset.tip;
    tip.hidden = false;
    target.setAttribute("aria-describedby", "tip");
    const box = target.getClientRects()[0] || target.getBoundingClientRect();
    const left = Math.max(8, Math.min(box.left, innerWidth - tip.offsetWidth - 8));
    const above = box.top - tip.offsetHeight - 6;
    tip.style.left = `${left}px`;
    tip.style.top = `${above > 4 ? above : box.bottom + 6}px`;
  }

  function hideTip() {
    tip.hidden = true;
    for (const old of list.querySelectorAll("[aria-describedby]")) old.removeAttribute("aria-describedby");
  }

  function over(event) {
    const target = event.target.closest("[data-tip]");
    hideTip();
    if (target) showTip(target);
  }

  list.addEventListener("mouseover", over);
  list.addEventListener("focusin", over);
  list.addEventListener("mouseleave", hideTip);
  list.addEventListener("focusout", hideTip);
  // The browser scrolls to an element that takes the focus: its tip moves along.
  addEventListener("scroll", () => {
    const focused = document.activeElement;
    if (!tip.hidden && focused && focused.getAttribute("aria-describedby") === "tip") showTip(focused);
    else hideTip();
  }, { passive: true });
  addEventListener("keydown", (event) => { if (event.key === "Escape") hideTip(); });
  for (const id of ["kind", "label", "order"]) byId(id).addEventListener("change", apply);
  let wait;
  byId("search").addEventListener("input", () => { clearTimeout(wait); wait = setTimeout(apply, 120); });
  byId("filters").addEventListener("submit", (event) => { event.preventDefault(); apply(); });
  for (const link of document.querySelectorAll("a[data-kind]")) {
    link.addEventListener("click", () => { byId("kind").value = link.dataset.kind; byId("label").value = ""; byId("search").value = ""; apply(); });
  }
  more.addEventListener("click", () => {
    const next = shown;
    showMore();
    const first = list.children[next];
    if (first) { first.tabIndex = -1; first.focus({ preventScroll: true }); }
  });
  new IntersectionObserver((seen) => { if (seen[0].isIntersecting && !more.hidden) showMore(); }, { rootMargin: "400px" }).observe(more);
  apply();
})();
