"""Shared by all tests."""

import torch

from ascent import algorithms  # noqa: F401  (first of all: it sets what torch must find in the environment)

torch.set_num_threads(1)
