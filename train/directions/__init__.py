"""Making directions: from labels (simple), by what they do to pictures (refine), and how they compare (evaluator, compare)."""
