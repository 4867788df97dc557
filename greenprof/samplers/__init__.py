"""Who looks at the program, and when."""
