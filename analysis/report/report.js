// Replaces the page's figures by interactive ones as they come into view. The page is complete
// without this script: where Plotly cannot be unpacked, the static figures stay.
(() => {
  "use strict";
  const data = JSON.parse(document.getElementById("data").textContent);
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const lit = new Map();
  const waiting = [];
  let busy = false;
  const ruler = document.createElement("canvas").getContext("2d");
  ruler.font = `12px ${getComputedStyle(document.body).fontFamily}`;

  async function unpack() {
    const packed = atob(document.getElementById("plotly").textContent);
    const bytes = Uint8Array.from(packed, (letter) => letter.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    const script = document.createElement("script");
    script.textContent = await new Response(stream).text();
    document.head.append(script);
    return window.Plotly;
  }
  let plotly = null;

  const escaped = (text) => String(text).replace(/&/g, "&amp;").replace(/</g, "&lt;");
  const shade = (colour) => (dark.matches && data.dark[String(colour).toLowerCase()]) || colour;
  const tint = (colour) => {
    const [red, green, blue] = [1, 3, 5].map((i) => parseInt(colour.slice(i, i + 2), 16));
    return `rgba(${red},${green},${blue},${dark.matches ? 0.2 : 0.14})`;
  };

  // Rows of a legend whose entries flow like words: Plotly would take their room from the axes.
  function legendRows(traces, width) {
    const named = traces.filter((trace) => trace.showlegend !== false);
    let [rows, used] = [1, 0];
    for (const { name } of named) {
      const entry = 46 + ruler.measureText(name).width;
      if (used && used + entry > width) [rows, used] = [rows + 1, 0];
      used += entry;
    }
    return rows;
  }

  // A text in lines that fit, broken at spaces and separators.
  function broken(text, width, size) {
    const fits = (line) => (ruler.measureText(line).width * size) / 12 <= width;
    const lines = [""];
    for (const word of text.split(" ")) {
      if (lines.at(-1) && !fits(`${lines.at(-1)} ${word}`)) lines.push("");
      lines[lines.length - 1] += lines.at(-1) && " ";
      for (const piece of word.split(/(?<=[-_/:,+@])/)) {
        if (lines.at(-1) && !fits(lines.at(-1) + piece)) lines.push("");
        lines[lines.length - 1] += piece;
      }
    }
    return lines.map(escaped);
  }

  // The figure in the page's colours, with the words of each point.
  function dressed(figure, width) {
    const style = getComputedStyle(document.documentElement);
    const of = (name) => style.getPropertyValue(name).trim();
    const traces = structuredClone(figure.data);
    for (const trace of traces) {
      if (trace.line) trace.line.color = shade(trace.line.color);
      if (trace.fill) trace.fillcolor = tint(trace.line.color);
      if (trace.marker) {
        trace.marker.color = shade(trace.marker.color);
        if (trace.marker.line) trace.marker.line.color = of("--card");
      }
      if (trace.customdata && trace.customdata.length) {
        trace.text = trace.customdata.map((number, i) => {
          const point = data.points[number];
          const lines = point ? point.lines.map(escaped) : [];
          const hint = point && point.run ? ["<i>click for its MLflow run</i>"] : [];
          const interval = trace.text && trace.text[i] ? " " + trace.text[i] : "";
          return [interval, ...lines, ...hint].join("<br>");
        });
        trace.hovertemplate = `<b>${escaped(trace.name)}</b> %{y:.4g} at %{x:.4g}%{text}<extra></extra>`;
      } else if (trace.hovertemplate && !trace.hovertemplate.includes("<extra>")) {
        trace.hovertemplate = `<b>${escaped(trace.name)}</b> ${trace.hovertemplate}<extra></extra>`;
      }
    }
    const layout = structuredClone(figure.layout);
    layout.font.color = layout.title.font.color = of("--ink");
    const room = width - layout.margin.l - layout.margin.r;
    const title = broken(layout.title.text, room * 0.92, 15);
    layout.title.text = title.join("<br>");
    const head = [19 * (title.length - 1), 0];
    if (layout.title.subtitle) {
      const names = broken(layout.title.subtitle.text, room, 12);
      layout.title.subtitle.text = names.join("<br>");
      layout.title.subtitle.font.color = of("--muted");
      head[1] = 16 * names.length + 6;
    }
    layout.font.family = getComputedStyle(document.body).fontFamily;
    layout.hoverlabel.bgcolor = of("--soft");
    layout.hoverlabel.bordercolor = of("--line");
    layout.hoverlabel.font = { color: of("--ink"), size: 12 };
    for (const [name, axis] of Object.entries(layout)) {
      if (!/^[xy]axis\d*$/.test(name)) continue;
      axis.gridcolor = of("--grid");
      axis.linecolor = of("--muted");
    }
    const rows = 19 * legendRows(traces, room) + 8;
    const axes = layout.height - layout.margin.t - layout.margin.b;
    layout.legend.y = -layout.margin.b / axes;
    layout.height += rows + head[0] + head[1];
    layout.margin.b += rows;
    layout.margin.t += head[0] + head[1];
    Object.assign(layout.title, { yref: "container", yanchor: "top", y: 1 - 10 / layout.height });
    layout.width = width;
    return [traces, layout];
  }

  async function light(figure) {
    plotly = plotly || (await unpack());
    const place = document.createElement("div");
    place.className = "live";
    figure.querySelector(".still").after(place);
    figure.classList.add("lit");
    const said = data.figures[figure.dataset.live];
    const alt = figure.querySelector(".still").getAttribute("aria-label");
    place.setAttribute("role", "group");
    place.setAttribute("aria-label", alt);
    const options = {
      displayModeBar: place.clientWidth < 480 ? false : "hover",
      displaylogo: false,
      modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d"],
      toImageButtonOptions: { format: "svg", filename: figure.dataset.live },
    };
    await plotly.newPlot(place, ...dressed(said, place.clientWidth), options);
    place.on("plotly_click", (event) => pick(figure, event.points[0]));
    lit.set(figure, place);
    document.documentElement.dataset.lit = lit.size;
  }

  // Below the figure: the clicked point, and links to its MLflow run and its settings.
  function pick(figure, chosen) {
    const point = data.points[chosen.customdata];
    if (!point) return;
    let box = figure.querySelector(".picked");
    if (!box) {
      box = document.createElement("div");
      box.className = "picked";
      box.setAttribute("role", "status");
      figure.append(box);
    }
    const value = `${chosen.y.toPrecision(4)} at ${chosen.x.toPrecision(4)}`;
    const lines = [`${point.name}: ${value}`, ...point.lines].map((text) => {
      const line = document.createElement("span");
      line.textContent = text;
      return line;
    });
    const links = [["how it was made", `#p${chosen.customdata}`]];
    if (point.run) {
      links.unshift(["MLflow run", `${data.mlflow}/#/runs/${encodeURIComponent(point.run)}`]);
    }
    const anchors = links.map(([text, to]) => {
      const anchor = document.createElement("a");
      anchor.textContent = text;
      anchor.href = to;
      if (!to.startsWith("#")) Object.assign(anchor, { target: "_blank", rel: "noreferrer" });
      return anchor;
    });
    box.replaceChildren(...lines, ...anchors);
  }

  // One after the other, so that the page stays responsive.
  async function work() {
    if (busy) return;
    busy = true;
    while (waiting.length) {
      const figure = waiting.shift();
      try {
        await light(figure);
      } catch (error) {
        figure.classList.remove("lit");
        figure.querySelector(".live")?.remove();
        console.error(error);
      }
      await new Promise((next) => setTimeout(next));
    }
    busy = false;
  }

  function redraw() {
    for (const [figure, place] of lit) {
      plotly.react(place, ...dressed(data.figures[figure.dataset.live], place.clientWidth));
    }
  }

  // The part of the page that a link leads to is unfolded, with all that it is in.
  function open() {
    const target = location.hash.length > 1 && document.getElementById(location.hash.slice(1));
    if (!target) return;
    for (let part = target; part; part = part.parentElement) {
      if (part.tagName === "DETAILS") part.open = true;
    }
    target.scrollIntoView();
  }

  addEventListener("hashchange", open);
  open();
  if (!("DecompressionStream" in window)) return;
  const watcher = new IntersectionObserver(
    (seen) => {
      for (const entry of seen.filter((one) => one.isIntersecting)) {
        watcher.unobserve(entry.target);
        waiting.push(entry.target);
      }
      work();
    },
    { rootMargin: "300px" },
  );
  addEventListener("load", () => {
    for (const figure of document.querySelectorAll("figure[data-live]")) watcher.observe(figure);
  });
  dark.addEventListener("change", redraw);
  let resizing = 0;
  addEventListener("resize", () => {
    clearTimeout(resizing);
    resizing = setTimeout(redraw, 200);
  });
})();
