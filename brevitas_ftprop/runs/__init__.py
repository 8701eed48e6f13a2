"""Runs of the trainer, and what they and commands name: models, own modules, weights, images.

``run_folder`` says what a run leaves behind, and makes the trained network of it.
"""
