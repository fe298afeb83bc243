"""Whole-slide images: crops cut from them, and verdicts brought back to them."""
