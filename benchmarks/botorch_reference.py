"""Values and gradients of BoTorch's parallel acquisition functions on a small fixed problem, for the tests.

    pip install torch==2.13.0 botorch==0.18.1
    python benchmarks/botorch_reference.py > tests/acquisition/botorch_reference.json

The same posterior (Matern 5/2, known hyperparameters), points and base samples are rebuilt in
tests/acquisition/test_functions.py from `problem()`, which needs NumPy only.
"""

import json

import numpy as np

BEST, TEMPERATURE, BETA = 0.9, 0.05, 2.5
LENGTHSCALE, VARIANCE, NOISE, MEAN = [0.4, 0.7, 0.9], 1.3, 0.02, 0.1


def problem():
    """Observations, two batches of three query points, one pending point, and centred base samples."""
    rng = np.random.default_rng(2017)
    inputs = rng.random((12, 3))
    outcomes = np.sin(4.0 * inputs[:, 0]) + inputs[:, 1] ** 2 - inputs[:, 2] + 0.1 * rng.standard_normal(12)
    points, pending = rng.random((2, 3, 3)), rng.random((1, 3))
    noise = rng.standard_normal((64, 4))
    return inputs, outcomes, points, pending, noise - noise.mean(axis=0)


def main():
    import torch
    from botorch.acquisition import (
        qExpectedImprovement,
        qProbabilityOfImprovement,
        qSimpleRegret,
        qUpperConfidenceBound,
    )
    from botorch.models import SingleTaskGP
    from botorch.sampling import SobolQMCNormalSampler
    from gpytorch.kernels import MaternKernel, ScaleKernel

    torch.set_default_dtype(torch.float64)
    inputs, outcomes, points, pending, noise = (torch.as_tensor(array) for array in problem())
    kernel = ScaleKernel(MaternKernel(nu=2.5, ard_num_dims=3))
    model = SingleTaskGP(
        inputs, outcomes[:, None], torch.full((12, 1), NOISE), covar_module=kernel, outcome_transform=None
    )
    kernel.base_kernel.lengthscale, kernel.outputscale = torch.tensor(LENGTHSCALE), VARIANCE
    model.mean_module.initialize(constant=MEAN)
    model.eval()

    def sampler(width):
        made = SobolQMCNormalSampler(torch.Size([len(noise)]))
        made.register_buffer("base_samples", noise[:, None, :width])
        return made

    def results(width, waiting):
        options = {"sampler": sampler(width), "X_pending": waiting}
        functions = {
            "ExpectedImprovement": qExpectedImprovement(model, BEST, **options),
            "ProbabilityOfImprovement": qProbabilityOfImprovement(model, BEST, tau=TEMPERATURE, **options),
            "UpperConfidenceBound": qUpperConfidenceBound(model, BETA, **options),
            "SimpleRegret": qSimpleRegret(model, **options),
        }
        found = {}
        for name, function in functions.items():
            at = points.clone().requires_grad_()
            values = function(at)
            found[name] = {
                "values": values.tolist(),
                "gradients": torch.autograd.grad(values.sum(), at)[0].tolist(),
            }
        return found

    print(json.dumps({"plain": results(3, None), "pending": results(4, pending)}, indent=1))


if __name__ == "__main__":
    main()
