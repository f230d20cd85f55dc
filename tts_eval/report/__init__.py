"""Figures and tables for people."""

from tts_eval.report.figures import accuracy_figure, level_figure


__all__ = ["accuracy_figure", "level_figure"]
