import pytest

from analysis import plot_turning
from sim import turning


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    folder = tmp_path_factory.mktemp("turning")
    files = ["--out", str(folder / "m.csv"), "--turning-out", str(folder / "t.csv")]
    flags = [
        "--n-samples",
        "1000",
        "--batch-sizes",
        "64",
        "128",
        "300",
        "512",
        "5000",
        "--noise-scales",
        "40",
        "80",
    ]
    turning.main([*flags, "--n-epochs", "1", "3", "--grid", "0.8", "0.9", "0.99", "--format", "csv", *files])
    return ["--map", folder / "m.csv", "--turning", folder / "t.csv"]


def test_draws_the_same_bytes_twice(tables, tmp_path):
    for name in ("one.svg", "two.svg"):
        flags = [*tables, "--noise-scale", 40, "--n-epochs", 1, 3, "--out", tmp_path / name]
        plot_turning.main([str(flag) for flag in flags])
    text = (tmp_path / "one.svg").read_text()
    assert text == (tmp_path / "two.svg").read_text()
    assert "exact, epoch 3" in text
    panels = [
        text.count(f"<!-- {words} -->")
        for words in ("15 batches", "7 batches", "3 batches", "1 batch", "full batch")
    ]
    assert text.count("<!-- 0.99 -->") == 4  # once a column
    assert panels == [1, 1, 0, 1, 1]  # at most four batch sizes, from the smallest to the largest


def test_rejects_what_the_map_does_not_hold(fails, tables, tmp_path):
    out = tmp_path / "x.svg"
    assert "n_epochs 50" in fails(
        plot_turning.main, *tables, "--noise-scale", 40, "--n-epochs", 1, 50, "--out", out
    )
    assert "noise_scale 300" in fails(plot_turning.main, *tables, "--out", out)
    swapped = ["--map", tables[3], "--turning", tables[1]]
    assert "column 'batch_size' is missing" in fails(plot_turning.main, *swapped, "--out", out)
    assert not out.exists()
