"""The admin: what it shows, what it costs, who may do what, and the trace that it leaves."""
