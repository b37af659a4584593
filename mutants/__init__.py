"""The mutation run: the suite is run against every fault the lab knows, and each has to be noticed and named.

expected    what each fault has to lead to
bench       a provisioned lab, broken and mended
code        the version of the project that a result is of
suite       one run of the suite, and what came of it
verdict     what came of it, held against what was expected
blind       nothing is green that cannot be seen
blinding    hides a federation from the suite
run         all faults, several labs side by side
table       the kill table
"""
