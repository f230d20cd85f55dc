"""Measure test-time compute with EleutherAI's lm-evaluation-harness."""

__version__ = "0.1.0"
