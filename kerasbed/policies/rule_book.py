"""The rules of one policy, kept together along a rollout.

Moves come first, then all budgets pull at once towards a design that the moves allow, so that both hold: what the pull
passes lies between a design that the moves allow and another. A rule of the user's own stands alone, since nothing is
known of what it allows.
"""

import copy
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops, tree

from kerasbed import backend
from kerasbed.backend import Tensor, errors
from kerasbed.backend.loops import scan
from kerasbed.backend.programs import compiled
from kerasbed.designs.space import Space
from kerasbed.policies.budget import Budget
from kerasbed.policies.moves import Moves
from kerasbed.policies.parts import Parts
from kerasbed.policies.rules import Rule, made_a_program
from kerasbed.policies.spending import Spending

ROUNDING = 1e-5  # of a total, which histories may be beyond it
NONE = ()
BLOCK = 1024  # sequences admitted at once


class RuleBook:
    """The rules of one policy; without rules it carries nothing and leaves every design as it is.

    Args:
        rules: copies of them are bound to the space.
        space: of one measurement's design.
        length: number of measurements.

    Attributes:
        rules: the copies.

    Raises:
        ArgumentError: a rule is none, does not fit the space, or cannot be held beside another.
        OverBudgetError: not even the cheapest designs can be paid.
    """

    def __init__(self, rules: Sequence[Rule] | None, space: Space, length: int):
        self.space, self.length, self.parts = space, length, Parts(space)
        self.rules = tuple(copy.copy(rule) for rule in _checked(NONE if rules is None else rules))
        self.moves = [rule for rule in self.rules if isinstance(rule, Moves)]
        self.budgets = [rule for rule in self.rules if isinstance(rule, Budget)]
        self.own = [rule for rule in self.rules if not isinstance(rule, Moves | Budget)]
        if self.own and len(self.rules) > 1:
            raise errors.ArgumentError(
                f"rules has {type(self.own[0]).__name__} beside {len(self.rules) - 1} others, but nothing is known of "
                "what it allows, so that they cannot be held together; pass it alone, and let it hold all."
            )
        self._share_start()
        for rule in self.rules:
            rule.setup(space, length)
        self.ends = np.cumsum([rule.size for rule in self.rules]).tolist()
        self.made, self.known = 0, None  # measurements before the first that is to be made, and the row after them
        self.functions = [budget.cost for budget in self.budgets]  # whose data programs hold
        self.spending = Spending(self.budgets, self.moves, self.parts, length)
        self._check()

    def __bool__(self) -> bool:
        return bool(self.rules)

    def _share_start(self):
        """One start for all: budgets without one count from that of the moves."""
        given = [rule.initial for rule in (*self.moves, *self.budgets) if rule.initial is not None]
        if any(repr(_as_lists(one)) != repr(_as_lists(given[0])) for one in given[1:]):
            raise errors.ArgumentError(
                f"rules have different start designs, {given[0]} and {given[1]}, but an experiment starts at one; pass "
                "the same to all."
            )
        for budget in self.budgets:
            budget.initial = given[0] if given else None

    def _check(self):
        if self.budgets:
            with made_a_program("The cost of a Budget"):
                least = self._least(self.rows_after(1), 0)[0]
            for budget, needed in zip(self.budgets, least, strict=True):
                if needed > budget.total * (1.0 + ROUNDING):
                    raise errors.OverBudgetError(
                        f"total is {budget.total:g}, but {self.length} measurements at the cheapest design found, "
                        f"{budget.cheapest}, cost {needed:.6g}; raise total, make fewer measurements, or pass a "
                        "cheaper design as cheapest=."
                    )
        if self.own:
            self._check_own()

    def _check_own(self):
        draws = self.space.sample(8 * self.length, seed=0)
        draws = tree.map_structure(lambda v: v.reshape(8, self.length, *v.shape[1:]), draws)
        self._check_rows(tree.map_structure(lambda v: v[:, 0], draws))
        with made_a_program(f"The rule {type(self.own[0]).__name__}"):
            found = self.admitted(self.rows_after(8), draws, 0)[0]
        shapes = [tree.map_structure(np.shape, designs) for designs in (found, draws)]
        inside = shapes[0] == shapes[1] and np.all(
            self.space.contains(tree.map_structure(lambda v: v.reshape(-1, *v.shape[2:]), found))
        )
        if not inside:
            raise errors.ArgumentError(
                f"rules has {type(self.own[0]).__name__}, whose admit gives designs of shape {shapes[0]} outside of "
                f"{self.space!r} for proposals of shape {shapes[1]} within; let it give designs of the space."
            )

    def _check_rows(self, designs):
        """What each method of a rule of the user's own gives at designs (8, *shape), one after the other."""
        rule, wanted = self.own[0], tree.map_structure(np.shape, designs)
        row_shape = "(rows, size)"
        with backend.wide_simulation(self.space.find_range()), backend.no_gradients():
            designs, index = backend.cast(designs), ops.convert_to_tensor(0, dtype="int32")
            row = rule.start(ops.zeros_like(ops.reshape(tree.flatten(designs)[0], (8, -1))[:, :1]))
            self._expect("start", np.shape(row), (8, rule.size), row_shape)
            told = np.shape(rule.features(row, index))
            self._expect("features", told, (8, told[1] if len(told) == 2 else 1), "(rows, any width)")
            admitted = rule.admit(designs, row, index)
            self._expect("admit", tree.map_structure(np.shape, admitted), wanted, f"{wanted}")
            self._expect("update", np.shape(rule.update(row, admitted, index)), (8, rule.size), row_shape)

    def _expect(self, name, found, wanted, told):
        if found != wanted:
            raise errors.ArgumentError(
                f"rules has {type(self.own[0]).__name__}, whose {name} gives shape {found} for 8 rows, but {told} was "
                f"expected; its row has size = {self.own[0].size} numbers for each experiment."
            )

    # -- along a rollout, in tensors ---

    def start(self, rows: Tensor) -> Any:
        """Rows (rows, numbers) before the first measurement, for as many as a tensor (rows, ...) has."""
        if not self.rules:
            return NONE
        column = ops.reshape(ops.zeros_like(rows), (-1, int(np.prod(rows.shape[1:]))))[:, :1]
        if self.known is not None:
            return column + ops.convert_to_tensor(self.known, dtype=column.dtype)
        return ops.concatenate([rule.start(column) for rule in self.rules], axis=1)

    def features(self, row: Any, index: Tensor) -> Tensor | None:
        """What a network is told before the `index`-th measurement, (rows, width); None without rules."""
        if not self.rules:
            return None
        return ops.concatenate([rule.features(own, index) for rule, own in self._each(row)], axis=1)

    def admit(self, design: Any, row: Any, index: Tensor) -> tuple[Any, Any]:
        """The admissible designs (rows, *shape) in the place of proposals, and the rows after them."""
        if not self.rules:
            return design, row
        for rule, own in self._each(row):
            if rule not in self.budgets:
                design = rule.admit(design, own, index)
        if self.budgets:
            design = self.spending.admitted(design, self._spent(row), self._previous(row), index)
        return design, self.update(row, design, index)

    def update(self, row: Tensor, design: Any, index: Tensor) -> Tensor:
        """The rows after designs that were measured at."""
        return ops.concatenate([rule.update(own, design, index) for rule, own in self._each(row)], axis=1)

    def after(self, designs: Any, made: Tensor) -> Any:
        """The rows after the first `made` of designs (rows, T, *shape)."""
        first = tree.flatten(designs)[0]
        row = self.start(first[:, 0])
        if not self.rules:
            return row
        indices = ops.arange(self.length, dtype="int32")

        def step(row, now):
            updated = self.update(row, now["design"], now["index"])
            return ops.where(now["index"] < ops.cast(made, "int32"), updated, row), None

        looks = tree.map_structure(lambda leaf: ops.moveaxis(leaf, 1, 0), designs)
        return scan(step, row, {"design": looks, "index": indices})[0]

    def _each(self, row):
        begins = [0, *self.ends]
        return [(rule, row[:, a:b]) for rule, a, b in zip(self.rules, begins, self.ends, strict=False)]

    def _spent(self, row):
        return ops.concatenate([own[:, :1] for rule, own in self._each(row) if rule in self.budgets], axis=1)

    def _previous(self, row):
        return self.parts.unflat(next(own for rule, own in self._each(row) if rule is self.budgets[0])[:, 1:])

    def least(self, row: Tensor, index: Tensor) -> Tensor:
        """What the cheaper plan for all measurements to come costs of each budget, (rows, budgets)."""
        return self.spending.plan({"spent": self._spent(row), "previous": self._previous(row), "index": index})[1]

    # -- of NumPy arrays ---

    def rows_after(self, num: int, designs: Any = None) -> np.ndarray:
        """Rows (num, numbers) after designs (num, t, *shape); before the first where there are none.

        Raises:
            HistoryError: more was spent than leaves enough for what is to come.
        """
        made = 0 if designs is None else tree.flatten(designs)[0].shape[1]
        if not made:
            return np.repeat(self._run("start", np.zeros((1, 1))), num, axis=0)
        filler = tree.map_structure(
            lambda v: np.broadcast_to(v, (num, self.length - made, *v.shape[1:])), self.space.sample(1, 0)
        )
        whole = tree.map_structure(lambda a, b: np.concatenate([a, b], axis=1), designs, filler)
        row = self._run("after", whole, np.int32(made))
        if self.budgets:
            self._check_spent(row, made)
        return row

    def _check_spent(self, row, made):
        least = self._least(row, made) if made < self.length else np.zeros((len(row), len(self.budgets)))
        owned = [own[:, 0] for rule, own in self._each(row) if rule in self.budgets]
        for budget, spent, needed in zip(self.budgets, owned, least.T, strict=True):
            budget.check_spent(spent, needed, made, ROUNDING)

    def _least(self, row, made):
        return self._run("least", row, np.int32(made))

    def admitted(self, row: np.ndarray, designs: Any, index: int) -> tuple[Any, np.ndarray]:
        """Admissible designs in the place of proposals (n, q, *shape) for measurements in order, and rows after them.

        Args:
            row: (n, numbers).
            designs: proposals of the measurements from the `index`-th on.
            index: of the first.
        """
        flat, row = self._run(admitted_in_order, row, designs, np.int32(index))
        shapes = [(part.name, part.size, part.space.shape) for part in self.parts.all]
        pieces, first = {}, 0
        for name, size, shape in shapes:
            pieces[name] = flat[..., first : first + size].reshape(*flat.shape[:2], *shape)
            first += size
        return self.parts.joined(pieces), row

    def admitted_sequences(self, designs: Any) -> Any:
        """Admissible designs in the place of proposals (n, T, *shape) for all measurements that are to be made."""
        if not self.rules:
            return designs
        num, found = len(tree.flatten(designs)[0]), []
        row = np.repeat(self.rows_after(1) if self.known is None else self.known, BLOCK, axis=0)
        for first in range(0, num, BLOCK):  # of one size, for one program
            rows = np.minimum(np.arange(first, first + BLOCK), num - 1)
            found.append(self.admitted(row, tree.map_structure(lambda v, r=rows: v[r], designs), self.made)[0])
        return tree.map_structure(lambda *leaves: np.concatenate(leaves)[:num], *found)

    def continued(self, designs: Any) -> "RuleBook":
        """The same rules for what is left after designs (1, t, *shape).

        Raises:
            HistoryError: more was spent than leaves enough for what is to come.
        """
        book = copy.copy(self)
        book.made = tree.flatten(designs)[0].shape[1]
        book.known = self.rows_after(1, designs) if self.rules else None
        return book

    def _run(self, function, *arrays):
        with backend.wide_simulation(self.space.find_range()):
            return compiled(function, self, dtype=keras.config.floatx(), make=backend.compile_once)(*arrays)


class RuledCandidates:
    """Candidates of a decision after each of n histories.

    Args:
        book: with rules.
        row: (n, numbers).
        made: measurements before.
        count: measurements of the decision; designs are (count, *shape) where it is not 1.
    """

    def __init__(self, book: RuleBook, row: np.ndarray, made: int, count: int):
        self.book, self.row, self.made, self.count = book, row, made, count

    def admitted(self, designs: Any) -> Any:
        """Admissible candidates (n, C, *shape) in the place of others, (1 or n, C, *shape)."""
        num, each = len(self.row), tree.flatten(designs)[0].shape[1]
        wide = tree.map_structure(lambda v: np.broadcast_to(v, (num, *v.shape[1:])), designs)
        flat = tree.map_structure(lambda v: v.reshape(num * each, *v.shape[2:]), wide)
        found = self._run(np.repeat(self.row, each, axis=0), flat)[0]
        return tree.map_structure(lambda v: v.reshape(num, each, *v.shape[1:]), found)

    def after(self, design: Any) -> np.ndarray:
        """The rows (n, numbers) after admitted designs, (n, *shape)."""
        return self._run(self.row, design)[1]

    def _run(self, row, designs):
        """Admitted designs and the rows after them, of one decision for each row."""
        single = self.count == 1
        looks = tree.map_structure(lambda v: v[:, None], designs) if single else designs
        found, row = self.book.admitted(row, looks, self.made)
        return (tree.map_structure(lambda v: v[:, 0], found) if single else found), row


def admitted_in_order(book: RuleBook, row: Tensor, designs: Any, index: Tensor) -> tuple[Tensor, Tensor]:
    """What `RuleBook.admitted` gives, in tensors, the designs as rows of numbers (n, q, size)."""

    def step(carry, now):
        row, index = carry
        design, row = book.admit(now, row, index)
        return (row, index + 1), book.parts.flat(design)

    looks = tree.map_structure(lambda leaf: ops.moveaxis(leaf, 1, 0), designs)
    (row, _), made = scan(step, (row, ops.cast(index, "int32")), looks)
    return ops.moveaxis(made, 0, 1), row


def _checked(rules):
    for rule in rules:
        if not isinstance(rule, Rule):
            raise errors.ArgumentError(
                f"rules has {rule!r}, but rules such as kb.policies.Moves(0.5) were expected, in a list."
            )
    return rules


def _as_lists(design):
    return tree.map_structure(lambda v: np.asarray(v, "float64").tolist(), design) if design is not None else None
