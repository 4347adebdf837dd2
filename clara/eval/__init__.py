"""Evaluation: recipes in, figures with their provenance out."""
