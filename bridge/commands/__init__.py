"""The commands people type, one module each; `bridge.__main__` lists them."""
