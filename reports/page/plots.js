// Figures. plots.py has the data, a list of panels for each; every panel is a plot of its own.
const { plots, grids } = JSON.parse(document.getElementById("plots").textContent);
const style = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const faint = (colour, alpha) => colour + Math.round(alpha * 255).toString(16).padStart(2, "0");
const label = (text) => text.replace(/&/g, "&amp;").replace(/</g, "&lt;");
const escaped = (text) => label(text).replace(/%/g, "&#37;");

function lines(panel, hidden, every) {
  const traces = [];
  for (const one of panel.series) {
    const shared = { legendgroup: one.label, mode: "lines", visible: !hidden.has(one.label), showlegend: false };
    const x = grids[one.x_mean ?? one.x];
    if (one.low) {
      const edge = { ...shared, x, line: { width: 0 }, hoverinfo: "skip" };
      traces.push({ ...edge, y: one.low }, { ...edge, y: one.high, fill: "tonexty", fillcolor: faint(one.colour, 0.15) });
    }
    if (every && one.seeds) {
      const steps = [], values = [], seeds = [];
      for (const [seed, returns] of Object.entries(one.seeds)) {
        steps.push(...grids[one.x], null), values.push(...returns, null), seeds.push(...returns.map(() => seed), null);
      }
      traces.push({
        ...shared, x: steps, y: values, customdata: seeds, line: { color: faint(one.colour, 0.45), width: 1 },
        hovertemplate: `${escaped(one.label)}, seed %{customdata}<br>%{x:,}: <b>%{y:.4~r}</b><extra></extra>`,
      });
    }
    if (one.mean) {
      traces.push({
        ...shared, x, y: one.mean, name: label(one.label), line: { color: one.colour, width: 2, dash: one.dash },
        customdata: (one.low ?? []).map((low, k) => ` [${low?.toPrecision(4)}, ${one.high[k]?.toPrecision(4)}]`),
        hovertemplate: `${escaped(one.label)}<br>%{x:,}: <b>%{y:.4~r}</b>${one.low ? "%{customdata}" : ""}<extra></extra>`,
      });
    }
  }
  return traces;
}

function dots(panel, hidden) {
  const shown = panel.dots.filter((one) => !hidden.has(one.label)).reverse();
  return shown.map((one) => {
    const [value, low, high] = one.value;
    return {
      x: [value], y: [label(one.label)], mode: "markers", showlegend: false,
      marker: { color: one.colour, size: 9 },
      error_x: { type: "data", symmetric: false, array: [high - value], arrayminus: [value - low], color: one.colour, thickness: 3, width: 0 },
      hovertemplate: `${escaped(one.label)}<br><b>${value?.toPrecision(3)}</b> [${low?.toPrecision(3)}, ${high?.toPrecision(3)}]<extra></extra>`,
    };
  });
}

// The y axis covers means, seeds and levels; wider bands are clipped.
function range(panel) {
  const values = panel.series.flatMap((one) => [...(one.mean ?? []), ...Object.values(one.seeds ?? {}).flat()]);
  const all = [...values, ...(panel.levels ?? []).map(([, value]) => value)].filter((value) => value !== null);
  const [low, high] = [Math.min(...all), Math.max(...all)];
  const margin = 0.04 * (high - low) || 1;
  return [low - margin, high + margin];
}

function layout(panel) {
  const ink = style("--ink"), soft = style("--soft"), grid = style("--grid");
  const axis = { gridcolor: grid, zerolinecolor: grid, linecolor: soft, tickcolor: soft, automargin: true, fixedrange: Boolean(panel.dots) };
  const title = (text) => ({ text: label(text), font: { size: 12, color: soft }, standoff: 8 });
  const shared = {
    paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", font: { color: ink, size: 12, family: "system-ui, sans-serif" },
    margin: { l: 8, r: 12, t: panel.title ? 28 : 12, b: 8 }, hovermode: "closest", showlegend: false, dragmode: "zoom",
    title: panel.title ? { text: label(panel.title), font: { size: 13 }, x: 0, xref: "paper", y: 1, yref: "container", pad: { t: 8 } } : undefined,
    hoverlabel: { bgcolor: style("--page"), bordercolor: soft, font: { color: ink, size: 12 } },
  };
  if (panel.dots) return { ...shared, xaxis: { ...axis, nticks: 5 }, yaxis: { ...axis, ticklen: 0, showgrid: false } };
  const limits = range(panel);
  return {
    ...shared,
    xaxis: { ...axis, title: title(panel.x), nticks: 6, zeroline: false, ...(panel.ticks && { tickvals: panel.ticks.map((_, k) => k), ticktext: panel.ticks.map(label) }) },
    yaxis: { ...axis, title: title(panel.y), zeroline: false, nticks: 7, ...(panel.log ? { type: "log" } : { range: limits }) },
    shapes: (panel.levels ?? []).map(([, value]) => ({ type: "line", xref: "paper", x0: 0, x1: 1, y0: value, y1: value, line: { color: soft, width: 1, dash: "dot" } })),
    annotations: (panel.levels ?? []).map(([name, value]) => ({
      text: name, xref: "paper", x: 1, xanchor: "right", y: value, yanchor: "bottom", showarrow: false, font: { size: 11, color: soft },
    })),
  };
}

const redraws = [];

function draw(place) {
  if (place.dataset.drawn) return;
  place.dataset.drawn = "yes";
  const plot = plots[place.dataset.plot];
  const hidden = new Set();
  let every = Boolean(plot.seeds) && plot.panels[0].series.length <= 4;
  let chosen = 0;
  const keys = document.createElement("div");
  keys.className = "keys";
  const panels = plot.choose ? [plot.panels[0]] : plot.panels;
  const boxes = panels.map((panel) => Object.assign(document.createElement("div"), { className: panel.dots ? "panel dots" : "panel" }));
  place.replaceChildren(keys, ...boxes);
  const redraw = () => boxes.forEach((box, k) => {
    const panel = plot.choose ? plot.panels[chosen] : panels[k];
    const traces = panel.dots ? dots(panel, hidden) : lines(panel, hidden, every);
    if (panel.dots) box.style.height = `${90 + 22 * traces.length}px`;
    Plotly.react(box, traces, layout(panel), { responsive: true, displayModeBar: false });
  });
  if (plot.choose) {
    const choice = document.createElement("select");
    choice.ariaLabel = "metric or measure";
    choice.append(...plot.panels.map((panel, k) => new Option(panel.title, k)));
    choice.addEventListener("change", () => { chosen = Number(choice.value); redraw(); });
    keys.append(choice);
  }
  const systems = new Map(plot.panels.flatMap((panel) => (panel.series ?? panel.dots).map((one) => [one.label, one])));
  for (const [name, one] of systems) {
    const button = document.createElement("button");
    button.type = "button";
    button.ariaPressed = "true";
    button.title = "hide or show";
    const chip = document.createElement("span");
    chip.className = one.dash === "dash" ? "chip dashed" : "chip";
    chip.style.color = one.colour;
    button.append(chip, name);
    button.addEventListener("click", () => {
      if (!hidden.delete(name)) hidden.add(name);
      button.ariaPressed = String(!hidden.has(name));
      redraw();
    });
    if (systems.size > 1 && !plot.panels[0].dots) keys.append(button);
  }
  if (plot.seeds) {
    const box = Object.assign(document.createElement("input"), { type: "checkbox", checked: every });
    const text = document.createElement("label");
    text.append(box, " every seed");
    box.addEventListener("change", () => { every = box.checked; redraw(); });
    keys.append(text);
  }
  redraw();
  redraws.push(redraw);
}

const places = [...document.querySelectorAll(".plot")];
const near = new IntersectionObserver((entries) => {
  for (const entry of entries) if (entry.isIntersecting) draw(entry.target);
}, { rootMargin: "500px" });
for (const place of places) {
  const box = place.getBoundingClientRect();
  if (place.offsetParent && box.top < innerHeight) draw(place);  // the first screen, at once
  else near.observe(place);
}
addEventListener("beforeprint", () => places.forEach((place) => { if (place.offsetParent) draw(place); }));
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => redraws.forEach((redraw) => redraw()));
