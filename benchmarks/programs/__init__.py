"""What `benchmarks.overhead` measures profilers on: each file without a class for others is a program of its own.

    PYTHONPATH=. python benchmarks/programs/parsing.py --seconds 2

does its work again and again for two seconds, after a warm-up, and says as JSON what a turn of it took. The ones
with a database want `--url`.
"""
