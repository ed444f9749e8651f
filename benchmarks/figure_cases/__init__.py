"""Problems with known answers at the edges of what an estimate can do, one function for each row of `figures.py`.

Every function gives rows, made by `judging`; the truth is a closed form, a sum or a quadrature computed beside it.
"""
