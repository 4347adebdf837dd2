"""CLARA inside other projects' frameworks. Each module needs its own extra."""
