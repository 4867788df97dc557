"""`greenprof run --subprocesses`: the program's Python children, profiled each and put into one profile.

The run makes a private folder and names it in the environment, with a `sitecustomize` in PYTHONPATH.
A Python that starts below the program finds both and begins to record itself (`begin`) before its first
line; one that is forked goes on as its parent did. Each (`child`) leaves its profile in the folder
(`folder`), and the run merges them with its own at its end (`gather`).
"""
