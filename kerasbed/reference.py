"""Exact posteriors: what an amortised posterior is compared with, for up to three continuous parameters.

Draws, densities and priors of one data set or several; the mathematics is in `kerasbed.eig.exact_posterior`.
"""

from kerasbed.eig.exact_posterior import log_prob, posterior, sample

__all__ = ["log_prob", "posterior", "sample"]
