"""Tests of the API clients, from the wire up."""
