"""Seeded defects: each is a small change to the mechanism that a named test must notice."""
