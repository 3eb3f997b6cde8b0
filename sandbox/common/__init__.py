"""What every sandbox shares: a clock that can be moved, faults on demand, a record of what arrived, a server."""
