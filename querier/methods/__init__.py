"""Methods: choices on the axes prompt × conditioner × decoder."""
