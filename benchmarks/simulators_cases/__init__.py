"""The parts of `benchmarks/simulators.py`."""
