"""Verifiers: process and outcome reward models that score the steps of solutions (Snell et al. 2024, section 2).

`load_verifier` reads those that `tts-eval train` makes and the public families of `tts_eval.verifiers.formats`.
"""

from tts_eval.verifiers.loading import load_verifier


__all__ = ["load_verifier"]
