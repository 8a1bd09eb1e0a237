"""The expansion of E[Corr] to second order in the noise: exact sums over time, terms, lines, bounds."""
