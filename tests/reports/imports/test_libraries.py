"""Files that the libraries themselves wrote: read as the libraries' own readers read them."""

from collections.abc import Iterator
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import EvalCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.logger import configure
from stable_baselines3.common.monitor import Monitor, load_results
from stable_baselines3.common.results_plotter import X_TIMESTEPS, ts2xy
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.compat.tensorflow_stub import pywrap_tensorflow
from torch.utils.tensorboard import SummaryWriter

from ascent.records.errors import DamagedFile, InputError
from ascent.records.read import CellRecord, load
from ascent.reports.imports import events
from ascent.reports.imports.curve import Asked
from ascent.reports.imports.grid import Interpolation
from ascent.reports.imports.importing import import_curves

STEPS = 384
SEEDS = (0, 1)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seeds of PPO of Stable-Baselines3, with two environments each, and all logs that it writes."""
    home = tmp_path_factory.mktemp("sb3")
    for seed in SEEDS:
        folder = home / f"seed_{seed}"
        train = make_vec_env("CartPole-v1", n_envs=2, seed=seed, monitor_dir=str(folder / "monitor"))
        evaluate = EvalCallback(
            Monitor(gym.make("CartPole-v1")), n_eval_episodes=3, eval_freq=64, log_path=str(folder), verbose=0
        )
        model = PPO("MlpPolicy", train, n_steps=64, batch_size=64, n_epochs=1, seed=seed, device="cpu")
        model.set_logger(configure(str(folder / "logs"), ["csv", "tensorboard"]))
        model.learn(STEPS, callback=evaluate)
        model.logger.close()
        train.close()
    return home


def bring(folder: Path, *paths: Path, **options: object) -> CellRecord:
    given = {"name": "X", "task": "CartPole-v1", "out": folder / "runs"} | options
    import_curves(paths, **given)
    (cell,) = load(folder / "runs")
    return cell


def read_by_tensorboard(folder: Path, tag: str) -> list[tuple[int, float]]:
    accumulator = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    accumulator.Reload()
    return [(event.step, event.value) for event in accumulator.Scalars(tag)]


def test_evaluations_of_sb3(trained: Path, tmp_path: Path) -> None:
    files = [trained / f"seed_{seed}" / "evaluations.npz" for seed in SEEDS]
    cell = bring(tmp_path, *files, seed_from=r"seed_(\d+)")
    for seed, file in zip(SEEDS, files, strict=True):
        with np.load(file) as arrays:
            run = cell.runs[seed].evaluations
            assert run is not None and cell.runs[seed].greedy.index.tolist() == arrays["timesteps"].tolist()
            assert run["return"].tolist() == arrays["results"].ravel().tolist()
            assert run["length"].tolist() == arrays["ep_lengths"].ravel().tolist()
    assert cell.facts["config"]["episodes"] == 3 and cell.facts["steps"] == STEPS
    assert [file["name"] for file in cell.facts["config"]["files"]] == [
        "seed_0/evaluations.npz", "seed_1/evaluations.npz",
    ]  # fmt: skip


def test_a_folder_of_sb3(trained: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="choose one by --format"):
        bring(tmp_path, trained)
    cell = bring(tmp_path, trained, format="sb3-evaluations")
    assert [run.seed for run in cell.runs] == [0, 1]
    assert cell.facts["config"]["runs"] == {"0": "seed_0/evaluations.npz", "1": "seed_1/evaluations.npz"}


def test_monitor_of_sb3(trained: Path, tmp_path: Path) -> None:
    """The files of a folder are the environments of one run; the steps are those of SB3's own reader."""
    folder = trained / "seed_0" / "monitor"
    assert len(list(folder.glob("*.monitor.csv"))) == 2
    cell = bring(tmp_path, folder)
    steps, returns = ts2xy(load_results(str(folder)), X_TIMESTEPS)
    (run,) = cell.runs
    assert run.greedy.index.tolist() == steps.tolist() and run.greedy.tolist() == returns.tolist()
    assert cell.facts["config"]["environment"] == "CartPole-v1"


def test_monitor_logs_of_two_runs_on_a_grid(trained: Path, tmp_path: Path) -> None:
    """Episodes of training end at different steps: their means over windows are the evaluations."""
    with pytest.raises(InputError, match="different steps"):
        bring(tmp_path, trained, format="sb3-monitor")
    cell = bring(tmp_path, trained, format="sb3-monitor", interpolation=Interpolation("mean", 96))
    steps, returns = ts2xy(load_results(str(trained / "seed_1" / "monitor")), X_TIMESTEPS)
    for step, value in cell.runs[1].greedy.items():
        assert value == pytest.approx(returns[(steps > step - 96) & (steps <= step)].mean())
    assert sum(cell.facts["config"]["episodes"].values()) == sum(len(run.greedy) for run in cell.runs)


def test_event_files_of_sb3(trained: Path, tmp_path: Path) -> None:
    tag = "eval/mean_reward"
    cell = bring(tmp_path, trained, format="tensorboard", asked=Asked(tag))
    for seed in SEEDS:
        expected = read_by_tensorboard(trained / f"seed_{seed}" / "logs", tag)
        assert list(cell.runs[seed].greedy.items()) == expected and len(expected) == STEPS // 128


def test_the_csv_log_of_sb3(trained: Path, tmp_path: Path) -> None:
    """A row of another kind leaves the column empty: it is no point, and no divergence."""
    folder = trained / "seed_0" / "logs" / "progress.csv"
    cell = bring(tmp_path, folder, asked=Asked("eval/mean_reward", "time/total_timesteps"))
    expected = read_by_tensorboard(trained / "seed_0" / "logs", "eval/mean_reward")
    assert cell.runs[0].state == "done"
    assert cell.runs[0].greedy.tolist() == pytest.approx([value for _, value in expected])


# ---- TensorBoard


def cleanrl(folder: Path, seed: int, new_style: bool = False) -> Path:
    """Event files as CleanRL writes them: episodes of two environments, some of which end together."""
    run = folder / f"CartPole-v1__ppo__{seed}__1700000000"
    writer = SummaryWriter(str(run))
    writer.add_text("hyperparameters", "|param|value|\n|-|-|\n|seed|1|")
    writer.add_histogram("weights", np.arange(100.0), 0)
    for step in range(10, 1001, 10):
        for episode in range(1 + step % 20 // 10):
            value = step / 10 + episode + seed / 3
            writer.add_scalar("charts/episodic_return", value, step, new_style=new_style)
        writer.add_scalar("losses/value_loss", 0.1, step)
    writer.close()
    return run


@pytest.mark.parametrize("new_style", [False, True])
def test_event_files_of_cleanrl(tmp_path: Path, new_style: bool) -> None:
    runs = [cleanrl(tmp_path / "logs", seed, new_style) for seed in (1, 2)]
    asked = Asked("charts/episodic_return")
    cell = bring(tmp_path, tmp_path / "logs", asked=asked, seed_from=r"__(\d+)__\d+$")
    assert [run.seed for run in cell.runs] == [1, 2]
    for run, folder in zip(cell.runs, runs, strict=True):
        table = run.evaluations
        assert table is not None
        if new_style:  # the accumulator has these as tensors
            accumulator = EventAccumulator(str(folder), size_guidance={"tensors": 0})
            accumulator.Reload()
            tensors = accumulator.Tensors("charts/episodic_return")
            expected = [(event.step, event.tensor_proto.float_val[0]) for event in tensors]
        else:
            expected = read_by_tensorboard(folder, "charts/episodic_return")
        assert list(zip(table["step"], table["return"], strict=True)) == expected
    assert cell.runs[0].means["episodes"].tolist() == [2, 1] * 50


def test_the_tag_is_asked_for(tmp_path: Path) -> None:
    cleanrl(tmp_path / "logs", 1)
    with pytest.raises(InputError, match=r"--tag is needed, .*: charts/episodic_return$"):
        bring(tmp_path, tmp_path / "logs")
    with pytest.raises(InputError, match=r"did you mean 'charts/episodic_return'\?"):
        bring(tmp_path, tmp_path / "logs", asked=Asked("charts/episode_return"))
    assert not (tmp_path / "runs").exists()


def test_a_folder_without_the_tag_is_left_out_and_named(tmp_path: Path) -> None:
    """As the folder of hyperparameters that add_hparams makes inside of a run's."""
    run = cleanrl(tmp_path / "logs", 1)
    writer = SummaryWriter(str(run))
    writer.add_hparams({"rate": 0.1}, {"final": 1.0}, run_name="hparams")
    writer.close()
    done = import_curves(
        [tmp_path / "logs"], "X", "CartPole-v1", tmp_path / "runs", asked=Asked("charts/episodic_return")
    )
    assert any(note.startswith("left out: ") and "hparams" in note for note in done.notes)
    (cell,) = load(tmp_path / "runs")
    assert len(cell.runs) == 1
    assert not any("hparams" in file["name"] for file in cell.facts["config"]["files"])


def test_a_resumed_run_continues_where_its_later_file_begins(tmp_path: Path) -> None:
    for number, (first, last) in enumerate([(0, 500), (300, 1000)]):
        writer = SummaryWriter(str(tmp_path / "logs"), filename_suffix=f".{number}", purge_step=first or None)
        for step in range(first, last, 100):
            writer.add_scalar("return", step + number, step)
        writer.close()
    cell = bring(tmp_path, tmp_path / "logs", asked=Asked("return"))
    expected = read_by_tensorboard(tmp_path / "logs", "return")
    assert list(cell.runs[0].greedy.items()) == expected
    assert [value for _, value in expected] == [0, 100, 200, *range(301, 1000, 100)]


def numbers(content: bytes) -> Iterator[int]:
    """The length of each record."""
    yield from (len(data) for data in events.records(content, "file"))


def test_checksums_are_those_of_tensorflow() -> None:
    rng = np.random.default_rng(0)
    for size in (0, 1, 8, 63, 1000):
        data = rng.bytes(size)
        assert events.masked_crc(data) == pywrap_tensorflow.masked_crc32c(data)


def test_a_changed_byte_is_found_and_a_cut_end_is_left_out(tmp_path: Path) -> None:
    run = cleanrl(tmp_path / "logs", 1)
    (file,) = run.iterdir()
    content = file.read_bytes()
    whole = list(numbers(content))
    assert list(numbers(content[:-3])) == whole[:-1]
    for place in (0, 9, 20, 200, len(content) // 2, len(content) - 1):
        changed = bytearray(content)
        changed[place] ^= 4
        with pytest.raises(DamagedFile, match="is damaged at byte"):
            list(numbers(bytes(changed)))
    file.write_bytes(content[:-40])
    cell = bring(tmp_path, run, asked=Asked("charts/episodic_return"), steps=1000)
    assert cell.runs[0].greedy.index[-1] >= 980


def test_hostile_messages_are_refused(tmp_path: Path) -> None:
    """Right checksums around nonsense: one line, whatever the fields say."""

    def record(data: bytes) -> bytes:
        header = len(data).to_bytes(8, "little")
        crcs = [events.masked_crc(part).to_bytes(4, "little") for part in (header, data)]
        return header + crcs[0] + data + crcs[1]

    for data in (b"\xff" * 11, b"\x2a\xff\xff\xff\x7f", b"\x2a\x02\x0a\x7f", b"\x0b", b"\x10"):
        file = tmp_path / "events.out.tfevents.1"
        file.write_bytes(record(data))
        with pytest.raises(DamagedFile, match="is damaged"):
            bring(tmp_path, file, asked=Asked("x"))
    huge = (1 << 62).to_bytes(8, "little")
    file.write_bytes(huge + events.masked_crc(huge).to_bytes(4, "little") + bytes(100))
    with pytest.raises(InputError, match="unknown tag"):  # a record that is cut off
        bring(tmp_path, file, asked=Asked("x"))
