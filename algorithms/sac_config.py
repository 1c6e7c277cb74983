"""The hyperparameters of SAC and its presets; `sac.py` has the algorithm."""

from dataclasses import dataclass, replace

from ascent.algorithms.seedwise import Count, Fraction, Positive, Widths


@dataclass(frozen=True)
class Config:
    """Defaults: the authors' code (softlearning, December 2018) on the tasks that it lists."""

    envs: Count = 1  # environments per seed
    capacity: Count = 1_000_000  # transitions kept per seed
    batch: Count = 256  # transitions per update
    learning_starts: Count = 10_000  # environment steps, with uniform actions, before the first update
    train_every: Count = 1  # environment steps between updates
    updates: Count = 1  # updates each time
    actor_learning_rate: Positive = 3e-4  # of the policy
    critic_learning_rate: Positive = 3e-4  # of the critics
    alpha_learning_rate: Positive = 3e-4  # of the temperature
    adam_eps: Positive = 1e-8  # added to the root in Adam's step
    gamma: Fraction = 0.99  # discount
    tau: Fraction = 0.005  # fraction of the online critics that goes into their targets
    reward_scale: Positive = 1.0  # factor of the rewards in the critics' targets
    tune_alpha: bool = True  # learn the temperature; otherwise it is fixed
    alpha: Positive = 1.0  # initial or fixed temperature
    target_entropy_per_dim: float = -1.0  # target entropy of the policy, for each action dimension
    log_alpha_loss: bool = True  # log alpha instead of the factor alpha in eq. 18
    resample_for_alpha: bool = False  # eq. 18 with new actions of the updated policy
    environment_units: bool = False  # log pi of the environment's actions instead of those in [-1, 1]
    tanh_log_std: bool = False  # log deviation squashed to [-5, 2] instead of clipped to [-20, 2]
    delay: Count = 1  # updates of the critics between those of the policy, which then takes as many steps
    hidden: Widths = (256, 256)  # ReLU units of the policy, and of each critic


_FAST = Config(actor_learning_rate=1e-3, critic_learning_rate=1e-3, alpha_learning_rate=1e-3)
_LISTED = ("Swimmer-v5", "Hopper-v5", "HalfCheetah-v5", "Walker2d-v5", "Ant-v5", "Humanoid-v5")
_HAARNOJA = Config(learning_starts=1_000, reward_scale=5.0, tune_alpha=False)

# The sources, and what stays different from them: sources/sac.toml.
PRESETS: dict[str, Config | dict[str, Config]] = {
    "code": {
        **dict.fromkeys((*_LISTED, "Reacher-v5"), Config()),
        "default": Config(learning_starts=1_000),
    },
    "paper": Config(learning_starts=1_000, log_alpha_loss=False),
    "haarnoja-2018a": {
        "Swimmer-v5": replace(_HAARNOJA, reward_scale=25.0),
        "Humanoid-v5": replace(_HAARNOJA, reward_scale=20.0),
        "HumanoidStandup-v5": replace(_HAARNOJA, reward_scale=100.0),
        **dict.fromkeys(("HalfCheetah-v5", "Ant-v5"), replace(_HAARNOJA, learning_starts=10_000)),
        "default": _HAARNOJA,  # Hopper-v5, Walker2d-v5; and tasks for which the source has no scale
    },
    "cleanrl": Config(
        learning_starts=5_000,
        critic_learning_rate=1e-3,
        alpha_learning_rate=1e-3,
        log_alpha_loss=False,
        resample_for_alpha=True,
        environment_units=True,
        tanh_log_std=True,
        delay=2,
    ),
    "zoo": {
        **dict.fromkeys(_LISTED, Config()),
        "Swimmer-v5": Config(gamma=0.999),
        "Pendulum-v1": replace(_FAST, learning_starts=100),
        "MountainCarContinuous-v0": Config(
            capacity=50_000,
            batch=512,
            learning_starts=1,
            train_every=32,
            updates=32,
            gamma=0.9999,
            tau=0.01,
            tune_alpha=False,
            alpha=0.1,
            hidden=(64, 64),
        ),
        "default": Config(learning_starts=100),
    },
    "tianshou": replace(_FAST, alpha_learning_rate=3e-4, tune_alpha=False, alpha=0.2),
    # Small networks, a higher learning rate: the first values tried, on seeds 1000-1004; not tuned.
    "small": replace(_FAST, capacity=100_000, batch=128, learning_starts=1_000, hidden=(64, 64)),
}
# By the rule: the authors' code for MuJoCo; for classic control RL Zoo, as the first with settings for it.
DEFAULTS = {"mujoco": "code", "classic": "zoo"}
