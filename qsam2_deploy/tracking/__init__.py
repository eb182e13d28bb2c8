"""The official rules: which mask wins, which memories count; imports the engines' protocol."""
