// Asks /status.json once a second and shows it. Everything is set as text, never as markup.
"use strict";

const SVG = "http://www.w3.org/2000/svg";
const EVERY_MS = 1000;
const number = new Intl.NumberFormat("en");
const $ = (id) => document.getElementById(id);
let paused = false;

function make(name, text, attributes = {}) {
  const node = document.createElement(name);
  if (text !== undefined) node.textContent = text;
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  return node;
}

function bytes(value) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  while (value >= 1024 && unit < units.length - 1) { value /= 1024; unit += 1; }
  return `${unit ? value.toFixed(1) : value} ${units[unit]}`;
}

function time(seconds) {
  const days = Math.floor(seconds / 86400), hours = Math.floor(seconds / 3600) % 24;
  const minutes = Math.floor(seconds / 60) % 60;
  if (days) return `${days} d ${hours} h`;
  return hours ? `${hours} h ${minutes} min` : minutes ? `${minutes} min` : `${seconds} s`;
}

function sum(counters, name) {
  let total = 0;
  for (const [key, value] of Object.entries(counters)) if (key.startsWith(`${name}{`)) total += value;
  return total;
}

function tiles(counters) {
  const get = (name) => counters[`delta_sync_${name}`] ?? 0;
  const shown = [
    ["Up for", time(get("uptime_seconds"))],
    ["Subscribers", number.format(get("sockets"))],
    ["Connections", number.format(get("connections"))],
    ["Operations stored", number.format(get("operations_stored_total"))],
    ["Pushed live", number.format(get("operations_pushed_total"))],
    ["Signals", number.format(get("signals_total"))],
    ["Packets dropped", number.format(sum(counters, "delta_sync_packets_dropped_total"))],
    ["Requests refused", number.format(sum(counters, "delta_sync_refused_total"))],
    ["In flight", bytes(get("in_flight_bytes"))],
    ["Database", bytes(get("database_bytes"))],
    ["Disk free", bytes(get("disk_free_bytes"))],
    ["Live buffers", bytes(get("live_buffer_bytes"))],
  ];
  $("tiles").replaceChildren(...shown.map(([name, value]) => {
    const tile = make("div");
    tile.append(make("dt", name), make("dd", value));
    return tile;
  }));
}

function plot(name, values) {
  const figure = make("figure"), caption = make("figcaption");
  const last = values.at(-1) ?? 0, top = Math.max(1, ...values);
  caption.append(make("span", name), make("strong", `${number.format(last)} / s`));
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 300 100");
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("role", "img");
  svg.setAttribute("aria-label", `${name}: now ${last}, at most ${Math.max(0, ...values)} per second`);
  const draw = (kind, attributes) => {
    const node = document.createElementNS(SVG, kind);
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    svg.append(node);
  };
  draw("line", { class: "base", x1: 0, x2: 300, y1: 99, y2: 99 });
  const points = values.map((value, index) => {
    const x = 300 - (values.length - 1 - index), y = 98 - (value / top) * 94;
    return `${x},${y.toFixed(1)}`;
  });
  if (points.length > 1) {
    const start = 300 - (values.length - 1);
    draw("polygon", { class: "area", points: `${start},98 ${points.join(" ")} 300,98` });
    draw("polyline", { class: "curve", points: points.join(" ") });
  }
  const axis = make("div", undefined, { class: "axis" });
  axis.append(make("span", "5 min ago"), make("span", `top ${number.format(top)} / s`), make("span", "now"));
  figure.append(caption, svg, axis);
  return figure;
}

function rows(id, list, empty) {
  const lines = list.map((cells) => {
    const line = make("tr");
    cells.forEach((cell) => line.append(cell instanceof Node ? cell : make("td", cell)));
    return line;
  });
  if (!lines.length) {
    const line = make("tr");
    line.append(make("td", empty, { colspan: 4 }));
    lines.push(line);
  }
  $(id).replaceChildren(...lines);
}

function show(status) {
  tiles(status.counters);
  $("plots").replaceChildren(
    plot("Deliveries taken", status.per_second.packets),
    plot("Operations stored", status.per_second.stored),
    plot("Operations pushed", status.per_second.pushed),
  );
  rows("topics", status.topics.map((topic) =>
    [topic.id, bytes(topic.bytes), number.format(topic.operations), number.format(topic.subscribers)]), "No topics yet.");
  const most = Math.max(1, ...status.commits.map((bucket) => bucket.count));
  rows("commits", status.commits.map((bucket) => {
    const bar = make("td", undefined, { class: "bar" });
    bar.append(make("progress", undefined,
      { max: most, value: bucket.count, "aria-label": `${bucket.deliveries}: ${bucket.count} commits` }));
    return [bucket.deliveries, number.format(bucket.count), bar];
  }));
  rows("counters", Object.entries(status.counters).map(([name, value]) => [name, number.format(value)]));
  $("about").textContent = `Version ${status.version}, server ${status.server}`;
  const low = status.counters.delta_sync_disk_low > 0;
  state(low ? "Deliveries are refused: the disk is full, low or failing." : "Serving.", low);
}

function state(text, bad) {
  // Set only when it changes, or a screen reader would read it every second.
  if ($("state").textContent !== text) $("state").textContent = text;
  $("state").classList.toggle("bad", bad);
}

async function refresh() {
  if (!paused && !document.hidden) {
    try {
      const answer = await fetch("status.json", { cache: "no-store" });
      if (!answer.ok) throw new Error(`status ${answer.status}`);
      show(await answer.json());
    } catch {
      state("The server does not answer.", true);
    }
  }
  setTimeout(refresh, EVERY_MS);
}

$("pause").addEventListener("click", () => {
  paused = !paused;
  $("pause").setAttribute("aria-pressed", String(paused));
  $("pause").textContent = paused ? "Go on" : "Pause";
});

refresh();
