"""Cells of an adaptive cubature: their nodes, what a cell's values tell of its integral, and how they are halved.

The mathematics is told in `kerasbed.eig.cubature`.
"""

import functools
import itertools
from dataclasses import dataclass

import numpy as np

NODES = {0: 1, 1: 8, 2: 6, 3: 4}  # on each axis of a cell


@dataclass
class Measured:
    log_max: np.ndarray
    log_mean: np.ndarray
    errors: np.ndarray  # relative, by axis
    peak: np.ndarray  # log f at the vertex of a quadratic
    log_needle: np.ndarray  # Laplace's log mean of f over the cell, there
    curvature: np.ndarray  # by axis


@functools.cache  # of four dimensions at most
def _rule(dim):
    """Nodes (Q, dim) on [-1, 1]^dim, mean weights (Q,), those of an axis (q,), two top coefficients (2, q)."""
    q = NODES[dim]
    x, w = np.polynomial.legendre.leggauss(q)
    nodes = np.stack(np.meshgrid(*[x] * dim, indexing="ij"), -1).reshape(-1, dim) if dim else np.zeros((1, 0))
    weights = np.prod(np.meshgrid(*[0.5 * w] * dim, indexing="ij"), axis=0).ravel() if dim else np.ones(1)
    orders = (q - 2, q - 1)
    top = np.stack([(n + 0.5) * w * np.polynomial.legendre.legval(x, np.eye(q)[n]) for n in orders if n >= 0])
    return nodes, weights, 0.5 * w, top


@functools.cache  # likewise
def _quadratic(dim):
    """Least-squares fit of a quadratic: coefficients from values (K, Q), values from coefficients (Q, K), pairs."""
    nodes = _rule(dim)[0]
    pairs = list(itertools.combinations_with_replacement(range(dim), 2))
    columns = [np.ones(len(nodes)), *nodes.T, *[nodes[:, i] * nodes[:, j] for i, j in pairs]]
    basis = np.stack(columns, axis=1)
    return np.linalg.pinv(basis), basis, pairs


def nodes_of(lower: np.ndarray, width: np.ndarray) -> np.ndarray:
    """Nodes of cells: (C, dim), (C, dim) -> (C, Q, dim)."""
    return lower[:, None] + 0.5 * width[:, None] * (1.0 + _rule(lower.shape[1])[0])


def cell_nodes(lower: np.ndarray, width: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Nodes of all cells (C * Q, dim) and their log weights (C * Q,)."""
    dim = lower.shape[1]
    log_w = np.log(width).sum(axis=1)[:, None] + np.log(_rule(dim)[1])
    return nodes_of(lower, width).reshape(-1, dim), log_w.ravel()


def row_keys(rows: np.ndarray) -> np.ndarray:
    """A 64-bit number for each row of floats, equal for equal rows: (A, k) -> (A,).

    Rows that differ agree with a probability of about 1e-8 in a million rows; sorting numbers is far quicker than
    sorting rows.
    """
    bits, keys = (rows + 0.0).view("uint64"), np.zeros(len(rows), "uint64")
    for column in bits.T:
        keys = (keys ^ (column ^ (column >> np.uint64(29)))) * np.uint64(0xBF58476D1CE4E5B9)
        keys ^= keys >> np.uint64(32)
    return keys


def halved(
    owner: np.ndarray, lower: np.ndarray, width: np.ndarray, split: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Children of cells, halved along the axes marked."""
    for axis in range(lower.shape[1]):
        chosen = split[:, axis]
        width = width.copy()
        width[chosen, axis] *= 0.5
        upper = lower[chosen].copy()
        upper[:, axis] += width[chosen, axis]
        lower = np.concatenate([lower, upper])
        owner, width, split = (np.concatenate([part, part[chosen]]) for part in (owner, width, split))
    return owner, lower, width


def measure(log_f: np.ndarray, dim: int) -> Measured:
    log_max = log_f.max(axis=1)
    shift = np.where(np.isfinite(log_max), log_max, 0.0)
    relative = log_f - shift[:, None]
    f = np.exp(relative)
    mean = f @ _rule(dim)[1]
    with np.errstate(divide="ignore"):
        log_mean = np.log(mean) + shift
    peak, log_needle, curvature = _vertex(relative, dim)  # -inf stays where every node is impossible
    return Measured(log_max, log_mean, _errors(f, mean, dim), peak + log_max, log_needle + log_max, curvature)


def _errors(f, mean, dim):
    """Mean over lines along each axis of the squared top coefficient, relative to the mean: (A, dim)."""
    _, _, w, top = _rule(dim)
    grid, found = f.reshape(len(f), *[NODES[dim]] * dim), []
    for axis in range(dim):
        lines = np.moveaxis(grid, axis + 1, -1).reshape(len(f), -1, NODES[dim])
        coefficients = np.square(lines @ top.T).max(axis=-1)
        weights = np.prod(np.meshgrid(*[w] * (dim - 1), indexing="ij"), axis=0).ravel() if dim > 1 else np.ones(1)
        found.append(coefficients @ weights)
    divisor = np.where(mean > 0.0, np.square(mean), 1.0)
    return np.stack(found, axis=1) / divisor[:, None] if dim else np.zeros((len(f), 0))


def _vertex(relative, dim):
    """Height of a quadratic fit's vertex, Laplace's log mean there, and curvatures; relative to the highest node."""
    if dim == 0:
        return (np.zeros(len(relative)),) * 2 + (np.zeros((len(relative), 0)),)
    fit, basis, pairs = _quadratic(dim)
    partly = ~np.isfinite(relative).all(axis=1)
    values = np.where(np.isfinite(relative), np.maximum(relative, -1e12), 0.0)
    c = values @ fit.T
    residual = np.sqrt(np.mean(np.square(values - c @ basis.T), axis=1))
    slope, hessian = c[:, 1 : dim + 1], np.zeros((len(c), dim, dim))
    for (i, j), value in zip(pairs, c[:, dim + 1 :].T, strict=True):
        hessian[:, i, j] = hessian[:, j, i] = -value * (2.0 if i == j else 1.0)
    place, log_det, definite = _solved(hessian, slope)
    inside = definite & (np.abs(place) <= 1.3).all(axis=1)
    place = np.where(inside[:, None], place, np.clip(place, -1.0, 1.0))
    height = c[:, 0] + np.sum(slope * place, axis=1) - 0.5 * np.einsum("ai,aij,aj->a", place, hessian, place)
    peak = np.where(definite, height, 0.0) + 2.0 * residual
    # Mass of a Gaussian in x, over the cell's volume 2^dim, which it cannot exceed.
    log_width = np.where(inside, np.minimum(0.5 * dim * np.log(2.0 * np.pi) - 0.5 * log_det - dim * np.log(2.0), 0), 0)
    curvature = np.maximum(np.abs(np.diagonal(hessian, axis1=1, axis2=2)), np.abs(slope))
    peak = np.where(partly, 0.0, peak)  # of a cell in part impossible, a fit says nothing
    return peak, peak + log_width, curvature


def _solved(matrix, vector):
    """Solutions of small symmetric systems by elimination: places (A, dim), log determinants, definite or not."""
    m, v, dim = matrix.copy(), vector.copy(), vector.shape[1]
    definite, log_det = np.ones(len(m), bool), np.zeros(len(m))
    for k in range(dim):
        definite &= m[:, k, k] > 1e-12
        pivot = np.where(definite, m[:, k, k], 1.0)
        log_det += np.log(pivot)
        for i in range(k + 1, dim):
            ratio = m[:, i, k] / pivot
            m[:, i] -= ratio[:, None] * m[:, k]
            v[:, i] -= ratio * v[:, k]
    for k in reversed(range(dim)):
        rest = sum((m[:, k, j] * v[:, j] for j in range(k + 1, dim)), start=np.zeros(len(m)))
        v[:, k] = (v[:, k] - rest) / np.where(definite, m[:, k, k], 1.0)
    return np.where(definite[:, None], v, 0.0), log_det, definite


def density_at_ends(
    lower: np.ndarray, width: np.ndarray, log_f: np.ndarray, low: np.ndarray, high: np.ndarray, dim: int
) -> np.ndarray:
    """Highest log density at nodes next to the ends of the box, (A,); -inf for cells away from them."""
    found, q = np.full(len(lower), -np.inf), NODES[dim]
    index = np.stack(np.unravel_index(np.arange(q**dim), (q,) * dim), axis=-1)
    for axis in range(dim):
        for touches, layer in (
            (lower[:, axis] <= low[axis] + 1e-9, 0),
            ((lower + width)[:, axis] >= high[axis] - 1e-9, q - 1),
        ):
            rows = np.flatnonzero(touches)
            found[rows] = np.maximum(found[rows], log_f[rows][:, index[:, axis] == layer].max(axis=1))
    return found


def log_sum(owner: np.ndarray, values: np.ndarray, num: int) -> np.ndarray:
    """log of sums of exp(values) by owner, (num,)."""
    top = np.full(num, -np.inf)
    np.maximum.at(top, owner, values)
    shift = np.where(np.isfinite(top), top, 0.0)
    with np.errstate(divide="ignore"):
        return np.log(np.bincount(owner, np.exp(values - shift[owner]), minlength=num)) + shift
