"""Migrations: `common` for the schema `bridge` that all share, `service` for each service's own schema.

A revision is a pair: `NNNN_what.sql` holds the statements, `NNNN_what.py` names it for alembic. Only
expand and contract: the version before must work on the tables of the version after.
"""
