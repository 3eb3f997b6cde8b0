"""A day of trade on this machine: both sandboxes, all services, a scripted operator, and a tally at the end."""
