"""What every rule along a rollout shares.

A rule says which designs are admissible after those before: it carries a row of numbers for each experiment, tells the
policy's network of it, and turns each proposal into an admissible design, which gradients pass through,

    xi_t = admit(proposal_t, r_{t-1}),   r_t = update(r_{t-1}, xi_t).

It is the same in training, after a history, and in the baselines: `kerasbed.policies.rule_book` keeps the rules of a
policy together.
"""

import contextlib
import inspect
from collections.abc import Iterator
from typing import Any, Self

from keras import ops

from kerasbed.backend import Tensor
from kerasbed.backend.errors import ArgumentError, FileError, KerasbedError
from kerasbed.designs.space import Space


@contextlib.contextmanager
def made_a_program(what: str) -> Iterator[None]:
    """Context for a program of what has run on numbers before; `what` of the rules it is of.

    Raises:
        ArgumentError: no program can be made of it.
    """
    try:
        yield
    except KerasbedError:
        raise
    except Exception as error:  # each backend has its own for tensors without values
        first = (str(error).strip().splitlines() or [""])[0]
        raise ArgumentError(
            f"{what} runs on numbers, but no program can be made of it: {type(error).__name__}: {first} Write it in "
            "keras.ops alone, with ops.where in the place of if."
        ) from error


class Rule:
    """Which designs are admissible after those before; a concrete one defines `admit`, and what it needs of the rest.

    A rule is not changed after its making; a policy binds a copy of it to its space by `setup`.

    Attributes:
        size: numbers of the row that it carries for each experiment.
        space, length: of one measurement's design, and number of measurements; known after `setup`.

    Example:
        A rule of one's own: time goes on, so that no measurement is earlier than the one before.

        >>> class Onward(kb.policies.Rule):
        ...     size = 1
        ...
        ...     def admit(self, design, row, index):
        ...         return ops.maximum(design, row)
        ...
        ...     def update(self, row, design, index):
        ...         return design
        >>> policy = kb.policies.RandomPolicy(kb.designs.Box((1,), 0.0, 24.0), steps=4, rules=[Onward()], seed=0)
        >>> bool(np.all(np.diff(policy.sample(100, seed=0), axis=1) >= 0.0))
        True
    """

    described = "a rule, such as kb.policies.Moves(0.5),"
    size = 0

    def setup(self, space: Space, length: int) -> None:
        """Take the space of one measurement's design and the number of measurements.

        Raises:
            ArgumentError: the rule does not fit the space.
        """
        self.space, self.length = space, length

    def start(self, rows: Tensor) -> Tensor:
        """The row before the first measurement, (rows, size), for as many as a tensor (rows, 1) has; zeros."""
        return ops.repeat(ops.zeros_like(rows), self.size, axis=1)

    def features(self, row: Tensor, index: Tensor) -> Tensor:
        """What a policy's network is told before the `index`-th measurement, (rows, any width); the row itself."""
        return row

    def admit(self, design: Any, row: Tensor, index: Tensor) -> Any:
        """The admissible design in the place of a proposal, (rows, *shape), or a dict of those.

        Args:
            design: a proposal in the space.
            row: (rows, size).
            index: of the measurement, from 0.

        Raises:
            ArgumentError: the rule does not define it.
        """
        raise ArgumentError(
            f"{type(self).__name__} is a rule without admit, which says what is admissible; define admit(self, design, "
            "row, index) that returns designs of the same shape, in keras.ops."
        )

    def update(self, row: Tensor, design: Any, index: Tensor) -> Tensor:
        """The row (rows, size) after the `index`-th measurement at admitted designs (rows, *shape)."""
        return row

    def get_config(self) -> dict[str, Any]:
        """Arguments of the constructor.

        Raises:
            FileError: the constructor takes arguments, and the class does not say which they were.
        """
        if given := list(inspect.signature(type(self)).parameters):
            raise FileError(
                f"{type(self).__name__} is made with the arguments {given}, but does not say which they were, so that "
                f"a file would lose them; define get_config(self) that returns {{{given[0]!r}: ..., ...}}."
            )
        return {}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """A rule from `get_config()`."""
        return cls(**config)
