"""Trainings with known answers, one function for each case."""
