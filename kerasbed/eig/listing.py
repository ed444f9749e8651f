"""Settings of an enumeration: arrays as they are given, or all values of a discrete design space."""

import itertools

import numpy as np
from keras import tree
from scipy import special

from kerasbed.designs import Design, Space
from kerasbed.designs.choices import ChoiceSpace, IntegerSpace
from kerasbed.designs.composite import ProductSpace
from kerasbed.designs.sequence import SequenceSpace
from kerasbed.designs.subset import SubsetSpace
from kerasbed.simulators.simulator import design_values

MOST_DESIGNS = 2**17  # of a space that is listed


def listed_designs(designs: Design | np.ndarray | dict[str, np.ndarray]) -> np.ndarray | dict[str, np.ndarray]:
    """Settings as arrays with a leading axis."""
    if isinstance(designs, Space):
        designs = _values_of(designs)
    arrays = design_values(designs)
    sizes = {np.shape(leaf)[:1] for leaf in tree.flatten(arrays)}
    if len(sizes) != 1 or sizes == {()} or sizes == {(0,)}:
        shapes = tree.map_structure(np.shape, arrays)
        raise ValueError(f"designs have shape {shapes}, but (settings, *shape) with at least one setting was expected.")
    if not all(np.all(np.isfinite(leaf)) for leaf in tree.flatten(arrays)):
        raise ValueError("designs hold NaN or infinite values, but finite settings were expected.")
    return arrays


def _values_of(space):
    """All values of a discrete space: (S, *shape), or a dict of those for a product."""
    if isinstance(space, ProductSpace):
        parts = {name: _values_of(part) for name, part in space.spaces.items()}
        index = np.indices([len(tree.flatten(part)[0]) for part in parts.values()]).reshape(len(parts), -1)
        _refuse_many(index.shape[1])
        pairs = zip(parts.items(), index, strict=True)
        return {name: tree.map_structure(lambda v, i=i: v[i], part) for (name, part), i in pairs}
    if isinstance(space, SubsetSpace):
        _refuse_many(special.comb(space.number, space.size))
        rows = np.array(list(itertools.combinations(range(space.number), space.size)))
        return space.candidates[rows].sum(axis=1) if space.as_mask else space.candidates[rows]
    if isinstance(space, ChoiceSpace | IntegerSpace):
        entries = int(np.prod(space.shape))
        _refuse_many(float(len(space.options)) ** entries)
        grid = np.array(list(itertools.product(space.options, repeat=entries)))
        return grid.reshape(len(grid), *space.shape)
    if isinstance(space, SequenceSpace):
        single = _values_of(space.single)
        count = len(tree.flatten(single)[0])
        _refuse_many(float(count) ** space.length)
        index = np.array(list(itertools.product(range(count), repeat=space.length)))
        return tree.map_structure(lambda v: v[index], single)
    raise TypeError(
        f"A {type(space).__name__} has no list of its values; pass the settings wanted as an array (settings, *shape)."
    )


def _refuse_many(count):
    if count > MOST_DESIGNS:
        raise ValueError(
            f"The space has {count:.4g} designs, but at most {MOST_DESIGNS} are listed; pass those wanted as an array."
        )
