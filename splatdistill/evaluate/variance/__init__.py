"""Variance and bias of gradient estimates: options, the experiment, draws, statistics, and the report."""
