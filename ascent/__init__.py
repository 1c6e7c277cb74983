"""Ascent: a reproducible benchmark suite for policy-gradient reinforcement learning."""
