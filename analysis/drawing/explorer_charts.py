"""The two charts of the page to explore, as Vega-Lite specifications whose parameters the page's controls set."""

from typing import Any

MEMORY_TICKS = (0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.999)
PARAMETERS = {
    "n_samples": 50_000, "batch_size": 512, "noise_scale": 300, "spread": 1.5, "beta1": 0.9, "n_epochs": 10,
    "n_batches": 128,
}  # fmt: skip
"""Names that the page sets, and what they are before it does."""
LAM = "((n_samples / batch_size - 1) / max(n_samples - 1, 1) * noise_scale)"
"""Noise-to-signal ratio of a batch gradient (`theory.noise_to_signal`)."""
LIMIT, EXACT = "limit of many steps", "exact, end of these epochs"
COLOURS = {LIMIT: "#444444", EXACT: "#0072b2"}
RANGE = "#d55e00"
CURVE = (
    "C_total against beta2: the limit of many steps, dashed, and exactly at the end of the chosen epochs, solid; a bar "
    "on top marks the best beta2 over the range of the noise scale."
)
MAP = (
    "Map of C_total over batch size and beta2; vertical lines mark the batch sizes where the preferred betas turn, and "
    "the chosen one; points are best values that were measured."
)


def _parameters() -> list[Any]:
    import altair as alt

    return [alt.param(name=name, value=value) for name, value in PARAMETERS.items()]


def _memory_axis(title: str) -> Any:
    """Axis of beta2 whose scale is the logarithm of the memory 1/(1 - beta2)."""
    import altair as alt

    values = [1 / (1 - beta) for beta in MEMORY_TICKS]
    return alt.Axis(
        title=title,
        values=values,
        labelExpr="format(1 - 1 / datum.value, '~r')",
        labelOverlap=True,
        grid=False,
    )


def curve() -> dict[str, Any]:
    """C_total against beta2 in the limit and exactly, with the best beta2 over the range of the noise scale.

    Returns
    -------
    dict
        A Vega-Lite specification; its data sets "exact" and "limit" are those of `analysis.reductions.explorer`.
    """
    import altair as alt

    chosen = "datum.beta1 == beta1 && datum.n_epochs == n_epochs && datum.n_batches == n_batches"
    x = alt.X("memory:Q", scale=alt.Scale(type="log", nice=False), axis=_memory_axis("beta2"))
    y = alt.Y("c_total:Q", scale=alt.Scale(type="symlog"), axis=alt.Axis(title="C_total", tickCount=7))
    kind = alt.Color(
        "kind:N",
        scale=alt.Scale(domain=list(COLOURS), range=list(COLOURS.values())),
        legend=alt.Legend(title=None, orient="top", labelLimit=300),
    )
    tips = [alt.Tooltip("beta2:Q"), alt.Tooltip("c_total:Q", format=".4g"), alt.Tooltip("kind:N")]

    def lines(name: str, where: str) -> Any:
        return (
            alt.Chart(alt.NamedData("limit" if name == LIMIT else "exact"))
            .transform_filter(where)
            .transform_calculate(
                memory="1 / (1 - datum.beta2)",
                c_total=f"datum.forward + datum.noise * {LAM}",
                kind=f"'{name}'",
            )
        )

    dashed = (
        lines(LIMIT, "datum.beta1 == beta1").mark_line(strokeDash=[5, 4]).encode(x, y, kind, tooltip=tips)
    )
    solid = lines(EXACT, chosen).mark_line(point={"size": 18}).encode(x, y, kind, tooltip=tips)
    zero = alt.Chart(alt.Data(values=[{"c_total": 0}])).mark_rule(color="#bbbbbb").encode(y=y)
    best = (
        lines(EXACT, chosen)
        .transform_calculate(
            at_low=f"datum.forward + datum.noise * {LAM} / spread",
            at_high=f"datum.forward + datum.noise * {LAM} * spread",
        )
        .transform_joinaggregate(most="max(c_total)", most_low="max(at_low)", most_high="max(at_high)")
        .transform_filter(
            "datum.c_total == datum.most || datum.at_low == datum.most_low || datum.at_high == datum.most_high"
        )
    )
    ends = best.transform_aggregate(low="min(memory)", high="max(memory)").mark_rule(
        color=RANGE, size=6, opacity=0.7
    )
    bar = ends.encode(x=alt.X("low:Q", scale=alt.Scale(type="log", nice=False)), x2="high:Q", y=alt.value(4))
    top = best.transform_filter("datum.c_total == datum.most").mark_point(
        color=RANGE, filled=True, size=110, shape="triangle-down"
    )
    mark = top.encode(x=x, y=alt.value(8), tooltip=tips)
    chart = alt.layer(zero, dashed, solid, bar, mark).add_params(*_parameters())
    return _finished(chart, 320, CURVE)


def map_of_turns() -> dict[str, Any]:
    """C_total over batch size and beta2, the batch sizes where the preferred betas turn, and measured bests.

    Returns
    -------
    dict
        A Vega-Lite specification; its data sets "exact" and "measured" are those of `analysis.reductions.explorer`.
    """
    import altair as alt

    half = 10 ** (1 / 16)  # between two values of beta2
    x = alt.X(
        "left:Q",
        scale=alt.Scale(type="log", base=2, nice=False),
        axis=alt.Axis(title="batch size (samples)", format=",.0f", labelOverlap=True, grid=False),
    )
    y = alt.Y("below:Q", scale=alt.Scale(type="log", nice=False), axis=_memory_axis("beta2"))
    share = "datum.forward + datum.noise * ((datum.n_batches - 1) / max(n_samples - 1, 1) * noise_scale)"
    cells = (
        alt.Chart(alt.NamedData("exact"))
        .transform_filter(
            "datum.beta1 == beta1 && datum.n_epochs == n_epochs && datum.n_batches <= n_samples"
        )
        .transform_calculate(c_total=share, b="n_samples / datum.n_batches")
        .transform_calculate(
            left="datum.b / sqrt(2)",
            right="datum.b * sqrt(2)",
            below=f"1 / (1 - datum.beta2) / {half}",
            above=f"1 / (1 - datum.beta2) * {half}",
            shade="(datum.c_total > 0 ? 1 : -1) * log(1 + abs(datum.c_total)) / LN10",
        )
        .mark_rect()
        .encode(
            x=x,
            x2="right:Q",
            y=y,
            y2="above:Q",
            color=alt.Color(
                "shade:Q",
                scale=alt.Scale(scheme="purpleorange", domain=[-4, 4], clamp=True, reverse=True),
                legend=alt.Legend(
                    title="C_total",
                    orient="top",
                    gradientLength=180,
                    values=[-4, -2, 0, 2, 4],
                    labelExpr="datum.value == 0 ? '0' : (datum.value < 0 ? '-' : '') + '10^' + abs(datum.value)",
                ),
            ),
            tooltip=[alt.Tooltip("b:Q", title="batch size", format=",.4~g"), "beta2:Q",
                     alt.Tooltip("c_total:Q", format=".4g")],
        )
    )  # fmt: skip

    def rule(size: str, dash: list[int], label: str, colour: str) -> Any:
        where = alt.Chart(alt.Data(values=[{"label": label}])).transform_calculate(left=size)
        line = where.mark_rule(strokeDash=dash, size=2, color=colour).encode(x="left:Q", tooltip="label:N")
        return line

    turns = [
        rule(
            "n_samples / (1 + 0.5 * (n_samples - 1) / noise_scale)",
            [6, 3],
            "lambda = 1/2: beta2 turns",
            "black",
        ),
        rule("n_samples / (1 + (n_samples - 1) / noise_scale)", [2, 3], "lambda = 1: beta1 turns", "black"),
        rule("batch_size", [1, 0], "the chosen batch size", RANGE),
    ]
    points = alt.Chart(alt.NamedData("measured")).transform_calculate(
        left="datum.batch_size", below="1 / (1 - datum.best)", low_memory="1 / (1 - datum.low)",
        high_memory="1 / (1 - datum.high)",
    )  # fmt: skip
    tips = ["batch_size:Q", alt.Tooltip("best:Q", title="best beta2"), "low:Q", "high:Q", "source:N"]
    bars = points.mark_rule(color="black", size=2).encode(x="left:Q", y="low_memory:Q", y2="high_memory:Q")
    dots = points.mark_point(filled=True, color="white", stroke="black", size=70).encode(
        x="left:Q", y="below:Q", tooltip=tips
    )
    chart = alt.layer(cells, *turns, bars, dots).add_params(*_parameters())
    return _finished(chart, 340, MAP)


def _finished(chart: Any, height: int, description: str) -> dict[str, Any]:
    """Return the specification, as wide as the page."""
    specification: dict[str, Any] = (
        chart.properties(width="container", height=height, description=description)
        .configure_view(stroke=None)
        .configure(font="system-ui, sans-serif", autosize={"type": "fit-x", "contains": "padding"})
        .to_dict()
    )
    return specification
