"""Measurements, one question per file: tensors and token ids in, numbers out."""
