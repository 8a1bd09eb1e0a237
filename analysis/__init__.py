"""Figures, tables and the numbers of the article, drawn from files under ``results`` and ``records``."""

from common.programs import refuse_others

refuse_others(__name__)
