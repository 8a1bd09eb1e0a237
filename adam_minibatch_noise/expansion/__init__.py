"""Exact expectation of Corr to second order in the noise, its terms, turning points and certified bounds."""
