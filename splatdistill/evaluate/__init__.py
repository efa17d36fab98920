"""How good is it? Recognition by a CLIP, likeness to the toybox's truth, fronts, and the acceptance table."""
