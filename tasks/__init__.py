"""The tasks of tts-eval: MATH-500, MATH by subject, GSM8K and a dozen problems of our own, for lm-eval.

A folder a family holds its YAML and its README; `_base_yaml` is what all share, `documents` loads the problems and
`scoring` grades them. lm-eval imports this package while it reads a YAML, before it builds the model: that is how
`lm_eval --tasks <path>` comes to know our adapters.
"""

from tts_eval.plugin import register


register()
