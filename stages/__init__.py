"""The programs of the pipeline and the parts that they share. Numbers are rounded in the same way everywhere from here on."""

from stages.base import arithmetic as arithmetic
