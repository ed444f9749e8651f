"""Everything with weights but the design: flows, posteriors, classifiers, scales fixed by a pilot run."""
