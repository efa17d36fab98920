"""How noisy gradient estimates are, from what, and how biased: options, the experiment, draws, statistics, and the report."""
