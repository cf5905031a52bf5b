"""Trains one model with differential privacy, in an environment and a process of its own.

Files in, files out: a request and arrays come from the parent, weights and a result go back
(`contract.py` says which). This package imports none of our other packages, and only
`contract.py` may be imported outside the trainer's environment.
"""
