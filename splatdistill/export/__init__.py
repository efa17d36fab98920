"""Finished splats on their way out: found on disk, prepared for another program, written and checked, filmed, meshed."""
