"""Amortised training: one network for a whole corpus of prompts, distilled by any guidance."""
