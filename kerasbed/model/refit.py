"""An amortised posterior at a learned design, for objectives that hold none.

A design found by a contrastive bound or a critic comes without a posterior. One is trained afterwards with the
Barber-Agakov bound, the design held fixed: the posterior network sees one design only, so that training is short.
"""

import keras

from kerasbed import objectives


def fit_posterior(model, network, summary_network, **fit_arguments):
    """See `DesignModel.fit_posterior`; returns the trained posterior and the training's history."""
    from kerasbed.model.design_model import DesignModel  # model.py imports this file

    objective = objectives.BarberAgakov(network, summary_network, name="objective")
    refit = DesignModel(
        model.simulator,
        frozen_copy(model.design),
        objective=objective,
        seed=model.seed + 1,
        gradient="reparameterization",
        target=model.target,
        name="posterior_model",
    )
    history = refit.fit(**fit_arguments)
    return objective.posterior, history


def frozen_copy(space):
    """The same space at its current values, with a design that stays fixed."""
    config = keras.saving.serialize_keras_object(space)
    config["config"]["trainable"] = False
    copy = keras.saving.deserialize_keras_object(config)
    copy.build()
    copy.assign(space.numpy())
    return copy
