"""Run directories → tables, plots, a page. Imports no JAX."""
