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

from kerasbed.backend.errors import KerasbedError
from kerasbed.backend.reporting import LOGGER
from kerasbed.eig.study import Study
from kerasbed.model.diagnosis import experiments, training
from kerasbed.model.diagnosis.findings import OPEN, Diagnosis, Finding
from kerasbed.model.diagnosis.record import TrainingRecord
from kerasbed.model.diagnosis.rivals import rivals

CHECKS = ("gap", "inner weights", "outer terms", "number range", "other designs")  # by experiments
WITHOUT_LIKELIHOOD = (
    "There is no likelihood of all parameters at a fixed design to check this with. Define log_likelihood, or train "
    "over the space and compare designs there: SimulatorDataset(..., designs='space'), model.eig_landscape()."
)


def diagnose(study: Study, record: TrainingRecord, optimizer: Any, history: dict, batch_size: int) -> Diagnosis:
    """How a training went.

    Args:
        study: what was learned, at the learned design.
        record: of the training.
        optimizer: of the model.
        history: metrics of each epoch by name; "skipped" and "nonfinite" are looked at.
        batch_size: draws of a step.
    """
    began = time.process_time()
    skipped, left_out = (float(np.sum(history.get(name, 0.0))) for name in ("skipped", "nonfinite"))
    edge, at_edge = experiments.edges(study) if study.design.is_static else (None, np.array(False))
    has_network = bool(study.objective.trainable_variables)
    findings = [
        *training.steps_taken(record, skipped, left_out, record.steps * batch_size),
        training.length(record, has_network),
        training.slope(record),
        training.movement(record, study.design, optimizer),
    ]
    if study.design.placed_variables:
        findings.append(training.signal(study.design, optimizer, at_edge))
    findings += [edge] if edge is not None else []
    findings += _by_experiments(study, record)
    return Diagnosis(tuple(findings), time.process_time() - began)


def _by_experiments(study, record) -> list[Finding]:
    if not study.has_likelihood:
        return [Finding(check, OPEN, "Not checked.", WITHOUT_LIKELIHOOD) for check in CHECKS]
    if record.steps < training.BRIEF:
        text = f"Not checked after fewer than {training.BRIEF} steps."
        return [Finding(check, OPEN, text, training.LONGER) for check in CHECKS]
    likelihoods = experiments.Pairs(study, study.seed)
    try:
        found = experiments.gap(study, likelihoods, training.bound(record))
        found.append(experiments.digits(study, likelihoods))
        return [*found, rivals(study, likelihoods)] if study.design.trainable else found
    except KerasbedError as error:
        return [Finding(check, OPEN, f"Could not be checked: {error}") for check in CHECKS]


def tell(diagnosis: Diagnosis) -> None:
    """Log every alarm, each with its remedy."""
    for finding in diagnosis.alarms:
        LOGGER.warning(f"{finding.check}: {finding.found} {finding.remedy}")


__all__ = ["Diagnosis", "Finding", "TrainingRecord", "diagnose", "tell"]
