"""The cost of ktaskd to other programs, and its throughput: `python -m tests.bench.interference`.

Guards: I10
"""
