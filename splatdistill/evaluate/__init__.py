"""Quality of results: recognition by a CLIP, likeness to the toybox's truth, fronts, and the acceptance table."""
