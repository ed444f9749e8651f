"""What a laboratory runs: a design is learned, and what came of it is written down."""
