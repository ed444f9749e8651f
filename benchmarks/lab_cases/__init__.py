"""Cases of benchmarks/lab.py."""
