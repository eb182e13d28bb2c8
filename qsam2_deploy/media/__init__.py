"""Reading and writing videos, images, masks and prompts; imports the results of tracking."""
