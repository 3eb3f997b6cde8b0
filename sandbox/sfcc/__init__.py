"""An open Salesforce B2C Commerce instance to run against: its APIs, a storefront that sells, a warehouse that ships.

Written from Salesforce's published OpenAPI documents and XML schemas. `app.build` is the way in; what is served, how to
drive it and what was decided where the contracts are silent stands in docs/sandbox-sfcc.md.
"""
