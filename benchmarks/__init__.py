"""midasdl side by side with what people would use instead.

``make bench`` runs everything and writes ``docs/benchmarks.md``; ``python -m benchmarks --help`` runs parts of it.

A **workload** is a module in `benchmarks.workloads` with two names::

    TITLE = "20,000 files of about 12 KB"

    def measure(bench: Bench) -> Result: ...

It is registered by its name in `benchmarks.workloads.NAMES`. `Bench` gives it folders, settings and rounds; what it
gives back is a `Result`: `Series` (a contender's figure in each round), `Target` (what was to be reached and what
was), and notes. Results are kept in ``benchmarks/results/NAME.json``, so that the page can be written again from
them, whoever measured them. Nothing here is a test: no time is asserted anywhere.

Contenders run in alternation within one process, round after round, so that whatever else the machine does meets all
of them alike. Figures are medians; ratios are medians of the ratios within each round.
"""
