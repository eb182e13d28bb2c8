"""Changes of pictures and masks: shapes, colours, sizes, layers."""
