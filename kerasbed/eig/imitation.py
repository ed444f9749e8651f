r"""A known law that imitates simulated outcomes: something that a claimed likelihood can be held against.

An outcome's entries may be continuous, discrete or both: zero-inflated, censored, rounded, missing. In a continuous law
no value repeats, so what repeats is an atom. Outcomes are split by their pattern of atoms; given a pattern, the other
entries y are mapped to normal scores z, piecewise linearly between quantiles, and

    q(pattern, y) = frequency of the pattern x [1/2 N(z; 0, C) + 1/2 kernel density of z] x prod dz/dy,

C the correlation of z. Atoms count as probabilities and the rest as densities, as they do in a likelihood of a mixed
law. Likelihoods are asked only about outcomes like simulated ones: seen patterns, and entries, their differences and
their sum in the range seen, the region R. Elsewhere a right likelihood need not be zero, or even defined.
"""

import numpy as np
from scipy import special, stats
from scipy.spatial import distance

# A value seen so often is an atom; float32 arithmetic inside an outcome makes an occasional pair, and no more.
REPEATS = 3
CHANCE_PAIRS = 2
# A lattice with fewer draws to a value than this is too fine to be told from a continuum.
FINEST = 2
# Fewer draws than this do not show how the continuous entries of a pattern are distributed.
LEAST_MEMBERS = 40
MOST_CENTRES = 256  # kernels of a density; more take time and tell little more
MOST_ENTRIES = 51
MOST_KNOTS = 33
PAIRWISE_ENTRIES = 12
# Least eigenvalue of a correlation matrix that can be told from zero by simulated outcomes.
SINGULAR = 1e-10
# Chatterjee's correlation (2021) of an entry that is a function of another one is above this.
DETERMINED = 0.98


def atoms_of(column: np.ndarray) -> tuple[np.ndarray, bool]:
    """Atoms of one entry, sorted, from its draws (num,), and whether its law can be told.

    Where the atoms lie on a lattice with all other values, the entry is discrete and every value is an atom.
    """
    values, counts = np.unique(column, return_counts=True)
    atoms, others = values[counts >= REPEATS], values[counts < REPEATS]
    pairs = int(np.sum(counts == 2))
    if len(others) and len(atoms) >= 3 and np.all(on_lattice(others, atoms)):
        return values, len(column) >= FINEST * len(values)
    return atoms, pairs <= CHANCE_PAIRS


def on_lattice(values: np.ndarray, atoms: np.ndarray) -> np.ndarray:
    """Whether values are whole numbers of the least distance between atoms away from them."""
    steps = (values - atoms[0]) / np.min(np.diff(atoms))
    return np.abs(steps - np.round(steps)) < 1e-6 * np.maximum(1.0, np.abs(steps))


class Imitation:
    """The fitted law q.

    Args:
        outcomes: simulated at one parameter and one design, (num, entries), float64.

    Attributes:
        is_told: False where an entry has a lattice too fine to be told from a continuum.
        is_comparable: False also where continuous entries determine each other: they have no joint density.
    """

    def __init__(self, outcomes: np.ndarray):
        found = [atoms_of(column) for column in outcomes.T]
        self.atoms = [atoms for atoms, _ in found]
        self.is_told = self.is_comparable = all(is_told for _, is_told in found)
        codes = self._codes(outcomes)
        self.patterns, inverse, counts = np.unique(codes, axis=0, return_inverse=True, return_counts=True)
        inverse = inverse.reshape(-1)
        self.parts: dict[int, Continuum] = {}
        kept = []
        for index, pattern in enumerate(self.patterns):
            free = pattern < 0
            if free.any() and (counts[index] < LEAST_MEMBERS or free.sum() > MOST_ENTRIES):
                continue
            kept.append(index)
            if free.any() and self.is_comparable:
                self.parts[index] = Continuum(outcomes[inverse == index][:, free])
        self.is_comparable = self.is_comparable and all(not part.is_singular for part in self.parts.values())
        self.kept = np.array(kept, int)
        self.share = counts[self.kept] / max(1, counts[self.kept].sum())
        self.lookup = {tuple(self.patterns[index]): place for place, index in enumerate(kept)}

    def _codes(self, outcomes):
        """Which atom each entry is, -1 for none, (num, entries)."""
        codes = np.full(outcomes.shape, -1)
        for i, atoms in enumerate(self.atoms):
            if len(atoms):
                place = np.minimum(np.searchsorted(atoms, outcomes[:, i]), len(atoms) - 1)
                codes[:, i] = np.where(atoms[place] == outcomes[:, i], place, -1)
        return codes

    def places(self, outcomes: np.ndarray) -> np.ndarray:
        """Which of the kept patterns outcomes have, -1 for none, (num,)."""
        return np.array([self.lookup.get(tuple(code), -1) for code in self._codes(outcomes)], int)

    def sample(self, num: int, rng: np.random.Generator) -> np.ndarray:
        """Draws of q, (num, entries); what falls outside the ranges seen is moved to their edge."""
        places = rng.choice(len(self.kept), num, p=self.share)
        draws = np.empty((num, len(self.atoms)))
        for place in np.unique(places):
            rows, index = places == place, int(self.kept[place])
            pattern = self.patterns[index]
            block = np.array([self.atoms[i][code] if code >= 0 else 0.0 for i, code in enumerate(pattern)])
            block = np.tile(block, (rows.sum(), 1))
            if index in self.parts:
                block[:, pattern < 0] = self.parts[index].sample(len(block), rng)
            draws[rows] = block
        return draws

    def evaluate(self, outcomes: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """log q (num,), normal scores of continuous entries (num, entries), whether outcomes are in R (num,)."""
        places = self.places(outcomes)
        log_q, scores, inside = np.full(len(outcomes), -np.inf), np.zeros(outcomes.shape), places >= 0
        log_q[inside] = np.log(self.share[places[inside]])
        for index, part in self.parts.items():
            rows = places == self.lookup[tuple(self.patterns[index])]
            if rows.any():
                free = self.patterns[index] < 0
                log_density, z, within = part.evaluate(outcomes[rows][:, free])
                log_q[rows] += log_density
                scores[np.ix_(rows, free)] = z
                inside[rows] = within
        return log_q, scores, inside


class Continuum:
    """Continuous entries given a pattern of atoms, fitted to draws (num, entries)."""

    def __init__(self, draws: np.ndarray):
        num, self.dim = draws.shape
        levels = np.linspace(0.5 / num, 1.0 - 0.5 / num, int(np.clip(num // 24, 5, MOST_KNOTS)))
        self.z_knots = special.ndtri(levels)
        self.y_knots = np.quantile(draws, np.linspace(0.0, 1.0, len(levels)), axis=0)
        self.is_singular = bool(np.any(np.diff(self.y_knots, axis=0) <= 0)) or _is_determined(draws)
        if self.is_singular:
            return
        self.functionals = _functionals(self.dim)
        seen = draws @ self.functionals
        self.low, self.high = seen.min(axis=0), seen.max(axis=0)
        z, _ = self._scores(draws)
        correlation = np.atleast_2d(np.corrcoef(z, rowvar=False))
        self.factor = np.linalg.cholesky(0.98 * correlation + 0.02 * np.eye(self.dim))
        z = z[:MOST_CENTRES]
        self.width = len(z) ** (-1.0 / (self.dim + 4.0))
        # Centres drawn together by what the kernels spread, so that the density keeps the variance.
        self.centres = np.sqrt(1.0 - self.width**2) * self._whitened(z)

    def _scores(self, draws):
        """Normal scores (num, entries) and the log-determinant of their slopes (num,)."""
        z, log_slope = np.empty(draws.shape), np.zeros(len(draws))
        for i, knots in enumerate(self.y_knots.T):
            piece = np.clip(np.searchsorted(knots, draws[:, i]) - 1, 0, len(knots) - 2)
            slope = np.diff(self.z_knots)[piece] / np.diff(knots)[piece]
            z[:, i] = self.z_knots[piece] + slope * (draws[:, i] - knots[piece])
            log_slope += np.log(slope)
        return z, log_slope

    def _whitened(self, z):
        return np.linalg.solve(self.factor, z.T).T

    def sample(self, num: int, rng: np.random.Generator) -> np.ndarray:
        """(num, entries)."""
        noise = rng.standard_normal((num, self.dim))
        centres = self.centres[rng.integers(len(self.centres), size=num)]
        white = np.where(rng.random((num, 1)) < 0.5, noise, centres + self.width * noise)
        z = np.clip(white @ self.factor.T, self.z_knots[0], self.z_knots[-1])
        return np.stack([np.interp(z[:, i], self.z_knots, knots) for i, knots in enumerate(self.y_knots.T)], axis=-1)

    def evaluate(self, draws: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Log density (num,), normal scores (num, entries), whether draws are in the ranges seen (num,)."""
        values = draws @ self.functionals
        # Strictly: draws that were moved to the edge are outside.
        inside = np.all((values > self.low) & (values < self.high), axis=1)
        z, log_slope = self._scores(np.clip(draws, self.y_knots[0], self.y_knots[-1]))
        white = self._whitened(z)
        normal = np.exp(-0.5 * np.sum(white**2, axis=1))
        squares = distance.cdist(white, self.centres, "sqeuclidean") / self.width**2
        kernels = np.exp(-0.5 * squares).mean(axis=1) / self.width**self.dim
        constant = 0.5 * self.dim * np.log(2.0 * np.pi) + np.sum(np.log(np.diag(self.factor)))
        return np.log(0.5 * (normal + kernels)) - constant + log_slope, z, inside


def _functionals(dim):
    """Entries, their sum, and differences of pairs (of neighbours where entries are many), (dim, count)."""
    eye = np.eye(dim)
    pairs = [(i, j) for i in range(dim) for j in range(i) if dim <= PAIRWISE_ENTRIES or j == i - 1]
    differences = [eye[i] - eye[j] for i, j in pairs]
    total = [np.ones(dim)] if dim > 1 else []
    return np.stack([*eye, *total, *differences], axis=1)


def _is_determined(draws):
    """Whether entries equal or determine each other, so that they have no joint density."""
    num, dim = draws.shape
    if dim == 1:
        return False
    standard = (draws - draws.mean(axis=0)) / draws.std(axis=0)
    if np.linalg.eigvalsh(np.corrcoef(standard, rowvar=False))[0] < SINGULAR:
        return True
    ordered = np.sort(draws, axis=1)
    if np.sum(ordered[:, 1:] == ordered[:, :-1]) > CHANCE_PAIRS:
        return True
    ranks = stats.rankdata(draws, axis=0)
    for i in range(dim):
        steps = np.abs(np.diff(ranks[np.argsort(draws[:, i])], axis=0)).sum(axis=0)
        if np.any(np.delete(1.0 - 3.0 * steps / (num**2 - 1.0), i) > DETERMINED):
            return True
    return dim <= 6 and _intrinsic_dimension(ranks[: 2 * MOST_CENTRES]) < dim - 0.5


def _intrinsic_dimension(points):
    """From the ratios of distances to the two nearest neighbours; Facco et al. (2017)."""
    distances = distance.cdist(points, points)
    np.fill_diagonal(distances, np.inf)
    nearest = np.partition(distances, 1, axis=1)[:, :2]
    return 1.0 / np.mean(np.log(nearest[:, 1] / np.maximum(nearest[:, 0], np.finfo(float).tiny)))
