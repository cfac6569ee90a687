"""How reports and analyses draw: style, scales, labels. Imports no JAX."""
