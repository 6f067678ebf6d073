// The timeline and the table of work items, from the JSON in #data. Whatever comes from the run is put in as text.
// What is filtered and sorted is in the address after #, so that a view can be passed on.
"use strict";
(() => {
  const ROW = 28; // pixels, as in page.css
  const LABEL = 90;
  const data = JSON.parse(document.getElementById("data").textContent);
  // A browser paints nothing on a canvas that is higher than 65,535 device pixels, of which a pixel may be two.
  const LANE = Math.max(1, Math.min(18, Math.floor(30000 / data.lanes.length)));
  const GAP = LANE < 8 ? 0 : 2;
  const items = data.work_items;
  const $ = (selector) => document.querySelector(selector);
  const element = (name, text, className) => {
    const made = document.createElement(name);
    if (text !== undefined) made.textContent = text;
    if (className) made.className = className;
    return made;
  };
  const words = (name) => name.replaceAll("_", " ");
  const color = (name) => getComputedStyle(document.documentElement).getPropertyValue("--" + name).trim();
  const seconds = (number) => (number < 100 ? number.toFixed(1) : Math.round(number)) + " s";
  const places = (item) => [...new Set(item.attempts.map((attempt) => attempt.place))].join(", ");
  const why = (item) => item.message || [...new Set(item.stages.map((stage) => stage.reason))].join(", ");

  // ---- the table
  const columns = [
    { key: "index", title: "#", of: (item) => item.index },
    { key: "id", title: "Work item", of: (item) => item.id },
    { key: "phase", title: "Phase", of: (item) => item.phase },
    { key: "outcome", title: "Outcome", of: (item) => item.outcome, show: (item) => words(item.outcome) },
    { key: "attempts", title: "Attempts", of: (item) => item.attempts.length },
    { key: "seconds", title: "Time", of: (item) => item.seconds, show: (item) => seconds(item.seconds) },
    { key: "why", title: "Where and why", of: why, show: (item) => [places(item), why(item)].filter(Boolean).join(": ") },
  ];
  const haystacks = items.map((item) =>
    [item.id, item.message || "", places(item), ...item.stages.flatMap((stage) => [stage.address, stage.reason])]
      .join("\n").toLowerCase());
  const filter = $("#items input");
  const outcome = $("#items select");
  const body = $("#items .body");
  const rows = $("#items .rows");
  let sort = { key: "index", down: false };
  let shown = [];
  let chosen = null;

  const select = () => {
    const wanted = filter.value.toLowerCase();
    const column = columns.find((column) => column.key === sort.key) || columns[0];
    const keys = new Map();
    shown = items.filter((item, at) =>
      (!outcome.value || item.outcome === outcome.value) && (!wanted || haystacks[at].includes(wanted)));
    shown.forEach((item) => keys.set(item, column.of(item)));
    const way = sort.down ? -1 : 1;
    const collator = new Intl.Collator("en", { numeric: true });
    shown.sort((a, b) => {
      const [x, y] = [keys.get(a), keys.get(b)];
      const order = typeof x === "number" ? x - y : collator.compare(x, y);
      return order * way || a.index - b.index;
    });
    rows.style.height = shown.length * ROW + "px";
    $("#items output").textContent = `${shown.length.toLocaleString("en")} of ${items.length.toLocaleString("en")}`;
    columns.forEach((column, at) => {
      const mark = column.key === sort.key ? (sort.down ? " ▾" : " ▴") : "";
      head.children[at].textContent = column.title + mark;
    });
    const view = new URLSearchParams();
    if (filter.value) view.set("filter", filter.value);
    if (outcome.value) view.set("outcome", outcome.value);
    if (sort.key !== "index" || sort.down) view.set("sort", (sort.down ? "-" : "") + sort.key);
    if ("#" + view !== location.hash && (location.hash || String(view))) history.replaceState(null, "", "#" + view);
    draw();
  };

  // Only the rows in sight exist.
  const draw = () => {
    const first = Math.max(0, Math.floor(body.scrollTop / ROW) - 5);
    const last = Math.min(shown.length, Math.ceil((body.scrollTop + body.clientHeight) / ROW) + 5);
    rows.replaceChildren(...shown.slice(first, last).map((item, at) => {
      const row = element("div", undefined, item === chosen ? "row chosen" : "row");
      row.style.top = (first + at) * ROW + "px";
      row.setAttribute("role", "row");
      row.dataset.index = item.index;
      columns.forEach((column) => {
        const cell = element("span", (column.show || column.of)(item), column.key === "outcome" ? item.outcome : "");
        cell.setAttribute("role", "cell");
        row.append(cell);
      });
      return row;
    }));
  };

  const choose = (item) => {
    chosen = item;
    const detail = $("#detail");
    detail.replaceChildren(element("h2", item.id));
    if (item.message) detail.append(element("p", item.message));
    const list = (title, entries) => {
      const made = element("ul");
      entries.forEach((entry) => made.append(element("li", entry)));
      if (entries.length) detail.append(element("b", title), made);
    };
    list("Stages", item.stages.map((stage) => `${stage.address}: ${words(stage.state)} (planned: ${stage.reason})`));
    list("Attempts", item.attempts.map((attempt) =>
      `${attempt.attempt} in ${attempt.place}: ${words(attempt.end)}, ${seconds(attempt.seconds)} from ` +
      `${seconds(attempt.begin)} on${attempt.message ? ": " + attempt.message : ""}`));
    if (item.tail.length) detail.append(element("pre", item.tail.join("\n")));
    if (item.log) detail.append(element("p", "log: " + item.log));
    draw();
  };

  const head = $("#items .head");
  columns.forEach((column) => {
    const button = element("button", column.title);
    button.type = "button";
    button.setAttribute("role", "columnheader");
    button.addEventListener("click", () => {
      sort = { key: column.key, down: sort.key === column.key ? !sort.down : false };
      select();
    });
    head.append(button);
  });
  outcome.append(element("option", "all outcomes"));
  outcome.firstChild.value = "";
  Object.keys(data.counts).forEach((name) => {
    const option = element("option", `${words(name)} (${data.counts[name]})`);
    option.value = name;
    outcome.append(option);
  });
  filter.addEventListener("input", select);
  outcome.addEventListener("change", select);
  body.addEventListener("scroll", draw, { passive: true });
  rows.addEventListener("click", (event) => {
    const row = event.target.closest(".row");
    if (row) choose(items[row.dataset.index]);
  });

  // ---- the timeline
  const canvas = $("#timeline canvas");
  const hint = $("#timeline .hint");
  const bars = items.flatMap((item) => item.attempts.map((attempt) => ({ item, attempt })));
  const begin = bars.reduce((least, bar) => Math.min(least, bar.attempt.begin), Infinity);
  const end = bars.reduce((most, bar) => Math.max(most, bar.attempt.begin + bar.attempt.seconds), begin + 0.001);
  const across = (time) => LABEL + ((time - begin) / (end - begin)) * (canvas.clientWidth - LABEL - 1);

  const paint = () => {
    const ratio = window.devicePixelRatio || 1;
    const height = data.lanes.length * LANE + 22;
    canvas.style.height = height + "px";
    canvas.width = canvas.clientWidth * ratio;
    canvas.height = height * ratio;
    const pen = canvas.getContext("2d");
    pen.scale(ratio, ratio);
    pen.font = "12px system-ui, sans-serif";
    pen.fillStyle = color("dim");
    if (LANE > 12) data.lanes.forEach((lane, at) => pen.fillText(lane, 0, at * LANE + 13, LABEL - 8));
    for (let part = 0; part <= 4; part++) {
      const time = begin + ((end - begin) * part) / 4;
      pen.textAlign = part === 4 ? "right" : part === 0 ? "left" : "center";
      pen.fillText(seconds(time - begin), across(time), height - 5);
    }
    const colors = { succeeded: color("succeeded"), failed: color("failed"), tool_failed: color("skipped"),
      lost: color("lost"), stopped: color("not_run"), unfinished: color("not_run") };
    const ink = color("ink");
    bars.forEach(({ attempt }) => {
      const from = across(attempt.begin);
      const width = Math.max(1, across(attempt.begin + attempt.seconds) - from - 0.5);
      pen.fillStyle = colors[attempt.end];
      pen.fillRect(from, attempt.lane * LANE + GAP, width, LANE - 2 * GAP);
      if (attempt.attempt > 1) {
        pen.fillStyle = ink;
        pen.fillRect(from, (attempt.lane + 0.75) * LANE - GAP / 2, width, LANE / 6);
      }
    });
  };
  const under = (event) => {
    const place = canvas.getBoundingClientRect();
    const lane = Math.floor((event.clientY - place.top) / LANE);
    const x = event.clientX - place.left;
    return bars.find(({ attempt }) => attempt.lane === lane &&
      across(attempt.begin) - 1 <= x && x <= across(attempt.begin + attempt.seconds) + 1);
  };
  canvas.addEventListener("mousemove", (event) => {
    const bar = under(event);
    hint.textContent = bar ? `${bar.item.id}, attempt ${bar.attempt.attempt} in ${bar.attempt.place}: ` +
      `${words(bar.attempt.end)}, ${seconds(bar.attempt.seconds)}` : "";
  });
  canvas.addEventListener("click", (event) => {
    const bar = under(event);
    if (bar) {
      choose(bar.item);
      $("#detail").scrollIntoView({ block: "nearest" });
    }
  });
  if (bars.length) {
    const ends = [...new Set(bars.map(({ attempt }) => attempt.end))];
    const legend = ends.map((end) => element("span", words(end), end));
    if (bars.some(({ attempt }) => attempt.attempt > 1)) legend.push(element("span", "another attempt", "retry"));
    $("#timeline .legend").append(...legend);
    $("#timeline").hidden = false;
    new ResizeObserver(paint).observe($("#timeline"));
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", paint);
    paint();
  }

  // ---- begin
  const restore = () => {
    const view = new URLSearchParams(location.hash.slice(1));
    filter.value = view.get("filter") || "";
    outcome.value = view.get("outcome") || "";
    const key = view.get("sort") || "index";
    sort = { key: key.replace(/^-/, ""), down: key.startsWith("-") };
    select();
  };
  $("#items").hidden = false;
  window.addEventListener("hashchange", restore);
  restore();
  // What it took to open the page, for whoever wonders.
  document.documentElement.dataset.readyAfterMs = Math.round(performance.now());
})();
