"""Run directories → tables, plots, a page. Imports no JAX: whatever ran anywhere can be read here."""
