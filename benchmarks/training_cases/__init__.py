"""Trainings with known best designs, one function for each row of `training.py`; truths are closed forms or sums."""
