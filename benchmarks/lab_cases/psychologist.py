"""A psychologist's trials (L4), when to stop (L7), and many of them (L8).

The observer answers yes with probability .02 + (.98 - lapse) F(slope (x - threshold)), F the logistic function.
Threshold and slope lie on a grid, the lapse rate beside them is nuisance. The peer is the exact rule (Kontsevich and
Tyler, 1999; Watson, 2017, "QUEST+"): the stimulus whose answer tells most of threshold and slope, the lapse rate summed
out, written here in NumPy in a few lines. ADOpy, where it is installed, has a rule of this kind and is asked as well.
"""

import importlib.util
import time
import tracemalloc

import numpy as np
from keras import ops
from scipy import special

import kerasbed as kb

THRESHOLDS, SLOPES, LAPSES = np.linspace(-3, 3, 41), np.geomspace(0.5, 8.0, 15), np.array([0.0, 0.03, 0.06, 0.1])
STIMULI = np.linspace(-4, 4, 61)
GUESS, TRIALS = 0.02, 20
COST = 0.02  # nats for a trial


def values() -> np.ndarray:
    """Joint values of threshold, slope and lapse rate, (G, 3)."""
    return np.stack(np.meshgrid(THRESHOLDS, SLOPES, LAPSES, indexing="ij"), axis=-1).reshape(-1, 3)


class Observer(kb.BernoulliSimulator):
    """Yes or no to a stimulus."""

    prior = kb.Prior.from_table(
        dict(zip(("threshold", "slope", "lapse"), values().T, strict=True)), np.ones(len(values()))
    )
    noise_shape = (1,)

    def probability(self, parameters, design):
        detected = ops.sigmoid(parameters["slope"] * (design - parameters["threshold"]))
        return GUESS + (1.0 - GUESS - parameters["lapse"]) * detected


class ExactRule:
    """The posterior on the grid, and the stimulus of the largest mutual information with threshold and slope."""

    def __init__(self):
        g = values()
        yes = GUESS + (1.0 - GUESS - g[:, 2]) * special.expit(g[:, 1] * (STIMULI[:, None] - g[:, 0]))
        self.p = np.stack([1.0 - yes, yes], axis=1)  # (stimuli, answers, G)
        self.log_w = np.full(len(g), -np.log(len(g)))

    def gains(self) -> np.ndarray:
        """In nats, of each stimulus."""
        joint = (self.p * np.exp(self.log_w)).reshape(len(STIMULI), 2, -1, len(LAPSES)).sum(axis=-1)
        of_target = np.exp(self.log_w).reshape(-1, len(LAPSES)).sum(axis=-1)
        marginal = joint.sum(axis=-1)
        gains = special.xlogy(joint, joint).sum(axis=(1, 2)) - special.xlogy(marginal, marginal).sum(axis=1)
        return gains - special.xlogy(of_target, of_target).sum()

    def best(self) -> int:
        """The number of the stimulus."""
        return int(np.argmax(self.gains()))

    def see(self, stimulus: int, answer: int) -> None:
        """Learn from an answer."""
        with np.errstate(divide="ignore"):
            self.log_w = self.log_w + np.log(self.p[stimulus, answer])
        self.log_w -= special.logsumexp(self.log_w)


def _answer(stimulus, truth, rng) -> int:
    yes = GUESS + (1.0 - GUESS - truth[2]) * special.expit(truth[1] * (stimulus - truth[0]))
    return int(rng.random() < yes)


def _lab(**options):
    space = kb.designs.Choice((1,), options=STIMULI)
    return kb.Experiment(Observer(), space, target=["threshold", "slope"], seed=0, **options)


def trials(options) -> list[dict]:
    """Twenty trials of several observers, stimulus by stimulus beside the exact rule."""
    runs = 3 if options.size == "small" else 20
    same, seconds, gains = [], [], {"lab": [], "constant": [], "random": []}
    for run in range(runs):
        rng, rule = np.random.default_rng(run), ExactRule()
        truth, lab, equal = (rng.normal(0, 1), 2.0, 0.03), _lab(), 0
        for trial in range(TRIALS):
            start = time.process_time()
            stimulus = lab.recommend()
            middle = time.process_time()
            best = rule.best()
            equal += abs(STIMULI[best] - stimulus[0]) < 1e-6
            gain = rule.gains()
            place = int(np.argmin(np.abs(STIMULI - stimulus[0])))
            answer = _answer(STIMULI[place], truth, rng)
            again = time.process_time()
            lab.add_measurements({"design": stimulus, "outcome": float(answer)})
            if trial:
                seconds.append(middle - start + time.process_time() - again)
            rule.see(place, answer)
            gains["lab"].append(gain[place])
            gains["constant"].append(gain[len(STIMULI) // 2])
            gains["random"].append(gain.mean())
        same.append(equal)
    total = {name: float(np.sum(found)) / runs for name, found in gains.items()}
    peer = "ADOpy is not installed" if importlib.util.find_spec("adopy") is None else f"ADOpy's: {_adopy(runs)}"
    note = f"same stimuli as the exact rule of {TRIALS}, fewest of {runs} observers; {peer}"
    rows = [{"id": "L4", "reported": min(same), "truth": "at least 18", "passed": min(same) >= 18, "note": note}]
    worst = float(np.max(seconds))
    told = f"processor seconds, slowest of {len(seconds)} trials but the first ones; median {np.median(seconds):.4f} s"
    rows.append({"id": "L4/time", "reported": worst, "truth": "under 0.02 s", "passed": worst < 0.02, "note": told})
    for name in ("constant", "random"):
        note = f"gain expected at the lab's stimuli in sum {total['lab']:.3f} nats, at {name} ones from the same states"
        passed = total[name] < total["lab"]
        rows.append({"id": f"L4/{name}", "reported": total[name], "truth": None, "passed": passed, "note": note})
    return rows


def _adopy(runs) -> str:
    """How often ADOpy chooses the same stimuli as the exact rule here."""
    vars(np)["int"] = int  # it was written for an older NumPy
    from adopy import Engine, Model, Task

    def log_likelihood(choice, stimulus, threshold, slope, lapse):
        yes = GUESS + (1.0 - GUESS - lapse) * special.expit(slope * (stimulus - threshold))
        return np.log(np.where(choice == 1, yes, 1.0 - yes))

    task = Task(name="yes", designs=["stimulus"], responses=["choice"])
    model = Model(name="logistic", task=task, params=["threshold", "slope", "lapse"], func=log_likelihood)
    grid = {"threshold": THRESHOLDS, "slope": SLOPES, "lapse": LAPSES}
    found = []
    for run in range(runs):
        engine = Engine(
            task=task, model=model, grid_design={"stimulus": STIMULI}, grid_param=grid, grid_response={"choice": [0, 1]}
        )
        rng, rule, equal = np.random.default_rng(run), ExactRule(), 0
        truth = (rng.normal(0, 1), 2.0, 0.03)
        for _ in range(TRIALS):
            place = rule.best()
            equal += abs(float(engine.get_design("optimal")["stimulus"]) - STIMULI[place]) < 1e-6
            answer = _answer(STIMULI[place], truth, rng)
            rule.see(place, answer)
            engine.update({"stimulus": STIMULI[place]}, answer)
        found.append(equal)
    return f"{min(found)} of {TRIALS} with all parameters its target"


def stopping(options) -> list[dict]:
    """Sessions stop where the next trial is worth less than it costs, as the exact rule says."""
    runs, most = (10 if options.size == "small" else 200), 80
    near, apart = 0, []
    for run in range(runs):
        rng, rule, lab = np.random.default_rng(1000 + run), ExactRule(), _lab(stop_when={"gain_per_cost": COST})
        truth, stops = (rng.normal(0, 1), 2.0, 0.03), {}
        for trial in range(most):
            if "rule" not in stops and rule.gains().max() < COST:
                stops["rule"] = trial
            if "lab" not in stops and lab.stopped is not None:
                stops["lab"] = trial
            if len(stops) == 2:
                break
            stimulus = lab.recommend()
            place = int(np.argmin(np.abs(STIMULI - stimulus[0])))
            answer = _answer(STIMULI[place], truth, rng)
            lab.add_measurements({"design": stimulus, "outcome": float(answer)})
            rule.see(place, answer)
        apart.append(stops.get("lab", most) - stops.get("rule", most))
        near += abs(apart[-1]) <= 1
    note = f"of {runs} sessions; trials apart from {min(apart)} to {max(apart)}"
    return [{"id": "L7", "reported": near / runs, "truth": "0.9", "passed": near >= 0.9 * runs, "note": note}]


def many_trials(options) -> list[dict]:
    """Five hundred trials: time and memory of the last hundred against the first."""
    count = 120 if options.size == "small" else 500
    rows = [_many("L8", _lab(), count)]
    lab = kb.Experiment(
        kb.problems.PsychometricFunction(), kb.designs.Box((1,), -4.0, 4.0), seed=0, method="particles", particles=1024
    )
    return [*rows, _many("L8/particles", lab, count)]


def _many(id, lab, count) -> dict:
    rng, seconds, held = np.random.default_rng(5), [], []
    tracemalloc.start()
    for trial in range(count + 5):
        start = time.process_time()
        stimulus = lab.recommend()
        lab.add_measurements({"design": stimulus, "outcome": float(_answer(stimulus[0], (0.4, 2.0, 0.03), rng))})
        if trial >= 5:
            seconds.append(time.process_time() - start)
            held.append(tracemalloc.get_traced_memory()[0])
    tracemalloc.stop()
    part = count // 5
    growth = float(np.mean(seconds[-part:]) / np.mean(seconds[:part]))
    memory = (held[-1] - held[part]) / 2**20
    place = float(np.mean(lab.posterior(2000)["threshold"]))
    weights = lab.belief.log_weights
    fine = growth < 2.0 and memory < 8.0 and abs(place - 0.4) < 0.5 and np.isfinite(weights).any()
    note = (
        f"last fifth of {count} trials over the first, {np.mean(seconds[-part:]):.4f} s a trial; memory grew by "
        f"{memory:.2f} MiB; threshold {place:.2f} for 0.40"
    )
    return {"id": id, "reported": growth, "truth": "under 2", "passed": bool(fine), "note": note}
