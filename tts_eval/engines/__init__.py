"""Policies that answer `Sample` requests: `HFEngine` on a transformers model, `TextEngine` on any other model."""
