r"""Refining a policy: a few hundred steps of training on what is left of the experiment, from the posterior.

A policy is trained for every history that the prior may bring about; in the laboratory one of them has come about. What
is left of the policy after it (`kerasbed.policies.continued`) is trained with the posterior as prior,

    max over the policy of  I(theta; y_{t+1} .. y_T | h_t),

by the contrastive bound with draws of the posterior as contrast. Bounds before and after share their draws, and what
does not gain keeps its old weights.
"""

import copy
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops

from kerasbed.backend import errors, numerics, streams
from kerasbed.backend.files import replace_atomically
from kerasbed.lab.beliefs import Belief
from kerasbed.lab.likelihoods import as_one_experiment
from kerasbed.model.design_model import DesignModel
from kerasbed.policies import Policy
from kerasbed.policies.continued import ContinuedPolicy
from kerasbed.priors.prior import Prior

BATCH, RATE = 128, 1e-3
COMPARED = 1024  # experiments of the bounds before and after
FEWEST = 50.0  # effective points of the posterior


@dataclass(frozen=True)
class Refinement:
    """What refining came to.

    Attributes:
        before, after: contrastive lower bounds on what is left to be learned, in nats.
        gain, gain_se: their paired difference and its standard error.
        kept: whether the new weights are used.
        effective_size: of the posterior that was trained on.
        unknown: share of the history's outcomes outside the range that the policy was prepared for.

    Example:
        >>> kb.Experiment.refine.__doc__.splitlines()[0]
        'Train what is left of the policy from the current posterior; what does not gain changes nothing.'
    """

    before: float
    after: float
    gain: float
    gain_se: float
    kept: bool
    effective_size: float
    unknown: float

    def __str__(self) -> str:
        end = "kept" if self.kept else "not kept"
        return (
            f"{self.before:.3f} -> {self.after:.3f} nats to come, gained {self.gain:.3f} +- {self.gain_se:.3f} ({end}; "
            f"posterior of {self.effective_size:.0f} effective points, {self.unknown:.0%} of outcomes unlike training)"
        )


def refined(policy: Any, simulator: Any, belief: Belief, steps: int, seed: int) -> tuple[Policy, Refinement]:
    """A refined copy of a policy, or an equal one where nothing was gained, and what it came to.

    Raises:
        PolicyError: it is no policy with networks.
        HistoryError: nothing is left of it, or the history does not fit.
        UnreliableError: the posterior rests on too few points.

    Warns:
        OutOfTrainingWarning: the history is unlike those that the policy was trained on.
    """
    _check(policy, belief)
    own, history = policy.copied(trainable=True), _history(belief)
    unknown = 0.0 if history is None else float(np.mean(~policy.look.is_known(history["outcome"])))
    if unknown:
        errors.warn(
            f"{unknown:.0%} of the outcomes lie outside the range that the policy was prepared for; refining trains it "
            "there, from the posterior, but its features were scaled for other outcomes.",
            errors.OutOfTrainingWarning,
        )
    left = own if history is None else ContinuedPolicy(own, history)
    model = DesignModel(_from_posterior(simulator, belief), left, seed=seed)
    model.compile(keras.optimizers.Adam(RATE), design_optimizer=keras.optimizers.Adam(RATE))
    held = [np.array(ops.convert_to_numpy(variable)) for variable in own.variables]
    before = _bound(model, seed)
    model.fit(epochs=1, steps_per_epoch=steps, batch_size=BATCH, verbose=0)
    after = _bound(model, seed)
    gain, error = numerics.mean_and_error(after - before)
    kept = bool(gain > 0.0)
    if not kept:
        for variable, values in zip(own.variables, held, strict=True):
            variable.assign(values)
    told = float(before.mean()), float(after.mean()), float(gain), float(error)
    return own, Refinement(*told, kept, belief.effective_size, unknown)


def _check(policy, belief):
    if not isinstance(policy, Policy):
        raise errors.PolicyError(
            f"The experiment's policy is {policy!r}, but one with networks, a trained kb.policies.Policy, was expected."
        )
    if belief.effective_size < FEWEST:
        raise errors.UnreliableError(
            f"The posterior rests on {belief.effective_size:.1f} effective points, but {FEWEST:.0f} or more are "
            "needed to train from it; pass more particles=."
        )


def _history(belief):
    """What was measured, as a history of one experiment; None before the first look."""
    return as_one_experiment(belief.history) if belief.history else None


def _from_posterior(simulator, belief):
    """The simulator with the posterior as its prior, known by its draws."""
    prior, own = simulator.prior, copy.copy(simulator)
    supports = {name: (float(np.min(low)), float(np.max(high))) for name, (low, high) in prior.supports().items()}
    discrete = {name: np.unique(np.concatenate(values)).tolist() for name, values in prior.discrete.items()}
    own.prior = Prior.from_sampler(belief.sample, supports=supports, discrete=discrete or None)
    return own


def _bound(model, seed) -> np.ndarray:
    """Contributions of common draws to the contrastive bound, (COMPARED,)."""
    rng = streams.integer(seed, "lab refinement")
    return np.asarray(model.contributions(COMPARED, seed=rng % 2**31))


# -- weights beside a record ---


def write_weights(policy: Policy, record: Path, number: int) -> str:
    """Write a policy's weights beside a record; returns the name of the file."""
    name = f"{record.stem}.refined-{number}.npz"
    values: dict[str, Any] = {str(i): np.array(ops.convert_to_numpy(v)) for i, v in enumerate(policy.variables)}

    def write(temporary):
        with open(temporary, "wb") as file:
            np.savez(file, **values)

    replace_atomically(record.with_name(name), write)
    return name


def with_weights(policy: Policy, path: Path) -> Policy:
    """A copy of a policy with the weights of a file.

    Raises:
        MissingFileError: there is no such file.
        FileError: the weights are of another policy, or damaged.
    """
    if not path.exists():
        raise errors.MissingFileError(
            f"The refined policy's weights {path} are missing; bring the file along with the record, or call "
            "lab.undo() until the refinement is taken back."
        )
    own = policy.copied(trainable=True)
    try:
        with open(path, "rb") as file, np.load(file) as held:
            values = [held[str(i)] for i in range(len(held.files))]
    except (ValueError, KeyError, TypeError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise errors.FileError(
            f"The refined policy's weights {path} are damaged ({error}); restore the file from a backup, or call "
            "lab.undo() until the refinement is taken back."
        ) from error
    if [v.shape for v in values] != [tuple(v.shape) for v in own.variables]:
        raise errors.FileError(f"{path} holds the weights of another policy; pass the one that the record is of.")
    for variable, value in zip(own.variables, values, strict=True):
        variable.assign(value)
    return own
