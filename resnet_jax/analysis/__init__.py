"""Instruments that take trained networks apart."""
