"""The registry of design spaces: one line each, and a space inherits every test in test_spaces.py."""

import numpy as np

import kerasbed as kb

# name -> builder of a space; keyword arguments are handed to its constructor
SPACES = {
    "free": lambda **kwargs: kb.designs.Free((3,), center=5.0, scale=2.0, **kwargs),
    "free_matrix": lambda **kwargs: kb.designs.Free((2, 2), **kwargs),
    "box": lambda **kwargs: kb.designs.Box((3,), low=0.0, high=400.0, **kwargs),
    "box_entrywise": lambda **kwargs: kb.designs.Box(
        (2, 2), low=np.array([[-1.0, 0.0], [10.0, -5.0]]), high=np.array([[1.0, 0.1], [20.0, -4.0]]), **kwargs
    ),
}
