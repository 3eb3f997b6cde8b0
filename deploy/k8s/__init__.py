"""Kubernetes: a base written from the code, and one overlay to copy."""
