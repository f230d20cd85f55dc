"""lm-eval models that wrap any other lm-eval model with test-time compute. Registered by `tts_eval.plugin`."""
