"""One file per command: it parses the arguments and makes one library call; imports any room."""
