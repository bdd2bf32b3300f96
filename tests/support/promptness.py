"""How long an end may take where other tests have the machine too.

That five seconds are enough is seen by tests that are marked punctual.
"""

CROWDED_END_S = 20.0
"""Far less than any hanging request, pause or lock of these tests would last."""
