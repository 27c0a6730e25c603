"""The harness: a grid file becomes cells, cells a graph of jobs, jobs results, results tables and figures."""

__version__ = "0.1.0"
