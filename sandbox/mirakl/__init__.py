"""An open Mirakl: the seller API of a marketplace platform, in memory, on a clock that can be moved.

`build(config, seed)` in `app.py` makes the web application, `python -m sandbox.mirakl` serves it. One process
holds several marketplaces, each below its own base path: `http://127.0.0.1:8081/alpha/api/...`.
"""
