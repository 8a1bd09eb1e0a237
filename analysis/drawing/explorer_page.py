"""The page around the charts: controls with labels and units, and a sentence that says where one is."""

import json
from collections.abc import Sequence
from typing import Any

PAGE = """\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Which betas at which batch size?</title>
<style>
  body {{ font: 16px/1.45 system-ui, sans-serif; margin: 0 auto; max-width: 76rem; padding: 0.8rem; color: #222; }}
  h1 {{ font-size: 1.4rem; margin: 0.2rem 0; }}
  h2 {{ font-size: 1.05rem; margin: 0.8rem 0 0.2rem; }}
  #controls {{ display: grid; grid-template-columns: repeat(auto-fit, minmax(16rem, 1fr)); gap: 0.4rem 1.6rem; }}
  .control label {{ display: flex; justify-content: space-between; gap: 1rem; }}
  .control output {{ font-weight: 600; white-space: nowrap; }}
  .control input {{ width: 100%; margin: 0; }}
  .charts {{ display: grid; grid-template-columns: repeat(auto-fit, minmax(min(30rem, 100%), 1fr)); gap: 0 1.6rem; }}
  .charts > section {{ min-width: 0; }}
  .chart {{ width: 100%; }}
  #where {{ background: #f3f3f3; padding: 0.5rem 0.8rem; margin: 0.6rem 0; }}
  .note {{ color: #555; font-size: 0.9rem; }}
</style>
</head>
<body>
<h1>Which betas at which batch size?</h1>
<p class="note">C_total after Cattaneo and Shigida (2026): above 0, Adam's memory and the noise of its batches favour
flat minima; below 0, sharp ones. The theory compares betas at one learning rate. Arrow keys move a slider.</p>
<div id="controls"></div>
<p id="where" role="status" aria-live="polite"></p>
<div class="charts">
<section><h2>C_total against beta2</h2><div id="curve" class="chart"></div>
<p class="note">Triangle: the best beta2 of those shown. Bar: the best ones over the range of the noise scale.</p>
</section>
<section><h2>C_total over batch size and beta2, at the end of these epochs</h2><div id="map" class="chart"></div>
<p class="note">Dashed: lambda = 1/2, where the best beta2 turns; dotted: lambda = 1, where the best beta1 turns;
solid: the chosen batch size. {measured}</p></section>
</div>
<script>{bundle}</script>
<script>
"use strict";
const CONTROLS = {controls};
const N_BATCHES = {n_batches};
const SPECS = {{ curve: {curve}, map: {map} }};
const DATA = {data};
const views = [];
const chosen = {{}};

function shown(value) {{
  const rounded = Number.isInteger(value) ? value : Number(value.toPrecision(3));
  return rounded.toLocaleString("en", {{ maximumSignificantDigits: 15 }});
}}

function nearest(values, wanted) {{
  const away = v => Math.abs(Math.log(v / wanted));
  return values.reduce((best, v) => away(v) < away(best) ? v : best);
}}

function state() {{
  const s = Object.fromEntries(CONTROLS.map(c => [c.name, c.values[chosen[c.name]]]));
  s.batch_size = Math.min(s.batch_size, s.n_samples);
  s.n_batches = nearest(N_BATCHES, s.n_samples / s.batch_size);
  return s;
}}

function where(s) {{
  const lam = (s.n_samples / s.batch_size - 1) / (s.n_samples - 1) * s.noise_scale;
  const turn = l => s.n_samples / (1 + l * (s.n_samples - 1) / s.noise_scale);
  const regime = lam > 1 ? "noise dominates (a small batch)" : lam < 0.5 ? "the gradient dominates (a large batch)"
    : "between the critical batch sizes";
  return `lambda = ${{shown(lam)}}: ${{regime}}. beta2 turns near batch size ${{shown(turn(0.5))}}, beta1 near `
    + `${{shown(turn(1))}} (rule of thumb). An epoch has ${{shown(s.n_samples / s.batch_size)}} batches; `
    + `the exact curve is that of ${{s.n_batches}}.`;
}}

async function update() {{
  const s = state();
  for (const c of CONTROLS) {{
    const text = `${{shown(s[c.name])}} ${{c.unit}}`.trim();
    document.getElementById(`${{c.name}}_shown`).textContent = text;
    document.getElementById(c.name).setAttribute("aria-valuetext", text);
  }}
  document.getElementById("where").textContent = where(s);
  for (const view of views) {{
    for (const [name, value] of Object.entries(s)) view.signal(name, value);
    await view.runAsync();
  }}
  document.body.dataset.drawn = JSON.stringify(s);
}}

for (const c of CONTROLS) {{
  chosen[c.name] = c.start;
  const box = document.createElement("div");
  box.className = "control";
  box.innerHTML = `<label for="${{c.name}}"><span></span><output id="${{c.name}}_shown"></output></label>`
    + `<input type="range" id="${{c.name}}" min="0" max="${{c.values.length - 1}}" step="1" value="${{c.start}}">`;
  box.querySelector("span").textContent = c.label;
  box.querySelector("input").addEventListener("input", event => {{
    chosen[c.name] = Number(event.target.value);
    update();
  }});
  document.getElementById("controls").append(box);
}}

(async () => {{
  for (const [name, table] of Object.entries(DATA)) {{
    DATA[name] = table.rows.map(row => Object.fromEntries(table.columns.map((column, i) => [column, row[i]])));
  }}
  for (const [name, spec] of Object.entries(SPECS)) {{
    const made = await vegaEmbed(`#${{name}}`, {{ ...spec, datasets: DATA }}, {{ actions: false, renderer: "svg" }});
    views.push(made.view);
  }}
  await update();
}})();
</script>
</body>
</html>
"""


def control(name: str, label: str, unit: str, values: Sequence[float], start: float) -> dict[str, Any]:
    """Describe a slider over a list of values.

    Parameters
    ----------
    name : str
        Of the charts' parameter.
    label, unit : str
    values : sequence of float
    start : float
        One of them.
    """
    return {
        "name": name,
        "label": label,
        "unit": unit,
        "values": list(values),
        "start": list(values).index(start),
    }


def _script(value: Any) -> str:
    """JSON that may stand inside of a script element."""
    return json.dumps(value, separators=(",", ":"), allow_nan=False).replace("</", "<\\/")


def _table(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Rows without the names of the columns, which would be most of the page."""
    return {"columns": list(rows[0]) if rows else [], "rows": [list(row.values()) for row in rows]}


def page(
    curve: dict[str, Any],
    map_of_turns: dict[str, Any],
    data: dict[str, list[dict[str, Any]]],
    controls: list[dict[str, Any]],
    n_batches: Sequence[int],
    bundle: str,
    measured: str,
) -> str:
    """Return the whole page, which asks no network for anything.

    Parameters
    ----------
    curve, map_of_turns : dict
        Vega-Lite specifications.
    data : dict of str to list of dict
        The data sets that they name.
    controls : list of dict
        Of `control`.
    n_batches : sequence of int
        For which there are exact curves.
    bundle : str
        JavaScript that defines `vegaEmbed`.
    measured : str
        A sentence on the points in the map.
    """
    return PAGE.format(
        curve=_script(curve),
        map=_script(map_of_turns),
        data=_script({name: _table(rows) for name, rows in data.items()}),
        controls=_script(controls),
        n_batches=_script(list(n_batches)),
        bundle=bundle.replace("</script", "<\\/script"),
        measured=measured,
    )
