"""Cases of `adaptive.py`, one module for each kind of question."""
