"""Algorithms with their memory removed, Theorem 2.3."""
