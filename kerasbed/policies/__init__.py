"""Adaptive designs: each measurement is chosen when those before it are known."""

from kerasbed.policies.adaptive import AdaptiveDesign, RandomPolicy
from kerasbed.policies.budget import Budget
from kerasbed.policies.encoders import Encoder, PooledEncoder, RecurrentEncoder
from kerasbed.policies.greedy import GreedyPolicy
from kerasbed.policies.moves import Moves
from kerasbed.policies.policy import Policy
from kerasbed.policies.rules import Rule
from kerasbed.policies.set_encoders import AttentionEncoder, SetEncoder

__all__ = [
    "AdaptiveDesign",
    "AttentionEncoder",
    "Budget",
    "Encoder",
    "GreedyPolicy",
    "Moves",
    "Policy",
    "PooledEncoder",
    "RandomPolicy",
    "RecurrentEncoder",
    "Rule",
    "SetEncoder",
]
