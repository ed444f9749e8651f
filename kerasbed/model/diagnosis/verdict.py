"""A verdict after `fit`: what speaks against what was learned, a line each, and what to do about it.

The checks are made from the training's record, and, where the likelihood is known, from a few thousand fresh
experiments at the learned design and at others. They take one or two small programs, which the simulator keeps, so that
a second `fit` compiles nothing. What was measured before: a network that was trained at the learned design ranks other
designs wrongly, so that they are compared by the contrastive bound alone; a calibrated posterior can be far too wide,
which only the gap to another bound shows.
"""

import time
from typing import Any

import numpy as np
from keras import ops

from kerasbed.backend.errors import KerasbedError
from kerasbed.backend.reporting import LOGGER
from kerasbed.eig.study import Study
from kerasbed.model.diagnosis import experiments, training
from kerasbed.model.diagnosis.findings import OPEN, Diagnosis, Finding
from kerasbed.model.diagnosis.other_designs import rivals
from kerasbed.model.diagnosis.record import TrainingRecord
from kerasbed.model.diagnosis.small_network import WELL_KNOWN, SmallNetwork

OF_A_POLICY = "Ask model.estimate_eig(), whose bracket of the whole policy shows how far the bound may be from the EIG."
OF_DRAWS = (
    "Simulate experiments and rank their parameters among model.sample(...), as BayesFlow's calibration plots do, or "
    "compare with kb.reference."
)
CHECKS = (*experiments.CHECKS, "number range", "other designs")  # by experiments
LONG = 5000  # steps of a training from which a small network over the space costs little beside it
WITHOUT_LIKELIHOOD = (
    "There is no likelihood of all parameters at a fixed design to check this with. Define log_likelihood; designs are "
    "compared without one by fit(..., diagnose='thorough')."
)


def diagnose(
    study: Study, record: TrainingRecord, optimizer: Any, history: dict, batch_size: int, thorough: bool = False
) -> Diagnosis:
    """How a training went.

    Args:
        study: what was learned, at the learned design.
        record: of the training.
        optimizer: of the model.
        history: metrics of each epoch by name; "skipped" and "nonfinite" are looked at.
        batch_size: draws of a step.
        thorough: also compare designs where there is no likelihood, by a small network trained over the space.
    """
    began = time.process_time()
    skipped, left_out = (float(np.sum(history.get(name, 0.0))) for name in ("skipped", "nonfinite"))
    edge, at_edge = experiments.edges(study) if study.design.is_static else (None, np.array(False))
    has_network = bool(study.objective.trainable_variables)
    total = max(record.steps, int(ops.convert_to_numpy(optimizer.iterations)))
    findings = [
        *training.steps_taken(record, skipped, left_out, record.steps * batch_size),
        training.length(total, has_network),
        *([training.slope(record)] if study.objective.is_bound else []),
        training.movement(record, study.design, optimizer),
    ]
    if study.design.placed_variables:
        findings.append(training.signal(study.design, optimizer, at_edge))
    findings += [edge] if edge is not None else []
    findings += [] if study.design.is_adaptive else experiments.equations(study)
    findings += _by_experiments(study, record, total, thorough or total >= LONG)
    return Diagnosis(tuple(findings), time.process_time() - began)


def _by_experiments(study, record, total, thorough) -> list[Finding]:
    if not study.objective.is_bound:
        return [Finding("gap", OPEN, "Not checked: there are draws of the posterior and no bound.", OF_DRAWS)]
    if study.design.is_adaptive:
        return [Finding("gap", OPEN, "Not checked for a policy.", OF_A_POLICY)]
    if not study.has_likelihood:
        found = [Finding(check, OPEN, "Not checked.", WITHOUT_LIKELIHOOD) for check in CHECKS]
        return [*found[:-1], _by_network(study, record)] if thorough else found
    if total < training.BRIEF:
        text = f"Not checked after fewer than {training.BRIEF} steps."
        return [Finding(check, OPEN, text, training.LONGER) for check in CHECKS]
    likelihoods = experiments.Pairs(study, study.seed)
    try:
        found = experiments.gap(study, likelihoods, training.bound(record))
        found.append(experiments.digits(study, likelihoods))
        return [*found, rivals(study, likelihoods)] if study.design.trainable else found
    except KerasbedError as error:
        return [Finding(check, OPEN, f"Could not be checked: {error}") for check in CHECKS]


def _by_network(study, record) -> Finding:
    """Other designs, by a small network; inconclusive where it knows too little of the learned one."""
    learned, comparison = training.bound(record)[0], SmallNetwork(study, study.seed)
    reached = float(np.mean(comparison.terms([comparison.shape], "rivals")))
    if not reached >= WELL_KNOWN * learned:
        told = f"A small network reaches {reached:.3f} at the learned design, far below the bound {learned:.3f} there."
        return Finding(CHECKS[-1], OPEN, told, "Train over the space: SimulatorDataset(..., designs='space').")
    return rivals(study, comparison)


def tell(diagnosis: Diagnosis) -> None:
    """Log every alarm, each with its remedy."""
    for finding in diagnosis.alarms:
        LOGGER.warning(f"{finding.check}: {finding.found} {finding.remedy}")
