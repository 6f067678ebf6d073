// The timeline and the table of work items, from the JSON in #data. Whatever comes from the run is put in as text.
// What is filtered, sorted and chosen is in the address after #, so that a view can be passed on.
//
// From a server, the page is fetched again and again, and what is new in it takes the place of the old; so does what is
// new in the log of the work item that is chosen.
"use strict";
(() => {
  const ROW = 28; // pixels, as in page.css
  const LABEL = 90;
  const LOG = 1 << 18; // characters of a log that are shown at most
  const live = Number(document.documentElement.dataset.live || 0); // seconds between two looks at the server, if there is one
  let data, lane, gap, items, haystacks, bars, begin, end;
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
  const state = (item) => (item.running ? "running" : item.outcome);
  const why = (item) => item.message || [...new Set(item.stages.map((stage) => stage.reason))].join(", ");

  // ---- the table
  const columns = [
    { key: "index", title: "#", of: (item) => item.index },
    { key: "id", title: "Work item", of: (item) => item.id },
    { key: "phase", title: "Phase", of: (item) => item.phase },
    { key: "outcome", title: "Outcome", of: state, show: (item) => words(state(item)) },
    { key: "attempts", title: "Attempts", of: (item) => item.attempts.length },
    { key: "seconds", title: "Time", of: (item) => item.seconds, show: (item) => seconds(item.seconds) },
    { key: "why", title: "Where and why", of: why, show: (item) => [places(item), why(item)].filter(Boolean).join(": ") },
  ];
  const filter = $("#items input");
  const outcome = $("#items select");
  const body = $("#items .body");
  const rows = $("#items .rows");
  let sort = { key: "index", down: false };
  let shown = [];
  let chosen = null;

  // Takes a report for what is shown from now on.
  const take = (text) => {
    const before = data;
    data = JSON.parse(text);
    items = data.work_items;
    haystacks = items.map((item) =>
      [item.id, item.message || "", places(item), ...item.stages.flatMap((stage) => [stage.address, stage.reason])]
        .join("\n").toLowerCase());
    // A browser paints nothing on a canvas that is higher than 65,535 device pixels, of which a pixel may be two.
    lane = Math.max(1, Math.min(18, Math.floor(30000 / data.lanes.length)));
    gap = lane < 8 ? 0 : 2;
    bars = items.flatMap((item) => item.attempts.map((attempt) => ({ item, attempt })));
    begin = bars.reduce((least, bar) => Math.min(least, bar.attempt.begin), Infinity);
    end = bars.reduce((most, bar) => Math.max(most, bar.attempt.begin + bar.attempt.seconds), begin + 0.001);
    const numbers = new Map(Object.keys(data.counts).map((name) => [name, 0]));
    items.forEach((item) => numbers.set(state(item), (numbers.get(state(item)) || 0) + 1));
    const wanted = outcome.value;
    outcome.replaceChildren(element("option", "all outcomes"), ...[...numbers].map(([name, number]) => {
      const option = element("option", `${words(name)} (${number})`);
      option.value = name;
      return option;
    }));
    outcome.firstChild.value = "";
    outcome.value = numbers.has(wanted) ? wanted : "";
    if (chosen) chosen = (before.run === data.run && items[chosen.index]) || null;
  };

  const select = () => {
    const wanted = filter.value.toLowerCase();
    const column = columns.find((column) => column.key === sort.key) || columns[0];
    const keys = new Map();
    shown = items.filter((item, at) =>
      (!outcome.value || state(item) === outcome.value) && (!wanted || haystacks[at].includes(wanted)));
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
    if (chosen) view.set("item", chosen.index);
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
        const cell = element("span", (column.show || column.of)(item), column.key === "outcome" ? state(item) : "");
        cell.setAttribute("role", "cell");
        row.append(cell);
      });
      return row;
    }));
  };

  const describe = (item) => {
    const detail = element("div");
    detail.append(element("h2", item.id));
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
    if (item.tail.length && !live) detail.append(element("pre", item.tail.join("\n")));
    if (item.log) detail.append(element("p", "log: " + item.log));
    return detail;
  };

  const choose = (item) => {
    chosen = item;
    $("#detail").replaceChildren(describe(item));
    select();
    if (live) follow(item.index);
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
  const across = (time) => LABEL + ((time - begin) / (end - begin)) * (canvas.clientWidth - LABEL - 1);

  const paint = () => {
    const ratio = window.devicePixelRatio || 1;
    const height = data.lanes.length * lane + 22;
    canvas.style.height = height + "px";
    canvas.width = canvas.clientWidth * ratio;
    canvas.height = height * ratio;
    const pen = canvas.getContext("2d");
    pen.scale(ratio, ratio);
    pen.font = "12px system-ui, sans-serif";
    pen.fillStyle = color("dim");
    if (lane > 12) data.lanes.forEach((name, at) => pen.fillText(name, 0, at * lane + 13, LABEL - 8));
    for (let part = 0; part <= 4; part++) {
      const time = begin + ((end - begin) * part) / 4;
      pen.textAlign = part === 4 ? "right" : part === 0 ? "left" : "center";
      pen.fillText(seconds(time - begin), across(time), height - 5);
    }
    const colors = { succeeded: color("succeeded"), failed: color("failed"), tool_failed: color("skipped"),
      lost: color("lost"), stopped: color("not_run"), unfinished: color("running") };
    const ink = color("ink");
    bars.forEach(({ attempt }) => {
      const from = across(attempt.begin);
      const width = Math.max(1, across(attempt.begin + attempt.seconds) - from - 0.5);
      pen.fillStyle = colors[attempt.end];
      pen.fillRect(from, attempt.lane * lane + gap, width, lane - 2 * gap);
      if (attempt.attempt > 1) {
        pen.fillStyle = ink;
        pen.fillRect(from, (attempt.lane + 0.75) * lane - gap / 2, width, lane / 6);
      }
    });
  };
  const under = (event) => {
    const place = canvas.getBoundingClientRect();
    const at = Math.floor((event.clientY - place.top) / lane);
    const x = event.clientX - place.left;
    return bars.find(({ attempt }) => attempt.lane === at &&
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
  const begun = () => {
    if (!bars.length) return;
    const ends = [...new Set(bars.map(({ attempt }) => attempt.end))];
    const legend = ends.map((end) => element("span", words(end), end));
    if (bars.some(({ attempt }) => attempt.attempt > 1)) legend.push(element("span", "another attempt", "retry"));
    $("#timeline .legend").replaceChildren(...legend);
    $("#timeline").hidden = false;
    paint();
  };
  new ResizeObserver(() => bars.length && paint()).observe($("#timeline"));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => bars.length && paint());

  // ---- a log that is followed
  let reading = 0;
  const follow = async (index) => {
    const own = ++reading;
    const pre = element("pre");
    pre.className = "log";
    $("#detail").append(pre);
    let from = "";
    let attempt = "";
    while (own === reading) {
      try {
        const answer = await fetch(`log?item=${index}&from=${from}&attempt=${attempt}`, { cache: "no-store" });
        const text = await answer.text();
        if (own !== reading) return;
        if (answer.ok) {
          const isNew = attempt !== answer.headers.get("x-attempt");
          const atEnd = pre.scrollTop + pre.clientHeight >= pre.scrollHeight - 4;
          [from, attempt] = [answer.headers.get("x-next"), answer.headers.get("x-attempt")];
          // Without what would colour a terminal.
          const plain = text.replace(/\u001b\[[0-?]*[ -/]*[@-~]/g, "");
          if (plain || isNew) pre.textContent = ((isNew ? "" : pre.textContent) + plain).slice(-LOG);
          if (atEnd) pre.scrollTop = pre.scrollHeight;
        }
      } catch {
        // The page says itself that nobody answers.
      }
      await new Promise((done) => setTimeout(done, 1000));
    }
  };

  // ---- a page that is fetched again
  const swap = (next) => {
    document.title = next.title;
    for (const selector of ["header", "#told", "#sources"]) {
      const [old, made] = [$(selector), next.querySelector(selector)];
      if (old.innerHTML === made.innerHTML) continue;
      const open = new Set([...old.querySelectorAll("details[open]")].map((failure) => failure.dataset.item));
      const known = new Set([...old.querySelectorAll("details")].map((failure) => failure.dataset.item));
      made.querySelectorAll("details").forEach((failure) => {
        if (known.has(failure.dataset.item)) failure.open = open.has(failure.dataset.item);
      });
      old.replaceWith(document.importNode(made, true));
    }
    take(next.querySelector("#data").textContent);
    if (chosen) {
      $("#detail > div").replaceWith(describe(chosen));
    } else {
      reading++;
      $("#detail").replaceChildren();
    }
    select();
    begun();
  };
  const refresh = async () => {
    const began = performance.now();
    let answered = false;
    try {
      const answer = await fetch(location.pathname, { cache: "no-store" });
      if (answer.ok) swap(new DOMParser().parseFromString(await answer.text(), "text/html"));
      answered = answer.ok;
    } catch {
      // It is asked again.
    }
    $("#away").hidden = answered;
    if (answered) document.documentElement.dataset.refreshedInMs = Math.round(performance.now() - began);
    // The larger the page, the less often; where nothing runs, another run may begin.
    const pause = Math.max((data.on ? live : 5 * live) * 1000, 10 * (performance.now() - began));
    setTimeout(refresh, pause);
  };

  // ---- begin
  const restore = () => {
    const view = new URLSearchParams(location.hash.slice(1));
    filter.value = view.get("filter") || "";
    outcome.value = view.get("outcome") || "";
    const key = view.get("sort") || "index";
    sort = { key: key.replace(/^-/, ""), down: key.startsWith("-") };
    const item = items[view.get("item") ?? -1];
    if (item && item !== chosen) choose(item);
    else select();
  };
  take($("#data").textContent);
  $("#items").hidden = false;
  window.addEventListener("hashchange", restore);
  restore();
  begun();
  if (live) setTimeout(refresh, live * 1000);
  // What it took to open the page, for whoever wonders.
  document.documentElement.dataset.readyAfterMs = Math.round(performance.now());
})();
