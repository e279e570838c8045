"""What ktaskd takes from others, and what it gets done: `python -m tests.bench.interference`.

Guards: I10
"""
