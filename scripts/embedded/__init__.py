"""Packing, training and measuring of the embedded models; the scripts train_tiny.py, train_geometry.py, train_models.py, pack_world.py, world_export.py and evaluate_tiny.py are its commands."""
