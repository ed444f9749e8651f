"""A1, A2 and A9: what trained policies reach and what they cost.

Every function gives rows of `adaptive.py`; processor seconds are those of one core, compiling counted.
"""

import time

import keras
import numpy as np

import kerasbed as kb
from adaptive_cases.death_process import exact_gain
from adaptive_cases.location_finding import trained
from adaptive_cases.rows import judged

STEPS = 100  # of an epoch, of ten, on the death process
SEED, SEEDS = 1, (1, 2, 3)
PUBLISHED = 11.73  # the best sPCE with 5e5 contrasts


def death_process() -> list[dict]:
    """A policy after one processor minute against the best static design: exact sums, and common rollouts."""
    simulator = kb.problems.SequentialDeathProcess()
    policy = kb.policies.Policy(simulator.design, 4, seed=SEED)
    few = kb.objectives.PriorContrastive(127, num_largest=16, num_local=0)  # histories of two nats need no more
    model = kb.DesignModel(simulator, policy, few, seed=SEED)
    begin = time.process_time()
    model.fit(epochs=10, steps_per_epoch=STEPS, batch_size=256, verbose=0, diagnose=False)
    seconds = time.process_time() - begin
    static = kb.designs.Sequence(simulator.design.space, 4, seed=SEED)
    objective = kb.objectives.PriorContrastive(511, num_largest=16)
    kb.DesignModel(kb.Sequence(simulator, 4), static, objective, seed=SEED, starts=4).fit(
        epochs=10, steps_per_epoch=100, batch_size=1024, verbose=0, diagnose=False
    )
    gain, left_out = exact_gain(policy.next_design)
    fixed, _ = exact_gain(lambda history: static.numpy()[0 if history is None else history["design"].shape[1]])
    found = kb.eig.compare(simulator, [policy, static], num_outer=20_000, seed=SEED)
    errors = -found["difference"].iloc[1] / found["difference_se"].iloc[1]
    note = (
        f"{seconds:.0f} processor s; static {fixed:.4f}, on 20,000 rollouts less by {errors:.0f} errors; seed {SEED}; "
    )
    note += f"histories left out {left_out:.0e}"
    return [judged("A1", gain, 2.113, gain >= 2.113 and errors >= 20.0 and seconds <= 60.0, note)]


def _certified(id, seconds, target, seeds) -> tuple[dict, list]:
    """The row of policies trained for so long with each seed, whose worst counts; and their brackets."""
    simulator, brackets, notes = kb.problems.LocationFinding(), [], []
    for seed in seeds:
        model, steps, spent = trained(seconds, seed)
        brackets.append(kb.eig.bracket(simulator, model.design, 1024, 500_000, seed=seed, method="annealed"))
        notes.append(f"seed {seed}: {brackets[-1]}; {brackets[-1].beside}; {steps} steps, {spent:.0f} processor s")
    worst = min(bracket.lower for bracket in brackets)
    return judged(id, worst, target, worst >= target, "; ".join(notes)), brackets


def location_finding() -> list[dict]:
    """The certified EIG after two processor minutes, beside random designs."""
    simulator = kb.problems.LocationFinding()
    row, brackets = _certified("A2", 120.0, 12.5, SEEDS)
    lower = min(bracket.beside.lower for bracket in brackets)
    of_prior = judged("A2/sPCE", lower, 11.7, lower >= 11.7, f"worst of three seeds; published at best {PUBLISHED}")
    random = kb.policies.RandomPolicy(kb.designs.Free((2,)), 30, seed=SEED)
    found = kb.eig.bracket(simulator, random, 1024, 500_000, seed=SEED, method="contrastive")
    passed = abs(found.lower - 8.303) < 3.0 * found.lower_se + 0.05
    return [row, of_prior, judged("A2/random", found.lower, 8.303, passed, f"{found}")]


def _longer(id, seed):
    return [_certified(id, 780.0, 14.2, (seed,))[0]]


def location_finding_longer() -> list[dict]:
    """The certified EIG after thirteen processor minutes."""
    return _longer("A2/13 minutes", SEEDS[0])


def location_finding_longer_again() -> list[dict]:
    """With the second seed."""
    return _longer("A2/13 minutes, second seed", SEEDS[1])


def location_finding_longer_at_last() -> list[dict]:
    """With the third seed."""
    return _longer("A2/13 minutes, third seed", SEEDS[2])


def location_finding_static() -> list[dict]:
    """The best of six designs of thirty places that are chosen beforehand, by prior draws."""
    simulator = kb.problems.LocationFinding()
    first = np.random.default_rng(SEED).standard_normal((30, 2))
    design = kb.designs.Free(first.shape, initial=first, seed=SEED)
    model = kb.DesignModel(simulator, design, kb.objectives.PriorContrastive(1024), seed=SEED, starts=6)
    model.compile(design_optimizer=keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(0.02, 1500)))
    begin = time.process_time()
    model.fit(epochs=1, steps_per_epoch=1500, batch_size=6 * 256, verbose=0, diagnose=False)
    spent = time.process_time() - begin
    found = kb.eig.bracket(simulator, model.design, 2048, 500_000, seed=SEED)
    passed = abs(found.lower - 8.838) < 3.0 * np.hypot(found.lower_se, 0.039)
    return [judged("A2/static", found.lower, 8.838, passed, f"{found}; {spent:.0f} processor s, seed {SEED}")]


def location_finding_elsewhere() -> list[dict]:
    """TensorFlow and torch in four times the time."""
    model, steps, spent = trained(480.0, SEED)
    found = kb.eig.bracket(model.simulator, model.design, 512, seed=SEED, method="annealed")
    note = f"{found}; {steps} steps, {spent:.0f} processor s, seed {SEED}"
    return [judged("A2/elsewhere", found.lower, 12.5, found.lower >= 12.5, note)]


def decisions() -> list[dict]:
    """Thirty decisions of one experiment after loading."""
    simulator = kb.problems.LocationFinding()
    policy = kb.policies.Policy(kb.designs.Free((2,)), 30, seed=SEED)
    policy.prepare(kb.Sequence(simulator, 30))

    def thirty():
        design, outcome = np.zeros((1, 0, 2)), np.zeros((1, 0, 1))
        for look in range(30):
            chosen = policy.next_design({"design": design, "outcome": outcome} if look else None)
            design = np.concatenate([design, np.asarray(chosen)[:, None]], axis=1)
            outcome = np.concatenate([outcome, np.zeros((1, 1, 1))], axis=1)

    thirty()
    seconds = []
    for _ in range(5):
        begin = time.perf_counter()
        thirty()
        seconds.append(time.perf_counter() - begin)
    return [judged("A9", np.median(seconds), 0.05, np.median(seconds) < 0.05, f"best {min(seconds):.4f} s of five")]
