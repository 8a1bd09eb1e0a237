"""Plot permutations a second against d, batches and threads, with the ceiling drawn in."""

from pathlib import Path

OURS, CEILING = "#0072B2", "#555555"
PEERS = {
    "numpy": ("#D55E00", "s"),
    "jax": ("#009E73", "^"),
    "torch": ("#CC79A7", "D"),
    "torch compiled": ("#E69F00", "v"),
}
AXES = {
    "d": "components d  (m = 64 batches of 16)",
    "n_batches": "batches m of 16 samples  (d = 64)",
    "n_threads": "threads  (d = 64, m = 64)",
}


def plot(curves: list[dict], rows: list[dict], path: Path) -> None:
    """Draw the panels to `path`.

    Parameters
    ----------
    curves : list of dict
        axis, value, per_second, ceiling: what `bench.kernels.scaling` returns.
    rows : list of dict
        What `bench.kernels.compare` returns; the peers of job A1 are marked where they were timed.
    path : path
        A .png.
    """
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot as plt

    from common.files import atomic_write

    n_threads = max(curve["value"] for curve in curves if curve["axis"] == "n_threads")
    at_a1 = {"d": 64, "n_batches": 64, "n_threads": n_threads}
    figure, panels = plt.subplots(1, 3, figsize=(11, 4), sharey=True, layout="constrained")
    for panel, (axis, label) in zip(panels, AXES.items(), strict=True):
        points = [curve for curve in curves if curve["axis"] == axis]
        values = [point["value"] for point in points]
        panel.plot(
            values, [p["ceiling"] for p in points], "--", color=CEILING, label="ceiling of this machine"
        )
        panel.plot(values, [p["per_second"] for p in points], "o-", color=OURS, label="this project")
        for row in rows:
            if row["job"] == "A1" and row["contender"] in PEERS:
                color, marker = PEERS[row["contender"]]
                panel.plot(at_a1[axis], row["per_second"], marker, color=color, ms=7, label=row["contender"])
        panel.set_xscale("log", base=2)
        panel.set_xticks(values, [str(value) for value in values])
        panel.minorticks_off()
        panel.set_yscale("log")
        panel.set_xlabel(label)
        panel.grid(alpha=0.3)
    panels[0].set_ylabel("permutations per second")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(labels), frameon=False)
    with atomic_write(path, "wb") as file:
        figure.savefig(file, format="png", dpi=150)
    plt.close(figure)
