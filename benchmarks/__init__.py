"""How fast Hookline is, and what it loses when everything around it breaks: measured, never asserted in a test.

    python -m benchmarks [NAME …] [--quick] [--out DIRECTORY]       make bench
    python -m benchmarks.chaos [--seed N] [--rounds M] …            make chaos

No room of the house: it starts the product's commands as an operator would, on a PostgreSQL and a Redis of its own.
"""
