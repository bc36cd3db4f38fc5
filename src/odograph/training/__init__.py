"""Trajectories -> what trainers and other tools load."""
