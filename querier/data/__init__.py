"""Data: records, readers, splits, histories, and how they become batches."""
