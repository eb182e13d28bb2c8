"""Whether this project computes the same on other people's processors, emulated by QEMU."""
