"""Small networks of flow matching and diffusion, and an experiment whose posterior is known."""

import bayesflow as bf

import kerasbed as kb

KINDS = {"flow matching": bf.networks.FlowMatching, "diffusion": bf.networks.DiffusionModel}
FOR_A_MOMENT = {"epochs": 1, "steps_per_epoch": 2, "batch_size": 8, "verbose": 0}


def network(kind="flow matching", widths=(8,), **settings):
    return KINDS[kind](subnet_kwargs={"widths": widths, "dropout": 0.0, "time_embedding_dim": 8}, **settings)


def linear(objective=None):
    """Two sensors that share the measuring effort, at equal shares."""
    space = kb.designs.Simplex(2, initial=[0.5, 0.5], trainable=False)
    return kb.DesignModel(kb.problems.LinearGaussian(), space, objective or kb.objectives.PriorContrastive(), seed=0)
