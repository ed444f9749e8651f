"""A verdict after `fit`; `verdict` has it, the others the checks that it is made of."""
