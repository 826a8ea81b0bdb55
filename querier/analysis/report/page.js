"use strict";
(function () {
  const root = document.documentElement;
  const all = (query, within) => Array.from((within || document).querySelectorAll(query));

  // Tables: a click on a column's name sorts, best first; empty cells stay last whatever the direction.
  function value(row, column) {
    const cell = row.cells[column];
    const number = cell.dataset[root.dataset.group];
    if (number === undefined) return cell.textContent.trim().toLowerCase();
    return number === "" ? null : Number(number);
  }

  function sort(table, column, direction) {
    const body = table.tBodies[0];
    const rows = Array.from(body.rows).map((row) => [value(row, column), row]);
    rows.sort(([a], [b]) => {
      if (a === null || b === null) return (a === null) - (b === null);
      return direction * (a < b ? -1 : a > b ? 1 : 0);
    });
    rows.forEach(([, row]) => body.append(row));
    all("thead th", table).forEach((head, place) => {
      const order = direction > 0 ? "ascending" : "descending";
      if (head.hasAttribute("aria-sort")) head.setAttribute("aria-sort", place === column ? order : "none");
    });
    table.sorted = [column, direction];
  }

  all("table.sortable").forEach((table) => {
    all("thead th", table).forEach((head, column) => {
      const button = head.querySelector("button");
      button.addEventListener("click", () => {
        const first = "text" in button.dataset || button.dataset.better === "lower" ? 1 : -1;
        const now = table.sorted && table.sorted[0] === column ? -table.sorted[1] : first;
        sort(table, column, now);
      });
    });
  });

  all("[data-show]").forEach((button) => {
    button.addEventListener("click", () => {
      root.dataset.group = button.dataset.show;
      all("[data-show]").forEach((one) => one.setAttribute("aria-pressed", String(one.dataset.show === button.dataset.show)));
      all("table.sortable").forEach((table) => table.sorted && sort(table, ...table.sorted));
    });
  });

  // Pictures: saved as they are seen, with what the page's style makes of them written into each part.
  const STYLE = ["fill", "fill-opacity", "stroke", "stroke-width", "stroke-dasharray", "stroke-linejoin", "paint-order",
    "font-family", "font-size", "font-weight", "font-variant-numeric", "text-anchor"];

  function drawing(svg) {
    const copy = svg.cloneNode(true);
    const made = [copy, ...all("*", copy)];
    [svg, ...all("*", svg)].forEach((one, place) => {
      const seen = getComputedStyle(one);
      STYLE.forEach((name) => made[place].style.setProperty(name, seen.getPropertyValue(name)));
    });
    return "data:image/svg+xml;charset=utf-8," + encodeURIComponent(new XMLSerializer().serializeToString(copy));
  }

  function save(source, name) {
    const link = make("a");
    link.href = source;
    link.download = name;
    link.click();
  }

  function saveDots(source, name) {
    const image = new Image();
    image.addEventListener("load", () => {
      const canvas = make("canvas");
      const pen = canvas.getContext("2d");
      [canvas.width, canvas.height] = [3 * image.width, 3 * image.height];
      pen.fillStyle = "#fff";
      pen.fillRect(0, 0, canvas.width, canvas.height);
      pen.drawImage(image, 0, 0, canvas.width, canvas.height);
      save(canvas.toDataURL("image/png"), name);
    });
    image.src = source;
  }

  all("figure").filter((figure) => figure.querySelector("svg.plot, img")).forEach((figure) => {
    const caption = figure.querySelector("figcaption");
    const words = caption.querySelector("b").textContent.toLowerCase();
    const name = words.replace(/[^\p{L}\p{N}]+/gu, "_").replace(/^_|_$/g, "").slice(0, 80);
    const seen = () => {
      const image = figure.querySelector("img");
      return image ? image.src : drawing(all("svg.plot", figure).find((svg) => svg.getBoundingClientRect().width > 0));
    };
    const buttons = make("span", "save");
    const kinds = [["SVG", (source) => save(source, name + ".svg")], ["PNG", (source) => saveDots(source, name + ".png")]];
    kinds.forEach(([kind, keep]) => {
      const image = figure.querySelector("img");
      if (kind === "SVG" && image && !image.src.startsWith("data:image/svg")) return;
      const button = make("button", "", kind);
      button.type = "button";
      button.setAttribute("aria-label", "Save as " + kind + ": " + words);
      button.addEventListener("click", () => keep(seen()));
      buttons.append(button);
    });
    caption.append(buttons);
  });

  // Examples: built as text nodes, so that nothing that a querier wrote is ever read as HTML.
  const EACH = 10;
  const ALWAYS = ["nll_per_byte", "rouge_l", "swap_accuracy_cluster"];
  const source = document.getElementById("data");
  if (source) examples(JSON.parse(source.textContent));
  root.dataset.ready = "true";

  function make(tag, kind, text) {
    const made = document.createElement(tag);
    if (kind) made.className = kind;
    if (text !== undefined && text !== null) made.textContent = text;
    return made;
  }

  // Names stand apart, so that signs of writing direction in them do not turn what stands beside them.
  function apart(name) {
    return make("bdi", "", name);
  }

  // A text runs as its own letters do.
  function words(kind, text) {
    const made = make("div", kind, text);
    made.dir = "auto";
    return made;
  }

  function examples(data) {
    const at = (id) => document.getElementById(id);
    const controls = ["find", "querier", "kind", "score", "of", "order"].map(at);
    const [find, querier, kind, score, of, order] = controls;
    const signs = all("#runs thead th svg");
    let page = 0;

    data.scores.forEach((one, place) => score.add(new Option(one.label, place)));
    score.value = data.first;
    if (data.runs.length > 1) of.add(new Option("all runs, on average", "mean"));
    data.runs.forEach((name, place) => of.add(new Option(name, place)));
    data.runs.forEach((a, left) => {
      data.runs.forEach((b, right) => {
        // Of many runs each is set against the first alone.
        const wanted = data.runs.length <= 4 ? left !== right : right === 0 && left > 0;
        if (wanted) of.add(new Option("how far " + a + " is better than " + b, left + "-" + right));
      });
    });
    const names = Array.from(new Set(data.rows.map((row) => row.querier))).sort();
    at("queriers").append(...names.map((name) => {
      const made = new Option(name, name);
      made.dir = "auto";
      return made;
    }));
    const replied = (row) => row.of.some((one) => one && one.reply !== null);
    const failed = (row) => row.of.some((one) => one && (one.error !== null || one.scores.includes("failed")));
    if (data.rows.some(replied)) kind.value = "replied";

    const kinds = {
      all: () => true, replied, failed, seen: (row) => !row.unseen, unseen: (row) => row.unseen,
    };

    function number(row, run) {
      const one = row.of[run];
      const found = one ? one.scores[Number(score.value)] : null;
      return typeof found === "number" ? found : null;
    }

    function rank(row) {
      if (of.value === "mean") {
        const known = row.of.map((_, run) => number(row, run)).filter((one) => one !== null);
        return known.length ? known.reduce((a, b) => a + b, 0) / known.length : null;
      }
      const [a, b] = of.value.split("-").map(Number);
      const [x, y] = [number(row, a), b === undefined ? 0 : number(row, b)];
      return x === null || y === null ? null : x - y;
    }

    function chosen() {
      const words = find.value.trim().toLowerCase();
      const who = querier.value.trim().toLowerCase();
      const texts = (row) => [row.query, row.gold, row.id].concat(row.of.map((one) => (one && one.reply) || ""));
      const rows = data.rows.filter((row) =>
        kinds[kind.value](row) &&
        (!who || row.querier.toLowerCase().includes(who)) &&
        (!words || texts(row).some((text) => text.toLowerCase().includes(words))));
      const better = (data.scores[score.value] || {}).lower ? 1 : -1;
      const ranked = rows.map((row) => [rank(row), row]);
      ranked.sort(([a], [b]) => {
        if (a === null || b === null) return (a === null) - (b === null);
        return better * Number(order.value) * (a - b);
      });
      return ranked;
    }

    function reply(one, run) {
      const made = make("div", "reply");
      const head = make("h4");
      if (signs[run]) head.append(signs[run].cloneNode(true));
      head.append(apart(data.runs[run]));
      made.append(head);
      if (one === null) {
        made.append(make("div", "none", "not tested on this dialogue"));
        return made;
      }
      if (one.error !== null) {
        const failure = make("div", "bad", "Failed: ");
        failure.append(apart(one.error));
        made.append(failure);
      }
      if (one.reply !== null) made.append(words("text", one.reply === "" ? "(an empty reply)" : one.reply));
      else if (one.error === null) made.append(make("div", "none", "no reply was generated for this dialogue"));
      if (one.empty !== null) {
        made.append(make("h4", "", "without history"), words("text", one.empty));
      }
      const scores = make("div", "scores");
      const rest = make("div", "scores");
      one.scores.forEach((found, place) => {
        if (found === null) return;
        const known = data.scores[place];
        const chosen = place === Number(score.value);
        const text = known.label + " " + (typeof found === "number" ? found.toFixed(known.digits) : found);
        const kinds = [chosen ? "chosen" : "", found === "failed" ? "bad" : ""];
        const made = make("span", kinds.join(" ").trim(), text);
        if (chosen) scores.prepend(made);
        else (ALWAYS.includes(known.name) || found === "failed" ? scores : rest).append(made);
      });
      made.append(scores);
      if (rest.childElementCount) {
        const more = make("details");
        more.append(make("summary", "", rest.childElementCount + " more scores"), rest);
        made.append(more);
      }
      return made;
    }

    function card(row, rank) {
      const made = make("article", "card");
      const who = make("div", "who");
      const known = [row.unseen ? "unseen querier" : "seen querier", row.history + " earlier dialogues"];
      if (rank !== null && of.value.includes("-")) known.unshift("difference " + rank.toFixed(data.scores[score.value].digits));
      const name = make("b");
      name.append(apart(row.querier));
      who.append(name, " · " + known.join(" · ") + " · ", apart(row.id));
      const replies = make("div", "replies");
      replies.append(...row.of.map(reply));
      made.append(who, make("h4", "", "query"), words("text query", row.query));
      made.append(make("h4", "", "true reply"), words("text", row.gold), replies);
      return made;
    }

    function show() {
      const rows = chosen();
      const pages = Math.max(1, Math.ceil(rows.length / EACH));
      page = Math.min(Math.max(0, page), pages - 1);
      const part = rows.slice(page * EACH, (page + 1) * EACH);
      at("cards").replaceChildren(...part.map(([found, row]) => card(row, found)));
      const unknown = rows.filter(([found]) => found === null).length;
      at("state").textContent = rows.length + " of " + data.rows.length + " dialogues" +
        (unknown ? ", " + unknown + " without this number at the end" : "");
      at("page").textContent = "page " + (page + 1) + " of " + pages;
      at("before").disabled = page === 0;
      at("after").disabled = page === pages - 1;
      root.dataset.shown = rows.length;
    }

    function turn(by) {
      page += by;
      show();
      at("state").scrollIntoView({ block: "start" });
    }

    controls.forEach((one) => one.addEventListener("input", () => { page = 0; show(); }));
    at("controls").addEventListener("submit", (event) => event.preventDefault());
    at("before").addEventListener("click", () => turn(-1));
    at("after").addEventListener("click", () => turn(1));
    show();
  }
})();
