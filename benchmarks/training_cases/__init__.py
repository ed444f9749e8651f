"""Trainings with known answers, one function for each row of a benchmark.

Every function returns (reported, truth, note); the truth is a closed form or stands beside it.
"""
