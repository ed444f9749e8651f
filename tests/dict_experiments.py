"""Experiments whose outcomes are dicts, each beside the same one with one array."""

import numpy as np
from keras import ops
from scipy import stats

import kerasbed as kb
from kerasbed.backend import numerics, special


class Trial(kb.Simulator):
    """Answers (2,) and times (3,) of a subject with an unknown skill, as one array (5,), at a difficulty (1,).

    All is smooth; `Answered` makes the answers yes or no.
    """

    prior, noise_shape = kb.Prior(skill=stats.norm()), (5,)

    def outcome(self, parameters, design, noise):
        answer, rt = self.parts(parameters, design, noise)
        return ops.concatenate([ops.cast(answer, noise.dtype), rt], axis=-1)

    def parts(self, parameters, design, noise):
        gain = parameters["skill"] - design
        return gain + noise[:, :2], 0.5 * gain + ops.square(design) + 0.5 * noise[:, 2:]

    def log_likelihood(self, outcome, parameters, design):
        return self.of_parts(outcome[..., :2], outcome[..., 2:], parameters, design)

    def of_parts(self, answer, rt, parameters, design):
        gain = parameters["skill"] - design
        log_p = ops.sum(-0.5 * ops.square(answer - gain), axis=-1)
        mean = 0.5 * gain + ops.square(design)
        return log_p + ops.sum(-2.0 * ops.square(rt - mean), axis=-1) - 2.5 * np.log(2.0 * np.pi) + 3.0 * np.log(2.0)


class NamedTrial(Trial):
    """The same with a dict, whose names are told in another order than that of the array."""

    def outcome(self, parameters, design, noise):
        answer, rt = self.parts(parameters, design, noise)
        return {"rt": rt, "answer": answer}

    def log_likelihood(self, outcome, parameters, design):
        return self.of_parts(outcome["answer"], outcome["rt"], parameters, design)


class Answered(Trial):
    """A yes or no in the place of the two answers, as 1 or 0."""

    def parts(self, parameters, design, noise):
        smooth, rt = super().parts(parameters, design, noise)
        return smooth > 0.0, rt

    def of_parts(self, answer, rt, parameters, design):
        gain = parameters["skill"] - design
        log_p = ops.sum(special.log_normal_cdf((2.0 * answer - 1.0) * gain), axis=-1)
        mean = 0.5 * gain + ops.square(design)
        return log_p + ops.sum(-2.0 * ops.square(rt - mean), axis=-1) - 1.5 * np.log(2.0 * np.pi) + 3.0 * np.log(2.0)


class NamedAnswered(Answered):
    """The same with a dict; its answers are bools."""

    outcome, log_likelihood = NamedTrial.outcome, NamedTrial.log_likelihood


class Weighing(kb.GaussianSimulator):
    """Two weighings and one guess, as one array."""

    prior, noise_shape = kb.Prior(weight=stats.norm()), (3,)

    def mean(self, parameters, design):
        return parameters["weight"] * ops.concatenate([design, 0.5 * design[..., :1]], axis=-1)

    def scale(self, parameters, design):
        return numerics.like([0.5, 0.5, 1.0], design)


class NamedWeighing(Weighing):
    """The same with dicts."""

    def mean(self, parameters, design):
        return {"scale": parameters["weight"] * design, "guess": 0.5 * parameters["weight"] * design[..., :1]}

    def scale(self, parameters, design):
        return {"guess": 1.0, "scale": 0.5}


class GuessedWeighing(Weighing):
    """`NamedWeighing` as one array: the order of the names is not that of `Weighing`."""

    def mean(self, parameters, design):
        return parameters["weight"] * ops.concatenate([0.5 * design[..., :1], design], axis=-1)

    def scale(self, parameters, design):
        return numerics.like([1.0, 0.5, 0.5], design)


class Survey(kb.BernoulliSimulator):
    """A yes or no to three questions, as one array."""

    prior, noise_shape = kb.Prior(opinion=stats.norm()), (3,)

    def probability(self, parameters, design):
        last = 2.0 * parameters["opinion"] + 0.0 * design[..., :1]
        return ops.sigmoid(ops.concatenate([parameters["opinion"] - design, last], axis=-1))


class NamedSurvey(Survey):
    """The same with a dict, whose last entry does not see the design."""

    def probability(self, parameters, design):
        return {
            "first": ops.sigmoid(parameters["opinion"] - design),
            "last": ops.sigmoid(2.0 * parameters["opinion"]),
        }


class Tired(kb.Simulator):
    """Answers and times of a subject who is slower after every look."""

    prior, noise_shape = kb.Prior(skill=stats.norm()), (2,)

    def initial_state(self, parameters):
        return 0.0 * parameters["skill"]

    def outcome(self, parameters, design, noise, state):
        rt = parameters["skill"] * design + state + noise[:, :1]
        return {"rt": rt, "answer": parameters["skill"] + noise[:, 1:]}, state + 0.1 * design

    def log_likelihood(self, outcome, parameters, design, state):
        rest = outcome["rt"] - parameters["skill"] * design - state
        squares = ops.square(rest) + ops.square(outcome["answer"] - parameters["skill"])
        return ops.sum(-0.5 * squares, axis=-1) - np.log(2.0 * np.pi), state + 0.1 * design


def joined(outcome):
    """A dict of NumPy arrays (num, n) as one array, by the order of its names."""
    return np.concatenate([outcome[name] for name in sorted(outcome)], axis=-1)
