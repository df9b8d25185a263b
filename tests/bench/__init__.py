"""Figures of speed and size, as ratios of one run; `python -m tests.bench`. Never asserted in tests."""
