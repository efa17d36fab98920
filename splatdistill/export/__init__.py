"""Finished splats on their way out: found on disk, prepared for a program, written and checked, filmed, meshed."""
