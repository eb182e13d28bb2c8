"""The official predictor's rules: which mask, which memories, what is remembered. Knows no engine."""
