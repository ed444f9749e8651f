"""The amortised posterior of a trained model: draws, densities and probabilities for observed outcomes."""

from collections.abc import Mapping

import bayesflow as bf
import numpy as np

from kerasbed import backend
from kerasbed.backend.validation import checked, integer_seed, positive_integer
from kerasbed.model import approximator
from kerasbed.model.amortised_posterior import AmortisedPosterior
from kerasbed.networks.posterior import Posterior
from kerasbed.priors.base import Parameters


class Amortised(backend.KerasModel):
    """What a `DesignModel` says about parameters, given data; the user's units, NumPy in and out."""

    @property
    def posterior(self) -> Posterior:
        """The amortised posterior: that of `fit_posterior` where it was called, else the objective's.

        Raises:
            ValueError: there is none.
        """
        if self.fitted_posterior is not None:
            return self.fitted_posterior
        if self.objective.posterior is None:
            raise ValueError(
                f"{type(self.objective).__name__} holds no posterior network; call model.fit_posterior() to train one "
                "at the learned design, or use kb.objectives.BarberAgakov or AdaptiveContrastive, which hold one."
            )
        return self.objective.posterior

    @checked(num_samples=positive_integer, seed=integer_seed)
    @backend.simulates
    def sample(
        self, num_samples: int, conditions: Mapping[str, np.ndarray | dict], seed: int | None = None
    ) -> dict[str, np.ndarray]:
        """Draws from the amortised posterior.

        Args:
            num_samples: draws for each data set.
            conditions: {"outcome": (datasets, *outcome_shape)}, as `simulate` gives it, a dict of arrays where the
                simulator's outcome is one; and, where the executed design differs from the learned one, "design":
                (*shape), (datasets, *shape) or a space at its values. Of a policy always both,
                {"outcome": (datasets, t, *outcome_shape), "design": (datasets, t, *shape)}, histories of any number t
                of measurements up to the policy's.
            seed: integer, or None for fresh draws.

        Returns:
            {name: (datasets, num_samples, d)}, as BayesFlow returns it; `kerasbed.priors.draws.Draws`, a dict that
            knows the supports.

        Raises:
            ValueError: keys or shapes of the conditions do not fit, or entries are masked, NaN, infinite or no numbers;
                of a policy also `kerasbed.errors.HistoryError`: more measurements than it makes, or designs outside
                the space.

        Warns:
            OutOfTrainingWarning: outcomes are far from everything that was simulated, or no possible values; histories
                are unlike those of training.
            PoorFitWarning: more than 1% of the posterior's draws were impossible under the likelihood, and were drawn
                again; draws are not finite.

        Example:
            The exact posterior of this experiment is normal; its mean is at (0.24, 0.58) for this outcome.

            >>> draws = model.sample(1000, {"outcome": [[1.0, 2.0]]}, seed=0)["theta"]
            >>> draws.shape, bool(abs(draws.mean(axis=1) - [0.24, 0.58]).max() < 0.2)
            ((1, 1000, 2), True)
        """
        return self._asked().sample(num_samples, conditions, seed)

    @backend.simulates
    def log_prob(self, parameters: Parameters, conditions: Mapping[str, np.ndarray | dict]) -> np.ndarray:
        """Log density of the amortised posterior in the user's units.

        Args:
            parameters: {name: (datasets, d)} or {name: (datasets, draws, d)}.
            conditions: as for `sample`.

        Returns:
            (datasets,) or (datasets, draws).

        Raises:
            ValueError: names or shapes do not fit, or parameters are NaN.
            NoDensityError: the posterior is one of flow matching or diffusion, which have draws alone.

        Example:
            >>> told = model.log_prob({"theta": [[0.0, 0.0]]}, {"outcome": [[1.0, 2.0]]})
            >>> covariance = np.linalg.inv(np.eye(2) + simulator.matrix.T @ simulator.matrix / 2)
            >>> mean = covariance @ simulator.matrix.T @ [0.5, 1.0]
            >>> exact = stats.multivariate_normal(mean, covariance).logpdf([0.0, 0.0])
            >>> bool(abs(told[0] - exact) < 0.2)
            True
        """
        return self._asked().log_prob(parameters, conditions)

    @backend.simulates
    def probabilities(self, conditions: Mapping[str, np.ndarray | dict]) -> dict[str, np.ndarray]:
        """Posterior probabilities of discrete parameters, or of a discrete target.

        Args:
            conditions: as for `sample`.

        Returns:
            {name: (datasets, d, values)}, in the order of the parameter's sorted values, for each of its d coordinates.

        Raises:
            ValueError: nothing that was learned is discrete.

        Example:
            Is a rate above one? Many cases in a short time say yes.

            >>> target = kb.targets.Discrete(lambda parameters: parameters["rate"] > 1.0, num_classes=2)
            >>> waiting = kb.designs.Box((2,), 0.01, 10.0, initial=[0.544, 2.134], trainable=False)
            >>> other = kb.DesignModel(kb.problems.DeathProcess(), waiting, seed=0, target=target)
            >>> history = other.fit(epochs=1, steps_per_epoch=100, verbose=0)
            >>> found = other.probabilities({"outcome": [[9.0, 1.0], [1.0, 2.0]]})["target"]
            >>> found.shape, found[:, 0, 1].round()
            ((2, 1, 2), array([1., 0.]))
        """
        return self._asked().probabilities(conditions)

    def model_probabilities(self, conditions: Mapping[str, np.ndarray | dict]) -> np.ndarray:
        """Posterior probabilities of the models of a `kerasbed.ModelChoice`, (datasets, models), in their order.

        Args:
            conditions: as for `sample`.

        Raises:
            ValueError: the simulator is no choice among models.

        Example:
            Which of two curves is it? An outcome far off a line says.

            >>> line, parabola = kb.problems.Quadratic(degree=1), kb.problems.Quadratic(prior_scale=3.0)
            >>> choice = kb.ModelChoice({"line": line, "parabola": parabola})
            >>> places = kb.designs.Box((3,), -1.0, 1.0, initial=[-0.9, 0.0, 0.9], trainable=False)
            >>> other = kb.DesignModel(choice, places, seed=0)
            >>> history = other.fit(epochs=1, steps_per_epoch=100, verbose=0)
            >>> other.model_probabilities({"outcome": [[4.0, 0.0, 4.0], [0.1, 0.0, -0.1]]}).round()  # line, parabola
            array([[0., 1.],
                   [1., 0.]])
        """
        if self.simulator.prior.branching is None:
            raise ValueError(f"{type(self.simulator).__name__} is no kb.ModelChoice, so it has no model probabilities.")
        return self.probabilities(conditions)[self.simulator.prior.branching][:, 0]

    def to_approximator(self) -> bf.approximators.ContinuousApproximator:
        """The trained posterior as a `bayesflow.approximators.ContinuousApproximator`, for BayesFlow's workflows.

        It takes and gives the names and units of this model: conditions "outcome" and optionally "design"; the entries
        of an outcome that is a dict may also stand beside each other, as BayesFlow's data do. It holds a copy: training
        it leaves this model as it is. Of flow matching and diffusion it draws in BayesFlow's way, with steps that are
        chosen on the way, and its `log_prob` is BayesFlow's integral along the path. `approximator.save(path)` and
        `kb.load(path, simulator=...)`, or `keras.saving.load_model(path)` where the simulator's class is registered
        with Keras, save and load it.

        Raises:
            ValueError: something learned is discrete, or one parameter is modelled by a network that needs an auxiliary
                coordinate beside it, which BayesFlow cannot integrate out.

        Example:
            >>> approximator = model.to_approximator()
            >>> approximator.sample(conditions={"outcome": np.array([[1.0, 2.0]])}, num_samples=100)["theta"].shape
            (1, 100, 2)
        """
        return approximator.from_model(self)

    def _asked(self) -> AmortisedPosterior:
        """The posterior that answers, with what it has found at a design before."""
        kept = self.__dict__.setdefault("found_at_design", {})  # outside what Keras tracks
        return AmortisedPosterior(self.study, self.posterior, kept)
