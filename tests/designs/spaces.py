"""The registry of design spaces: one line each, which inherits all of test_spaces.py and test_extremes.py."""

import keras
import numpy as np
from keras import ops

import kerasbed as kb


@keras.saving.register_keras_serializable("kerasbed_tests")
def decades(design):
    return ops.power(10.0, design)


@keras.saving.register_keras_serializable("kerasbed_tests")
def logarithms(value):
    return ops.log10(value)


def product(**kwargs):
    times = kb.designs.Times(3, 0.0, 1.0, min_gap=0.1)
    dose = kb.designs.Choice((1,), [1.0, 2.0, 4.0], straight_through=False)
    return kb.designs.Product(times=times, dose=dose, **kwargs)


def sequence(**kwargs):
    dose = kb.designs.Choice((1,), [1.0, 2.0, 4.0], straight_through=False)
    single = kb.designs.Product(time=kb.designs.Box((2,), 0.0, 24.0), dose=dose)
    return kb.designs.Sequence(single, length=3, **kwargs)


# name -> builder of a space; keyword arguments are handed to its constructor
SPACES = {
    "free": lambda **kwargs: kb.designs.Free((3,), center=5.0, scale=2.0, **kwargs),
    "free_matrix": lambda **kwargs: kb.designs.Free((2, 2), **kwargs),
    "box": lambda **kwargs: kb.designs.Box((3,), low=0.0, high=400.0, **kwargs),
    "box_entrywise": lambda **kwargs: kb.designs.Box(
        (2, 2), low=np.array([[-1.0, 0.0], [10.0, -5.0]]), high=np.array([[1.0, 0.1], [20.0, -4.0]]), **kwargs
    ),
    "simplex": lambda **kwargs: kb.designs.Simplex(4, total=3.0, **kwargs),
    "times": lambda **kwargs: kb.designs.Times(5, low=1.0, high=24.0, min_gap=2.0, **kwargs),
    "tight_times": lambda **kwargs: kb.designs.Times(4, low=0.0, high=1.0, min_gap=0.333, **kwargs),
    "ball": lambda **kwargs: kb.designs.Ball((2, 3), radius=2.0, center=1.0, **kwargs),
    "sphere": lambda **kwargs: kb.designs.Sphere((3,), radius=0.5, **kwargs),
    "product": product,
    "sequence": sequence,
    "transformed": lambda **kwargs: kb.designs.Transformed(
        kb.designs.Box((2,), -2.0, 1.0), decades, inverse=logarithms, **kwargs
    ),
    "subset": lambda **kwargs: kb.designs.Subset(
        [0.0, 1.0, 2.0, 5.0, 9.0], size=3, **({"straight_through": False} | kwargs)
    ),
    "subset_of_points": lambda **kwargs: kb.designs.Subset(
        np.arange(12.0).reshape(6, 2) ** 2, size=2, **({"straight_through": False} | kwargs)
    ),
    "mask": lambda **kwargs: kb.designs.Subset(6, size=2, **({"straight_through": False} | kwargs)),
    "choice": lambda **kwargs: kb.designs.Choice(
        (2,), options=[0.1, 1.0, 10.0], **({"straight_through": False} | kwargs)
    ),
    "integer": lambda **kwargs: kb.designs.Integer((2,), low=-1, high=2, **({"straight_through": False} | kwargs)),
}
