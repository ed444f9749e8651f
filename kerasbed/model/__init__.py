"""`DesignModel`, the learned design together with its networks, and what is done with a trained one."""

from kerasbed.model.design_model import DesignModel
from kerasbed.model.saving import load

__all__ = ["DesignModel", "load"]
