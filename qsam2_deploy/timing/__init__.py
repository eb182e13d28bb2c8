"""How long a tracked frame takes, by component and by engine; imports engines and tracking."""
