"""OpenVINO on a CPU. Imports the room above it."""
