"""Trainings with known answers, one module for each kind of fault; a function gives (reported, truth, note) in nats."""
