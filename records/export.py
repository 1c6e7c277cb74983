"""Write a policy for other programs: as an ONNX model, or as safetensors.

An ONNX model has an input "observation" (batch, size) and one output per agent: "action", or "action_0",
"action_1", ... of a team.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np

from ascent.records import files
from ascent.records.errors import InputError
from ascent.records.policy import ABOUT, Policy

OPSET = 17  # of ONNX: read by every runtime since 2022
IR = 8  # the format of the file that goes with it


def onnx(policy: Policy, path: Path) -> None:
    """Write an ONNX model. Raises InputError without the package onnx."""
    try:
        from onnx import TensorProto, checker, helper
    except ImportError as error:
        raise InputError("the package onnx is not installed: pip install 'ascent-rl[export]'") from error
    graph = _Graph(policy, helper)
    outputs = []
    for number, agent in enumerate(policy.agents):
        first, last = agent["observation"]
        x = graph.slice("observation", first, last)
        for step in agent["steps"]:
            x = graph.step(x, step)
        name = f"action_{number}" if len(policy.agents) > 1 else "action"
        graph.nodes.append(helper.make_node("Identity", [x], [name]))
        discrete = agent["steps"][-1]["name"] == "argmax"
        kind = TensorProto.INT64 if discrete else TensorProto.FLOAT
        outputs.append(helper.make_tensor_value_info(name, kind, ["batch"] if discrete else ["batch", None]))
    inputs = [helper.make_tensor_value_info("observation", TensorProto.FLOAT, ["batch", policy.size])]
    whole = helper.make_graph(graph.nodes, "policy", inputs, outputs, graph.constants)
    model = helper.make_model(whole, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="ascent")
    model.ir_version = IR
    model.doc_string = f"{policy.task}: {policy.observation_space} -> {policy.action_space}"
    checker.check_model(model, full_check=True)
    files.write(path, model.SerializeToString(deterministic=True))


def safetensors(policy: Policy, path: Path) -> None:
    """Write the arrays as safetensors, with the description in the metadata as "about".

    Raises:
        InputError: the package safetensors is not installed.
    """
    try:
        from safetensors.numpy import save
    except ImportError as error:
        raise InputError(
            "the package safetensors is not installed: pip install 'ascent-rl[export]'"
        ) from error
    about = {
        "task": policy.task,
        "observation_space": policy.observation_space,
        "action_space": policy.action_space,
        "agents": policy.agents,
    }
    arrays = {name: np.ascontiguousarray(array) for name, array in policy.arrays.items()}
    files.write(path, save(arrays, {ABOUT: json.dumps(about, sort_keys=True)}))


class _Graph:
    """The nodes and constants of a model while it is made. Names are numbered in the order of making."""

    def __init__(self, policy: Policy, helper: Any):
        self.policy = policy
        self.helper = helper
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def add(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """Add a node, and return the name of its output."""
        name = f"x{len(self.nodes)}"
        self.nodes.append(self.helper.make_node(kind, list(inputs), [name], **attributes))
        return name

    def constant(self, value: Any, kind: type = np.float32) -> str:
        """Add a constant, and return its name."""
        from onnx import numpy_helper

        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(value, kind), name))
        return name

    def slice(self, x: str, first: int, last: int) -> str:
        """Add the numbers first to last - 1 of each observation."""
        limits = (self.constant([first], np.int64), self.constant([last], np.int64))
        return self.add("Slice", x, *limits, self.constant([-1], np.int64))

    def step(self, x: str, step: dict[str, Any]) -> str:
        """Add a step of acting, and return the name of its output."""
        given = {name: self.policy.value(argument) for name, argument in step.items() if name != "name"}
        match step["name"]:
            case "normalise":
                deviation = np.sqrt(given["variance"] + given["epsilon"])
                x = self.add(
                    "Div", self.add("Sub", x, self.constant(given["mean"])), self.constant(deviation)
                )
                return self._clip(x, -given["bound"], given["bound"])
            case "dense":
                product = self.add("MatMul", x, self.constant(given["weight"]))
                x = self.add("Add", product, self.constant(given["bias"][0]))
                activation = {"tanh": "Tanh", "relu": "Relu"}.get(given["activation"])
                return self.add(activation, x) if activation else x
            case "first":
                return self.slice(x, 0, given["n"])
            case "squash":
                bound = self.constant(given["bound"])
                return self.add("Mul", self.add("Tanh", self.add("Div", x, bound)), bound)
            case "softmax":
                ends = np.cumsum(np.asarray(given["sizes"], int)).tolist()
                parts = [self.slice(x, first, last) for first, last in zip([0, *ends], ends, strict=False)]
                return self.add("Concat", *(self.add("Softmax", part, axis=-1) for part in parts), axis=-1)
            case "scale":
                scaled = self.add("Mul", x, self.constant(given["half"]))
                return self.add("Add", scaled, self.constant(given["middle"]))
            case "clip":
                return self._clip(x, given["low"], given["high"])
            case "argmax":
                return self.add("ArgMax", x, axis=-1, keepdims=0)
        raise InputError(f"the step {step['name']} has no counterpart in ONNX")

    def _clip(self, x: str, low: Any, high: Any) -> str:
        return self.add("Min", self.add("Max", x, self.constant(low)), self.constant(high))
