"""Figures, tables and the numbers of the article, drawn from files under ``results`` and ``records``."""
