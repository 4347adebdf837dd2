"""CLARA: CLIP-style audio–text dual encoders with a multilingual text tower."""
