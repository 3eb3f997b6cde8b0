"""Migrations of the mechanism's own tables, applied to every service's schema.

A revision is a pair: `NNNN_what.sql` holds the statements, `NNNN_what.py` names it for alembic. Only
expand and contract: the version before must work on the tables of the version after.
"""
