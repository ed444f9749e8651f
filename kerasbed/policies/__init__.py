"""Adaptive designs: each measurement is chosen when those before it are known."""

from kerasbed.policies.adaptive import AdaptiveDesign, RandomPolicy
from kerasbed.policies.encoders import Encoder, PooledEncoder, RecurrentEncoder
from kerasbed.policies.greedy import GreedyPolicy
from kerasbed.policies.policy import Policy
from kerasbed.policies.set_encoders import AttentionEncoder, SetEncoder

__all__ = [
    "AdaptiveDesign",
    "AttentionEncoder",
    "Encoder",
    "GreedyPolicy",
    "Policy",
    "PooledEncoder",
    "RandomPolicy",
    "RecurrentEncoder",
    "SetEncoder",
]
