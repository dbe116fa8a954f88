"""Figures in words, tables, pictures and one page."""
