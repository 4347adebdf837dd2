"""Results shown: lines, tables, drawings, comparisons, pages and cards. Nothing is measured here."""
