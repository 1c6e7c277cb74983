"""Policies act without torch, and exported they act alike."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from ascent.algorithms.seedwise import Streams
from ascent.records import export, layout, policy, shelf
from ascent.records.checkpoints import pack_arrays, unpack_arrays
from ascent.records.errors import DamagedFile, InputError
from ascent.records.store import Store
from ascent.runners.play import to_env
from ascent.runners.trainer import Trainer
from tests.command import call
from tests.small import small_cell, systems_and_tasks

OBSERVATIONS = 1_000


def trained(system: str, task: str, path: Path) -> tuple[policy.Policy, np.ndarray, np.ndarray]:
    """A policy after some updates, observations, and the actions of the agent for them."""
    trainer = Trainer(small_cell(system, task, normalise=True), [3])
    while not trainer.updates:
        trainer.advance()
    rng = np.random.default_rng(0)
    obs = rng.normal(size=(1, OBSERVATIONS, trainer.obs.shape[-1])).astype(np.float32)
    action, _ = trainer.agent.act(torch.from_numpy(obs), Streams([3], "eval", 0), False, 1.0, None)
    if system == "rpc":  # whose documented policy has z at its mean
        action = trainer.agent.bounds.scale(trainer.agent.preference(torch.from_numpy(obs)).tanh())
    _, wanted = to_env(action.detach(), trainer.spec)
    path.write_bytes(pack_arrays(trainer.policy(0)))
    return policy.load(path, 0, path.parent), obs[0], np.asarray(wanted[0])


def joined(actions: object) -> np.ndarray:
    """The actions of a team, one agent after another."""
    parts = actions if isinstance(actions, list) else [actions]
    return np.concatenate([np.asarray(part).reshape(OBSERVATIONS, -1) for part in parts], axis=-1)


@pytest.mark.parametrize("system,task", systems_and_tasks())
def test_acts_alike(system: str, task: str, tmp_path: Path) -> None:
    """A batch, one observation, and the parts of a team; and the ONNX model, within 1e-6."""
    loaded, obs, wanted = trained(system, task, tmp_path / "policy.npz")
    got = joined(loaded(obs))
    np.testing.assert_allclose(got, wanted.reshape(OBSERVATIONS, -1), rtol=1e-4, atol=1e-5)
    single = loaded(obs[7])
    alone = np.hstack([np.ravel(part) for part in (single if isinstance(single, list) else [single])])
    np.testing.assert_allclose(alone, got[7], rtol=1e-5, atol=1e-6)
    if len(loaded.agents) > 1:
        parts = [obs[:, slice(*agent["observation"])] for agent in loaded.agents]
        assert np.array_equal(joined(loaded(parts)), got)
    onnxruntime = pytest.importorskip("onnxruntime")
    export.onnx(loaded, tmp_path / "policy.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "policy.onnx")
    np.testing.assert_allclose(joined(session.run(None, {"observation": obs})), got, rtol=1e-5, atol=1e-6)


def test_safetensors(tmp_path: Path) -> None:
    """The arrays, and the description in the metadata: the policy can be put together again."""
    safetensors = pytest.importorskip("safetensors")
    loaded, obs, _ = trained("sac", "Pendulum-v1", tmp_path / "policy.npz")
    export.safetensors(loaded, tmp_path / "policy.safetensors")
    with safetensors.safe_open(tmp_path / "policy.safetensors", "numpy") as file:
        about = json.loads(file.metadata()["about"])
        arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no dict
    again = policy.Policy(**about | {"agents": tuple(about["agents"])}, arrays=arrays)
    assert np.array_equal(again(obs), loaded(obs))


def test_by_digest_without_torch(tmp_path: Path) -> None:
    """A cell on the shelf by the beginning of its digest, in a process that has no torch."""
    kept = shelf.current()
    cell = next(c for c in kept.present if Store(kept.folder / c.folder).has(3, layout.POLICY))
    digest = cell.folder.rpartition("-")[2]
    code = (
        "import sys\nfor name in ('torch', 'pandas', 'gymnasium', 'mujoco'): sys.modules[name] = None\n"
        f"import ascent\np = ascent.load({digest[:8]!r}, 3)\nprint(p([0.1] * p.size))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (tmp_path / "alone.npz").write_bytes(Store(kept.folder / cell.folder).read(3, layout.POLICY))
    alone = policy.load(tmp_path / "alone.npz", 0, tmp_path)
    assert f"{alone([0.1] * alone.size)}\n" == done.stdout
    without = next(c for c in kept.present if not Store(kept.folder / c.folder).has(3, layout.POLICY))
    with pytest.raises(InputError, match=r"policy\.npz is missing: .* or was stored without it"):
        policy.load(without.folder.rpartition("-")[2], 3, tmp_path)


def test_refusals(tmp_path: Path) -> None:
    """One line: no such seed, another file, an old policy, an unknown step, a wrong observation."""
    loaded, _, _ = trained("sac", "Pendulum-v1", tmp_path / "policy.npz")
    with pytest.raises(ValueError, match=r"of Pendulum-v1 has 3 numbers, not the shape \(4,\)"):
        loaded(np.zeros(4))
    cell = next(cell for cell in shelf.current().present if cell.task == "Pendulum-v1")
    with pytest.raises(InputError, match=r"unknown seed '99'; did you mean '9'\?"):
        policy.load(cell.folder.rpartition("-")[2], 99, tmp_path)
    (tmp_path / "text.npz").write_text("nothing")
    with pytest.raises(DamagedFile, match=r"text\.npz is damaged: "):
        policy.load(tmp_path / "text.npz", 0, tmp_path)
    arrays = dict(unpack_arrays((tmp_path / "policy.npz").read_bytes(), 10**9))
    about = json.loads(str(arrays.pop("about")))
    (tmp_path / "old.npz").write_bytes(pack_arrays(arrays))
    with pytest.raises(InputError, match=r"old\.npz does not describe how it acts"):
        policy.load(tmp_path / "old.npz", 0, tmp_path)
    about["agents"][0]["steps"][0]["name"] = "attend"
    (tmp_path / "new.npz").write_bytes(pack_arrays(arrays | {"about": np.array(json.dumps(about))}))
    with pytest.raises(InputError, match=r"new\.npz: unknown step 'attend': a newer version wrote it"):
        policy.load(tmp_path / "new.npz", 0, tmp_path)


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """`ascent export` writes both files; without a file to write it says so."""
    pytest.importorskip("onnx")
    pytest.importorskip("safetensors")
    trained("sac", "Pendulum-v1", tmp_path / "policy.npz")
    target = str(tmp_path / "policy.npz")
    refusal = "error: name a file: --onnx FILE or --safetensors FILE\n"
    assert call(capsys, "export", target) == (2, "", refusal)
    paths = [str(tmp_path / name) for name in ("policy.onnx", "policy.safetensors")]
    code, out, _ = call(capsys, "export", target, "--onnx", paths[0], "--safetensors", paths[1])
    assert code == 0 and out.splitlines() == paths and all(Path(path).stat().st_size for path in paths)
