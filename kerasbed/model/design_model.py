"""`DesignModel`: a design and an EIG bound under Keras' `fit`.

The mathematics of a training step stands here once: `call` simulates at the current design and evaluates the
objective's contributions, `compute_loss` averages them. Keras differentiates it, design included; `backend.Trainer`
carries it to the device; `estimates.py` says what a model tells of the EIG, `amortised.py` what of parameters.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

import bayesflow as bf
import keras
import numpy as np
from keras import ops

from kerasbed import backend, objectives
from kerasbed.backend import Tensor, errors, metrics, streams, versions
from kerasbed.backend.files import SavedWhole
from kerasbed.backend.streams import draw_seed
from kerasbed.backend.validation import checked, integer_seed, natural_number, positive_integer
from kerasbed.callbacks import DesignHistory, EpochTeller, Resume, with_directions
from kerasbed.designs import Design
from kerasbed.eig.leading_axes import check_leading_axes
from kerasbed.eig.likelihood_check import check_likelihood
from kerasbed.eig.study import Study
from kerasbed.model import (
    checks,
    gradient_choice,
    kept_history,
    optimizers,
    policy_start,
    ranking,
    resuming,
    saving,
    training_data,
)
from kerasbed.model.amortised import Amortised
from kerasbed.model.costs import TOLERANCE, Cost
from kerasbed.model.diagnosis import verdict
from kerasbed.model.diagnosis.findings import Diagnosis
from kerasbed.model.diagnosis.record import TrainingRecord
from kerasbed.model.estimates import Inference
from kerasbed.model.landscape import Landscape
from kerasbed.model.steps import StepGuard
from kerasbed.networks import flows
from kerasbed.networks.encoding import has_histories
from kerasbed.networks.posterior import Posterior
from kerasbed.objectives import gradients
from kerasbed.objectives.matching import Matching
from kerasbed.objectives.paths import Paths
from kerasbed.simulators import datasets, experiments, files, pairs
from kerasbed.simulators.sequence import lifted
from kerasbed.simulators.simulator import Simulator
from kerasbed.targets import Target

PILOT_DRAWS = 4096
PAIR_DESIGNS = 3  # at which pairwise likelihoods are compared with the direct form


@keras.saving.register_keras_serializable("kerasbed")
class DesignModel(Inference, Amortised, Landscape, SavedWhole, backend.Trainer, keras.Model):
    """Learns the design that is most informative about a simulator's parameters, together with its objective.

    Args:
        simulator: `kerasbed.Simulator`.
        design: design space, e.g. `kerasbed.designs.Box((3,), low=0.0, high=10.0)`; or a policy of `kerasbed.policies`,
            beside a simulator of one measurement.
        objective: EIG bound; default `kerasbed.objectives.BarberAgakov()`, for a policy where there is a likelihood
            `kerasbed.objectives.PriorContrastive()`. A BayesFlow inference or summary network stands for
            `BarberAgakov` with it.
        seed: seed of the pilot run and of the data that `fit` makes itself; None draws one and keeps it.
        gradient: how the design's gradient passes the outcome: "reparameterization" through a differentiable outcome;
            "score" through the likelihood, for counts and choices, summed exactly where the simulator has an
            `outcome_space()`; "auto" finds out for each entry of the design whether the outcome follows it or jumps,
            and takes scores where it jumps. See `kerasbed.objectives.gradients`.
        starts: designs learned side by side, which share the networks and the draws of a batch: each gets
            batch_size / starts of them. By default a batch has 128 draws for each start. `fit` ends by ranking them on
            common draws, keeps the best, and leaves the comparison in `starts_table`.
        cost: function of designs (batch, *shape) -> (batch,), in `keras.ops`; `reached_cost` reports it.
        budget: what a design may cost; going over it is penalised in training, in the metric `eig` as well.
        target: what matters of the parameters: a name, a list of names, or fn({name: (batch, d)}) -> (batch, k) in
            `keras.ops`, such as a prediction, or `kerasbed.targets.Discrete`; everything else is nuisance. Default all
            parameters, or what the simulator says (`ModelChoice`: which model).

    Attributes:
        gradient: the way taken: "reparameterization", "score", or "mixed" where entries of the design differ.
        starts_table: pandas table of the designs compared after training, best first; see
            `kerasbed.model.ranking.rank_coordinates`. None where a single design was learned.
        diagnosis: `kerasbed.Diagnosis` of the last `fit`; None before it, or where it was not asked for.

    Raises:
        TypeError: an argument is of the wrong kind.
        ValueError: the outcome has the wrong shape, does not depend on the design, or has no gradient in an entry of it
            (`kerasbed.errors.GradientError`) while there is no likelihood with one; the objective needs a likelihood
            and there is none, or one that does not match the outcome; costs are not finite, or no design is within the
            budget.

    Warns:
        UserWarning: a design is to be learned on an upper bound, or by reparameterization of an outcome that jumps.

    Example:
        Two sensors share the measuring effort; equal shares are best, with an EIG of 0.5 log(8.25) = 1.055 nats.

        >>> simulator = kb.problems.LinearGaussian()
        >>> model = kb.DesignModel(simulator, kb.designs.Simplex(2, initial=[0.9, 0.1]), seed=0)
        >>> history = model.fit(epochs=4, steps_per_epoch=50, verbose=0)
        >>> model.design.numpy().round(1)
        array([0.5, 0.5], dtype=float32)
        >>> round(history.history["eig"][-1], 1)  # the bound that was trained on, in nats
        1.1
    """

    @checked(seed=integer_seed, starts=positive_integer)
    def __init__(
        self,
        simulator: Simulator,
        design: Design,
        objective: objectives.Objective | bf.networks.InferenceNetwork | bf.networks.SummaryNetwork | None = None,
        *,
        seed: int | None = None,
        gradient: str = "auto",
        starts: int = 1,
        cost: Callable | None = None,
        budget: float | None = None,
        target: str | Sequence[str] | Callable | Target | None = None,
        name: str = "design_model",
        pilot: bool = True,
        fitted_posterior: Posterior | None = None,
        wide: bool = False,
        direct_pairs: bool = False,
        paths: Mapping[str, Any] | None = None,
        leaves_out: bool = False,
        **kwargs: Any,
    ):
        super().__init__(name=name, autocast=False, **kwargs)
        backend.check_precision()
        objective = checks.as_objective(objective)
        checks.check_kinds(simulator, design, objective)
        if design.is_adaptive:
            simulator = lifted(simulator, design.length)
            if objective is None and simulator.has_likelihood:
                objective = objectives.PriorContrastive(name="objective")
        self.cost = None if cost is None and budget is None else Cost(cost, budget, checks.priced(design))
        self.starts_table = None
        self.simulator = simulator
        self.design = design
        self.objective = objectives.BarberAgakov(name="objective") if objective is None else objective
        self.target = checks.set_target(
            self.objective, simulator.prior, simulator.default_target if target is None else target
        )
        self.seed = draw_seed() if seed is None else seed
        self.eig_tracker = metrics.FiniteMean(name="eig") if self.objective.is_bound else None
        self.nonfinite_tracker = keras.metrics.Sum(name="nonfinite")
        self.skipped_tracker = metrics.SkippedSteps()
        self.leaves_out = leaves_out
        self.fits = 0
        self.design_history = None
        self.diagnosis: Diagnosis | None = None
        self.design.set_starts(starts)
        self.noise_shape = simulator.resolve_noise_shape(design.shape)
        self.gradient, self.fitted_posterior, self.direct_pairs = gradient, fitted_posterior, direct_pairs
        self.paths = None if paths is None else Paths.from_config(paths)
        if pilot:
            self._set_up_by_pilot()
        else:
            self.wide = self.design.wide = wide
            with backend.wide_simulation(wide):
                self._set_up(checks.probe_outcome(simulator, design, self.noise_shape))
        self.built = True

    def _set_up(self, outcome_shape):
        self.outcome_shape = tuple(outcome_shape)
        self.design.setup(self.simulator, self.outcome_shape)
        simulator = pairs.with_direct_pairs(self.simulator) if self.direct_pairs else self.simulator
        self.objective.setup(simulator, self.design, self.outcome_shape)
        if self.fitted_posterior is not None:
            adaptive = has_histories(self.design)
            self.fitted_posterior.setup(self.simulator, self.design.space, self.outcome_shape, adaptive)
            self.fitted_posterior.freeze()

    def _set_up_by_pilot(self):
        """Check the simulator and fix the standardisation by draws over the prior and the design space."""
        problem = self.simulator, self.design, self.noise_shape
        # Numbers beyond float32 are what is looked for.
        with backend.wide_simulation(self.design.wide), np.errstate(over="ignore"):
            self.gradient, self.paths = gradient_choice.choose(self.gradient, *problem)
            draws, outcome, wide = checks.needs_float64(*problem, PILOT_DRAWS, self.seed, self.target)
        self.wide = self.design.wide = wide
        with backend.wide_simulation(wide):
            finite = checks.pilot_draws(*problem, draws, outcome)
            self.leaves_out = len(finite[1]) < PILOT_DRAWS
            self._set_up_from(*finite)

    def _set_up_from(self, parameters, outcome):
        if self.objective.needs_likelihood and self.simulator.has_likelihood and not self.design.is_adaptive:
            self.direct_pairs = self._needs_direct_pairs()
        is_prepared = self.design.is_adaptive and self.design.outcome_shape is not None
        self._set_up(outcome.shape[1:])
        if not is_prepared:  # a policy that was trained stays as it is
            self.design.adapt(outcome)
            policy_start.start(self.simulator, self.design, self.seed)
        scores = self.gradient == "score" if self.paths is None else self.paths.uses_likelihood
        if self.objective.needs_likelihood or scores:
            check_likelihood(*checks.one_design(self.simulator, self.design))
        elif self.simulator.has_likelihood:
            check_leading_axes(*checks.one_design(self.simulator, self.design))
        self.objective.warn_about_search(self.design)
        with backend.no_gradients():
            self.objective.adapt(parameters, outcome)

    def _needs_direct_pairs(self) -> bool:
        """Whether the matrix product for pairs loses too many digits at some designs of the space."""
        designs = self.design.sample(PAIR_DESIGNS, streams.entropy(self.seed, "pair check designs"))
        check = pairs.PairCheck(self.simulator, backend.simulation_dtype())
        return not all(check.product_is_exact(design, self.seed) for design in experiments.one_by_one(designs))

    @property
    def needs_independent_draws(self) -> bool:
        """Whether batches may not be Sobol points: in-batch contrast, and scores with the other draws as baseline."""
        return self.study.needs_independent_draws

    @property
    def study(self) -> Study:
        """What this model knows of the experiment, for functions that need no model."""
        return Study(
            self.simulator,
            self.objective,
            self.design,
            self.outcome_shape,
            self.gradient,
            self.target,
            self._posterior_of_estimates,
            self.cost,
            self.seed,
            self.paths,
            self.leaves_out,
        )

    @property
    def _posterior_of_estimates(self) -> Posterior | None:
        """The last one that was fitted; one with draws alone only where the objective holds none."""
        fitted, held = self.fitted_posterior, self.objective.posterior
        return fitted if fitted is not None and (fitted.has_density or held is None) else held

    # -- the mathematics of a training step ---

    def call(self, draws: Mapping[str, Any], training: bool = False) -> Tensor:
        """Per-draw EIG contributions in nats, (batch,); `draws` is a batch of `SimulatorDataset`."""
        checks.check_draws(draws, self.noise_shape, self.design.shape)
        draws = backend.floats_as_simulated(draws)
        leave_out = training and self.leaves_out
        terms = gradients.contributions(
            self.simulator, self.objective, self.design, draws, self.gradient, training, self.paths, leave_out
        )
        if not training:
            return terms.values
        self.design.advance()
        if self.cost is None:
            return terms.values
        # Here and not by add_loss, which torch's recorded step does not carry.
        return terms.values - self.cost.penalty(terms.design)

    def compute_loss(
        self, x: Any = None, y: Any = None, y_pred: Tensor = None, sample_weight: Any = None, training: bool = True
    ) -> Tensor:
        if self.eig_tracker is not None:
            self.eig_tracker.update_state(y_pred)
        self.nonfinite_tracker.update_state(ops.cast(ops.logical_not(ops.isfinite(y_pred)), self.compute_dtype))
        return ops.cast(self.objective.loss(y_pred, x) + sum(self.losses), self.compute_dtype)

    # -- training ---

    @checked(steps_per_execution=positive_integer)
    def compile(
        self,
        optimizer: str | keras.optimizers.Optimizer | None = None,
        design_optimizer: str | keras.optimizers.Optimizer | None = None,
        steps_per_execution: int | None = None,
        policy_optimizer: str | keras.optimizers.Optimizer | None = None,
        **kwargs: Any,
    ) -> None:
        """Configure training; every argument has a default.

        Args:
            optimizer: Keras optimizer (or its name) of the networks; default Adam at 2e-3, decayed over the planned
                steps of every `fit`.
            design_optimizer: of the design's unconstrained coordinates; default Adam at 0.1, decayed likewise, and for
                the static sequence of a policy like `policy_optimizer`.
            policy_optimizer: of a policy's networks; default `optimizer` where that is given, else Adam at 3e-3 with
                beta_2 = 0.98, after 100 steps of growing rate decayed likewise. Their gradient is cut to norm 1.
            steps_per_execution: steps handed to the device at once; None chooses for the backend.
            **kwargs: `jit_compile`, `run_eagerly` and what else `keras.Model.compile` takes.

        Example:
            >>> other = kb.DesignModel(simulator, kb.designs.Simplex(2), kb.objectives.PriorContrastive(), seed=0)
            >>> other.compile(keras.optimizers.Adam(1e-3), design_optimizer=keras.optimizers.SGD(0.5))
            >>> [type(optimizer).__name__ for optimizer in other.optimizer.optimizers]
            ['Adam', 'SGD']
        """
        of_policy = self.design.is_adaptive
        optimizer = optimizers.default_optimizers(optimizer, design_optimizer, policy_optimizer, of_policy)
        self.chooses_fusion = steps_per_execution is None
        super().compile(optimizer=optimizer, steps_per_execution=steps_per_execution or 1, **kwargs)
        self.__dict__["_loss_tracker"] = metrics.FiniteMean(name="loss")  # in the place of Keras' own, which tracks it
        design = self.design
        optimizer.attach(design.placed_variables, self.objective.descending_variables, design.network_variables)

    def get_compile_config(self) -> dict[str, Any] | None:
        config = super().get_compile_config()
        return config | {"steps_per_execution": None} if config and self.chooses_fusion else config

    def compile_from_config(self, config: dict[str, Any]) -> None:
        """Compile as the saved model was, so that its optimizers' state can be loaded and training goes on."""
        self.compile(**keras.saving.deserialize_keras_object(config))
        self.optimizer.build(self.trainable_variables)

    @checked(
        epochs=positive_integer,
        steps_per_epoch=positive_integer,
        batch_size=positive_integer,
        initial_epoch=natural_number,
    )
    @backend.simulates
    def fit(
        self,
        x: Any = None,
        *,
        epochs: int = 1,
        steps_per_epoch: int | None = None,
        batch_size: int | None = None,
        validation_data: Any = None,
        callbacks: Sequence[keras.callbacks.Callback] | None = None,
        initial_epoch: int = 0,
        shuffle: bool = True,
        diagnose: bool | str = True,
        **kwargs: Any,
    ) -> keras.callbacks.History:
        """Train the design and the networks, and say how it went.

        Args:
            x: `SimulatorDataset`; None makes one. Also a dict of arrays with its keys, a `tf.data.Dataset` or a torch
                `DataLoader` of such dicts.
            epochs, steps_per_epoch, batch_size: size of the training; 100 steps of 128 draws (for each of the starts)
                an epoch by default.
            validation_data: like `x`; it stays at its epoch 0, in a random stream of its own.
            callbacks: Keras callbacks. What monitors `eig` needs no `mode=`: more is better.
            initial_epoch: where to resume; the data and the decay of the default rates go on from there.
            diagnose: end with checks of the training, `diagnosis`, whose alarms are logged; False leaves them out, and
                "thorough" also compares designs where there is no likelihood, by a small network over the space.
            **kwargs: `verbose`, `validation_freq` and what else `keras.Model.fit` takes.

        Returns:
            `keras.callbacks.History` with `loss` and `eig` (the bound in nats), which are means over the draws that
            count, `nonfinite` (draws left out, for lack of a finite outcome or density) and `skipped` (steps that were
            not taken, for lack of a finite gradient); its attribute `diagnosis` is that of the model.

        Raises:
            ValueError: there is nothing to learn, a batch lacks what it needs, or a callback sets planned rates.

        Warns:
            SkippedStepsWarning: training stopped because steps could not be taken.
            NumberRangeWarning: it stopped because most draws failed; or draws were left out, and what was learned is
                about experiments that do not fail.

        Example:
            >>> other = kb.DesignModel(simulator, kb.designs.Simplex(2), kb.objectives.PriorContrastive(), seed=0)
            >>> history = other.fit(epochs=2, steps_per_epoch=50, batch_size=256, verbose=0)
            >>> other.design.numpy().round(1), [round(eig, 1) for eig in history.history["eig"]]
            (array([0.5, 0.5], dtype=float32), [1.0, 1.0])
        """
        if not self.trainable_variables:
            raise ValueError(
                "There is nothing to learn: the design is fixed (trainable=False), and "
                f"{type(self.objective).__name__} has no network. Use estimate_eig for its EIG, or fit_posterior for a "
                "posterior at it."
            )
        if not self.compiled:
            self.compile()
        study, seed = self.study, streams.entropy(self.seed, "training", self.fits)
        resumes = any(isinstance(callback, Resume) for callback in callbacks or [])
        data, steps, batch_size = training_data.for_training(
            study, x, seed, steps_per_epoch, batch_size, shuffle, resumes
        )
        online = isinstance(data, datasets.SimulatorDataset)
        checks.check_rate_callbacks(self.optimizer, callbacks)
        self._plan(epochs, steps, initial_epoch)
        self.design_history, record = DesignHistory(), TrainingRecord()
        added = [self.design_history, record, StepGuard(batch_size)]
        if online:
            data = datasets.Epochs(data)
            added.append(EpochTeller(data))
        asked = {"epochs": epochs, "steps": steps, "batch_size": batch_size, "initial_epoch": initial_epoch}
        asked["seed"] = str(data.dataset.seed if online else seed)
        with resuming.resumed(self, added + with_directions(callbacks), data, asked) as watching:
            history = super().fit(
                data,
                epochs=epochs,
                steps_per_epoch=None if online else steps_per_epoch,
                batch_size=batch_size if isinstance(data, dict) else None,
                validation_data=training_data.for_validation(study, validation_data, seed),
                callbacks=watching,
                initial_epoch=initial_epoch,
                shuffle=shuffle and isinstance(data, dict),
                **kwargs,
            )
        self.fits += 1
        if self.design.explores and not self.design.is_adaptive:
            self.starts_table = ranking.rank(self.study, repeat=self.fits)
        self._warn_over_budget()
        self.diagnosis = None
        if diagnose:
            self._diagnose(record, history, batch_size, diagnose == "thorough")
        return history

    def _diagnose(self, record, history, batch_size, thorough):
        """Say how a training went: in the log, in its history and as `diagnosis`."""
        found = verdict.diagnose(self.study, record, self.optimizer, history.history, batch_size, thorough)
        self.diagnosis = history.diagnosis = found
        verdict.tell(found)

    def fit_posterior(
        self, network: keras.Layer | None = None, summary_network: keras.Layer | None = None, **fit_arguments: Any
    ) -> keras.callbacks.History:
        """Train an amortised posterior at the current design, which stays fixed; `sample` and `log_prob` then use it.

        For objectives that hold no posterior network, and for one with a finer network than the design needed. Of a
        policy, which stays fixed as well, it is the posterior after every number of measurements, trained on rollouts.

        Args:
            network: as for `kerasbed.objectives.BarberAgakov`; default `kerasbed.networks.AutoregressiveMixture` for up
                to eight continuous parameters, which follows several modes and rings; for a policy
                `kerasbed.networks.GaussianMixture`. Also `bayesflow.networks.FlowMatching` or `DiffusionModel`, which
                are trained by regression: `sample` then draws from them, and `log_prob` is refused.
            summary_network: as for `kerasbed.objectives.BarberAgakov`.
            **fit_arguments: epochs, steps_per_epoch, batch_size and what else `fit` takes.

        Returns:
            `keras.callbacks.History`; `eig` is the Barber-Agakov bound at the fixed design. After flow matching or
            diffusion there is no `eig`, and `loss` is the regression's error.

        Raises:
            TypeError: the network can be trained neither by its density nor by regression.
            ArgumentError: its settings need random numbers inside a step, or nothing that is learned is continuous.

        Example:
            An objective without a posterior learns the design; the posterior is then learned at it.

            >>> other = kb.DesignModel(simulator, kb.designs.Simplex(2), kb.objectives.PriorContrastive(), seed=0)
            >>> history = other.fit_posterior(epochs=1, steps_per_epoch=2, verbose=0)
            >>> other.sample(100, {"outcome": [[1.0, 2.0]]}, seed=0)["theta"].shape
            (1, 100, 2)

            Flow matching is quick to train for many parameters, and slower to draw from:

            >>> import bayesflow as bf
            >>> network = bf.networks.FlowMatching(subnet_kwargs={"widths": (32, 32), "dropout": 0.0})
            >>> history = other.fit_posterior(network, epochs=1, steps_per_epoch=2, verbose=0)
            >>> other.sample(100, {"outcome": [[1.0, 2.0]]}, seed=0)["theta"].shape
            (1, 100, 2)
        """
        prior = self.simulator.prior if self.target is None else self.target
        if network is None and not has_histories(self.design):
            network = flows.default_refit(prior)
        kind = Matching if checks.is_matching(network, prior) else objectives.BarberAgakov
        objective = kind(network, summary_network, name="objective")
        refit = DesignModel(
            self.simulator,
            self.design.frozen_copy(),  # the network sees one design only, so that training is short
            objective,
            seed=self.seed + 1,
            gradient="reparameterization",
            target=self.target,
            name="posterior_model",
        )
        history = refit.fit(**fit_arguments)
        posterior = objective.posterior
        posterior.freeze()  # a result: later fits of the design leave it alone
        self.fitted_posterior = posterior
        self.train_function = self.test_function = None  # a compiled step holds the old list of weights
        return history

    @checked(steps=positive_integer, batch_size=positive_integer)
    @backend.simulates
    def evaluate(self, x: Any = None, *, steps: int | None = None, batch_size: int | None = None, **kwargs: Any) -> Any:
        """The objective on fresh data; `x` and `batch_size` as for `fit`, `steps` batches of it.

        Example:
            >>> told = model.evaluate(steps=8, verbose=0, return_dict=True)
            >>> round(told["eig"], 1)
            1.1
        """
        if not self.compiled:
            self.compile()
        data, steps, batch_size = training_data.for_evaluation(
            self.study, x, streams.entropy(self.seed, "training", self.fits), steps, batch_size
        )
        return super().evaluate(data, steps=steps, batch_size=batch_size, **kwargs)

    def _plan(self, epochs, steps, initial_epoch):
        """Fuse steps and plan the decay of default rates."""
        if self.chooses_fusion:
            self.steps_per_execution = backend.fused_steps(steps or backend.FUSED_STEPS)
        done = int(ops.convert_to_numpy(self.optimizer.iterations))
        self.design.plan(0 if steps is None else initial_epoch * steps, None if steps is None else epochs * steps)
        if steps is not None and self.optimizer.plan(max(done - initial_epoch * steps, 0), epochs * steps):
            self.train_function = None
        if not self.optimizer.built:  # TensorFlow traces a step that makes the optimizer's variables twice
            self.optimizer.build(self.trainable_variables)

    @property
    @backend.simulates
    def reached_cost(self) -> float:
        """What the current design costs, in the units of `cost`; of a policy the mean over experiments.

        Raises:
            ValueError: the model was built without a cost.
        """
        if self.cost is None:
            raise ValueError("This model has no cost; build it with DesignModel(..., cost=fn, budget=...).")
        return float(np.mean(self.cost.of(checks.current_designs(self.simulator, self.design, self.seed))))

    def _warn_over_budget(self):
        if self.cost is None or self.cost.budget is None:
            return
        if (reached := self.reached_cost) > self.cost.budget * (1.0 + TOLERANCE):
            errors.warn(
                f"The learned design costs {reached:.6g}, over the budget of {self.cost.budget:g}: train longer, or "
                "with a design rate that decays to zero.",
                errors.OverBudgetWarning,
            )

    @backend.simulates
    def explain_nonfinite(self) -> str:
        """The likely cause of draws without a finite log density, in words.

        Example:
            >>> print(model.explain_nonfinite())
            Outcomes at the current design are finite, so the likely cause is the network: ...
        """
        return checks.explain_nonfinite(self.simulator, self.design, self.noise_shape, self.seed)

    def leave_out_failures(self) -> None:
        """Leave draws that fail out of training steps from now on; a pilot run that met some has done so.

        Example:
            >>> other = kb.DesignModel(simulator, kb.designs.Simplex(2), kb.objectives.PriorContrastive(), seed=0)
            >>> other.leave_out_failures()
            >>> other.leaves_out
            True
        """
        self.leaves_out = True
        if self.train_function is not None:
            self.make_train_function(force=True)

    def warn_nonfinite(self, what: str) -> None:
        """Warn of draws without a finite log density, with their likely cause.

        Args:
            what: happened to how many of them.

        Example:
            >>> import warnings
            >>> with warnings.catch_warnings(record=True) as told:
            ...     warnings.simplefilter("always", kb.errors.NumberRangeWarning)
            ...     model.warn_nonfinite("3 of 100 draws had no density.")
            >>> print(told[-1].message)
            3 of 100 draws had no density. Outcomes at the current design are finite, so the likely cause is ...
        """
        errors.warn(f"{what} {self.explain_nonfinite()}", errors.NumberRangeWarning)

    # -- serialization ---

    def get_config(self) -> dict[str, Any]:
        serialize = keras.saving.serialize_keras_object
        layout = self.simulator.layouts.config(self.outcome_shape[-1])
        return {
            "name": self.name,
            "simulator": files.simulator_config(self.simulator),
            "design": serialize(self.design),
            "objective": serialize(self.objective),
            "seed": self.seed,
            "fits": self.fits,
            "gradient": self.gradient,
            "paths": None if self.paths is None else self.paths.config(),
            "fitted_posterior": None if self.fitted_posterior is None else serialize(self.fitted_posterior),
            "starts": self.design.starts,
            "target": None if self.target is None else self.target.config(),
            "wide": self.wide,
            "direct_pairs": self.direct_pairs,
            "leaves_out": self.leaves_out,
            "written_by": versions.written_by(),
            **({"outcome_layout": layout} if layout else {}),
        } | (self.cost.config() if self.cost else {})

    # Keras: what a file holds beside configuration and weights.

    def save_assets(self, store: str) -> None:
        kept_history.save(self, store)

    def load_assets(self, store: str) -> None:
        kept_history.load(self, store)

    def __deepcopy__(self, memo):
        memo[id(self)] = copied = saving.copied(self)
        return copied

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Mapping[str, Any] | None = None) -> Self:
        return saving.model_from_config(cls, config)
