"""From rows of runs to what figures and text say: cells, bests, gains, verdicts."""
