"""Shared by all tests."""

import algorithms  # noqa: F401  (first of all: it sets what torch must find in the environment)
import torch

torch.set_num_threads(1)
