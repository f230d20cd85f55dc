"""Policies that answer `Sample` requests: on a transformers model, vLLM, an OpenAI-compatible server, or any other."""
