"""The tests of other projects, on the objects that the harness makes."""
