"""Corpora as manifests, shards and batches."""
