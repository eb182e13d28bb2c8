"""The official rules: which mask wins, which memories count, what is remembered. No engine here."""
